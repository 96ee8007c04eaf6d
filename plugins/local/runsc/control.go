package runsc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// ErrEnded is returned by operations on a sandbox that is no longer running.
var ErrEnded = errors.New("sandbox has ended")

// GuestError is a failure that the guest's own kernel reported. errors.Is works with the errno and with fs.ErrNotExist and kin.
type GuestError struct {
	Errno   syscall.Errno
	Message string
	// Part is what of a Command was refused; empty for anything else.
	Part Part
}

// Part names a part of a Command.
type Part string

// The parts that the guest can refuse: nothing was started then.
const (
	PartUser    Part = wire.PartUser
	PartDir     Part = wire.PartDir
	PartProgram Part = wire.PartProgram
)

func (e *GuestError) Error() string { return e.Message }

// Unwrap returns the errno, or nil if the guest gave none.
func (e *GuestError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

func guestError(e *wire.Error) error {
	if e == nil {
		return nil
	}
	return &GuestError{Errno: syscall.Errno(e.Errno), Message: e.Message, Part: Part(e.Part)}
}

// control talks to the guest's agent. What comes from there is untrusted: unknown ids are dropped and sizes are bounded.
type control struct {
	// quiesce is held shared from a request to its answer, and exclusively by a checkpoint, which thereby sees no request
	// half-way. Lock order: quiesce, then sendMu, then mu.
	quiesce sync.RWMutex
	sendMu  sync.Mutex
	out     *os.File

	mu      sync.Mutex
	nextID  uint64
	answers map[uint64]chan wire.Event
	streams map[uint64]chan error
	// forgotten are ended execs of which the agent still keeps the results; the next request tells it.
	forgotten []string

	onExit func(wire.ExecStatus)
	ended  chan struct{} // closed when the event pipe has ended; err is set before
	err    error
}

func newControl(out *os.File, onExit func(wire.ExecStatus)) *control {
	return &control{
		out: out, onExit: onExit, ended: make(chan struct{}),
		answers: map[uint64]chan wire.Event{}, streams: map[uint64]chan error{},
	}
}

// readEvents returns when the guest's end of in is closed, which is when the guest is gone.
func (c *control) readEvents(in *os.File) {
	s := bufio.NewScanner(in)
	s.Buffer(make([]byte, 0, 2*wire.MaxEvent), 2*wire.MaxEvent)
	for s.Scan() {
		var ev wire.Event
		if err := json.Unmarshal(s.Bytes(), &ev); err != nil {
			c.err = fmt.Errorf("decode event: %w", err)
			break
		}
		if ev.Fatal != "" {
			c.err = fmt.Errorf("guest agent: %s", ev.Fatal)
		}
		c.deliver(ev)
	}
	_ = in.Close()
	close(c.ended)
}

func (c *control) deliver(ev wire.Event) {
	switch {
	case ev.Exit != nil:
		c.onExit(*ev.Exit)
	case ev.Status != nil:
		c.onExit(*ev.Status)
	case ev.Done != 0:
		c.mu.Lock()
		ch := c.streams[ev.Done]
		delete(c.streams, ev.Done)
		c.mu.Unlock()
		if ch != nil {
			ch <- guestError(ev.Error)
		}
	case ev.ID != 0:
		c.mu.Lock()
		ch := c.answers[ev.ID]
		delete(c.answers, ev.ID)
		c.mu.Unlock()
		if ch != nil {
			ch <- ev
		}
	}
}

// call sends a request and waits for its answer. If stream is not nil it receives the outcome of the request's streamed part.
func (c *control) call(ctx context.Context, req *wire.Request, stream chan error) (wire.Event, error) {
	c.quiesce.RLock()
	defer c.quiesce.RUnlock()
	return c.callLocked(ctx, req, stream)
}

// callLocked is call for a caller that holds quiesce.
func (c *control) callLocked(ctx context.Context, req *wire.Request, stream chan error) (wire.Event, error) {
	answer := make(chan wire.Event, 1)
	c.mu.Lock()
	c.nextID++
	req.ID = c.nextID
	c.answers[req.ID] = answer
	if stream != nil {
		c.streams[req.ID] = stream
	}
	c.mu.Unlock()
	err := c.send(ctx, req)
	var ev wire.Event
	if err == nil {
		select {
		case ev = <-answer:
			err = guestError(ev.Error)
		case <-ctx.Done():
			err = ctx.Err()
		case <-c.ended:
			err = c.endedError()
		}
	}
	if err != nil {
		c.mu.Lock()
		delete(c.answers, req.ID)
		delete(c.streams, req.ID)
		c.mu.Unlock()
	}
	return ev, err
}

func (c *control) endedError() error {
	if c.err != nil {
		return fmt.Errorf("%w: %w", ErrEnded, c.err)
	}
	return ErrEnded
}

// forget lets the agent drop the result of an ended exec, with the next request. That is soon: only new execs make old ones many.
func (c *control) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgotten = append(c.forgotten, id)
}

func (c *control) send(ctx context.Context, req *wire.Request) error {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	// Taken in the order of sending, so that an id is free before it is used again.
	c.mu.Lock()
	req.Forget, c.forgotten = c.forgotten, nil
	c.mu.Unlock()
	b, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	if len(b) >= wire.MaxRequest {
		return fmt.Errorf("send request of %d bytes: %w", len(b), syscall.E2BIG)
	}
	// Only a guest that stopped reading makes this wait. A request cut by the deadline leaves the pipe unusable, as would
	// waiting for ever.
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Time{}
	}
	_ = c.out.SetWriteDeadline(deadline)
	if _, err := c.out.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("send request: %w", err)
	}
	return nil
}
