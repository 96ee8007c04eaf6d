package exec

import (
	"strconv"

	"github.com/sandbar-dev/sandbar/proto/fault"
)

// inputQueue is the bookkeeping of stdin: which bytes were accepted from
// clients, which the command took over, and where input ends. It is pure and not
// safe for concurrent use.
type inputQueue struct {
	// accepted is the offset of the next byte wanted from a client.
	accepted int64
	// written is how far the command took stdin over.
	written int64
	// pending holds the bytes between the two, in order.
	pending [][]byte
	// end is where input ends; -1 while nobody said so.
	end int64
	// gone says that the command closed its stdin or ended: accepted bytes are
	// thrown away.
	gone bool
}

// size returns the bytes accepted and not yet taken over.
func (q *inputQueue) size() int64 { return q.accepted - q.written }

// accept takes over the new part of data, which starts at offset. It keeps a
// reference to data.
func (q *inputQueue) accept(offset int64, data []byte) error {
	end := offset + int64(len(data))
	switch {
	case offset < 0:
		return fault.Field("input.stdin.offset", strconv.FormatInt(offset, 10), "want an offset of 0 or more")
	case offset > q.accepted:
		return q.gap("input.stdin.offset", offset)
	case end <= q.accepted:
		return nil
	case q.end >= 0:
		return fault.Field("input.stdin.offset", strconv.FormatInt(offset, 10),
			"stdin was closed at offset "+strconv.FormatInt(q.end, 10)+"; want no input behind it")
	}
	fresh := data[q.accepted-offset:]
	q.accepted = end
	if q.gone {
		q.written = end
		return nil
	}
	q.pending = append(q.pending, fresh)
	return nil
}

// close marks the end of input at offset. Repeating it is harmless.
func (q *inputQueue) close(offset int64) error {
	switch {
	case offset == q.end:
		return nil
	case offset > q.accepted:
		return q.gap("input.stdin_close.offset", offset)
	case offset < q.accepted || q.end >= 0:
		return fault.Field("input.stdin_close.offset", strconv.FormatInt(offset, 10),
			"want the end of the input sent so far, "+strconv.FormatInt(q.accepted, 10))
	}
	q.end = offset
	return nil
}

func (q *inputQueue) gap(field string, offset int64) error {
	return fault.Field(field, strconv.FormatInt(offset, 10),
		"bytes before it are missing; want offset "+strconv.FormatInt(q.accepted, 10)+" next").
		With("stdin_next", strconv.FormatInt(q.accepted, 10))
}

// next returns bytes for the command, and whether stdin is to be closed because
// all input was written and its end is known.
func (q *inputQueue) next() (data []byte, done bool) {
	if len(q.pending) > 0 {
		return q.pending[0], false
	}
	return nil, q.end >= 0 && q.written == q.end
}

// wrote records that the command took the first n bytes of what next returned.
func (q *inputQueue) wrote(n int) {
	if n == 0 || len(q.pending) == 0 {
		return
	}
	q.written += int64(n)
	q.pending[0] = q.pending[0][n:]
	if len(q.pending[0]) == 0 {
		q.pending[0] = nil
		q.pending = q.pending[1:]
	}
}

// discard records that nobody reads stdin any more.
func (q *inputQueue) discard() {
	q.gone, q.pending, q.written = true, nil, q.accepted
}
