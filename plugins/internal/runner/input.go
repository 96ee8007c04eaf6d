package runner

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"
)

// input is the standard input of a command. A piece has been written when the
// command took it over, so that the SDK never acknowledges more.
type input struct {
	p *Command

	// pieces and sent are of the one writer that there is.
	pieces int
	sent   int64

	mu sync.Mutex
	// taken is how much the command took over; unread says that it reads no more.
	taken   int64
	unread  bool
	changed chan struct{}
}

// took notes what the runner said, and reports whether it is news.
func (in *input) took(offset int64, unread bool) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if offset <= in.taken && unread == in.unread {
		return false
	}
	in.taken, in.unread = max(in.taken, offset), in.unread || unread
	close(in.changed)
	in.changed = make(chan struct{})
	return true
}

// Write implements io.Writer.
func (in *input) Write(b []byte) (int, error) {
	if err := in.send(append([]byte(strconv.Itoa(len(b))+"\n"), b...)); err != nil {
		return 0, err
	}
	before := in.sent
	in.sent += int64(len(b))
	for {
		in.mu.Lock()
		taken, unread, changed := in.taken, in.unread, in.changed
		in.mu.Unlock()
		switch {
		case taken >= in.sent:
			return len(b), nil
		case unread:
			return int(max(0, taken-before)), io.ErrClosedPipe
		}
		select {
		case <-changed:
		case <-in.p.over:
			return int(max(0, taken-before)), io.ErrClosedPipe
		case <-in.p.life.Done():
			return int(max(0, taken-before)), io.ErrClosedPipe
		}
	}
}

// Close implements io.Closer: the half-close.
func (in *input) Close() error {
	if err := in.send([]byte("close\n")); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	return nil
}

// send writes the next piece where the runner looks for it. It does so again until
// the vendor has taken it, or the command has ended: a piece that is there twice is
// the same one.
func (in *input) send(content []byte) error {
	name := inputFile(in.p.order.ExecID, in.pieces)
	for wait := firstBackoff; ; wait = min(2*wait, sideCall) {
		if in.p.ended() || in.p.life.Err() != nil {
			return io.ErrClosedPipe
		}
		ctx, cancel := context.WithTimeout(in.p.life, sideCall)
		err := in.p.order.Host.WriteFile(ctx, name, content)
		cancel()
		if err == nil {
			in.pieces++
			return nil
		}
		in.p.pool.log.Debug("a piece of standard input did not reach a runner", "exec_id", in.p.order.ExecID, "error", err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-in.p.over:
		case <-in.p.life.Done():
		}
		timer.Stop()
	}
}
