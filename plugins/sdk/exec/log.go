package exec

// Chunk sizes: a command that prints a line costs 4 KiB, and a busy one gets
// chunks of a frame's size, so that a frame is never split.
const (
	firstChunk = 4 << 10
	fullChunk  = 32 << 10
)

// outputLog holds the last bytes of one output stream by offset. It is pure and
// not safe for concurrent use, with one exception that the pump relies on: bytes
// below total never change, so a slice from view stays valid and unchanging
// without the lock, for ever.
type outputLog struct {
	limit  int64
	chunks []chunk
	oldest int64
	total  int64
	// eof says that total will not grow any more.
	eof bool
	// broken is why the stream ended early; nil after a clean end.
	broken error
}

// chunk holds bytes from start on; len(data) is what is committed.
type chunk struct {
	start int64
	data  []byte
}

func (c chunk) end() int64 { return c.start + int64(len(c.data)) }

// room returns how many bytes may be committed without evicting anything at or
// above keep.
func (l *outputLog) room(keep int64) int64 {
	return l.limit - (l.total - max(l.oldest, min(keep, l.total)))
}

// tail returns space for up to n bytes behind total. What is written there
// counts once commit says so.
func (l *outputLog) tail(n int64) []byte {
	if k := len(l.chunks); k > 0 {
		if d := l.chunks[k-1].data; cap(d) > len(d) {
			return d[len(d):cap(d)][:min(int64(cap(d)-len(d)), n)]
		}
	}
	size := fullChunk
	if len(l.chunks) == 0 && l.total == 0 {
		size = firstChunk
	}
	l.chunks = append(l.chunks, chunk{start: l.total, data: make([]byte, 0, size)})
	return l.tail(n)
}

// commit takes over the first n bytes of the slice that tail returned, and
// evicts what no longer fits and lies below keep.
func (l *outputLog) commit(n int, keep int64) {
	if n == 0 {
		return
	}
	last := &l.chunks[len(l.chunks)-1]
	last.data = last.data[:len(last.data)+n]
	l.total += int64(n)
	l.oldest = max(l.oldest, min(l.total-l.limit, keep))
	drop := 0
	for drop < len(l.chunks)-1 && l.chunks[drop].end() <= l.oldest {
		l.chunks[drop] = chunk{} // the backing array must not keep it alive
		drop++
	}
	l.chunks = l.chunks[drop:]
}

// finish marks the end of the stream and gives back unused space.
func (l *outputLog) finish(broken error) {
	if l.eof {
		return
	}
	l.eof, l.broken = true, broken
	if k := len(l.chunks); k > 0 {
		if d := l.chunks[k-1].data; cap(d)-len(d) > len(d) {
			l.chunks[k-1].data = append(make([]byte, 0, len(d)), d...)
		}
	}
}

// view returns retained bytes from offset from on, at most n and at most to the
// end of a chunk. from must be in [oldest, total]; at total it returns nothing.
func (l *outputLog) view(from int64, n int) []byte {
	lo, hi := 0, len(l.chunks)
	for lo < hi { // first chunk that ends behind from
		mid := (lo + hi) / 2
		if l.chunks[mid].end() <= from {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == len(l.chunks) {
		return nil
	}
	c := l.chunks[lo]
	data := c.data[from-c.start:]
	return data[:min(len(data), n):min(len(data), n)]
}

// retained returns a copy of all bytes from oldest on.
func (l *outputLog) retained() []byte {
	out := make([]byte, 0, l.total-l.oldest)
	for at := l.oldest; at < l.total; {
		part := l.view(at, fullChunk)
		out = append(out, part...)
		at += int64(len(part))
	}
	return out
}
