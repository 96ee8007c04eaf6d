package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// attach runs one attachment. It returns nil after Done.
func (a *Attachment) attach(ctx context.Context, dial Dial) (opened bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t, err := dial(ctx)
	if errors.Is(err, io.EOF) {
		return false, errLost() // it ended before it began, and nobody said why
	}
	if err != nil {
		return false, err
	}
	a.mu.Lock()
	open := a.ledger.Open()
	a.mu.Unlock()
	if err := t.Send(open); err != nil && !errors.Is(err, io.EOF) { // after io.EOF, Recv tells why
		return false, err
	}
	var sender sync.WaitGroup
	sender.Go(func() { a.send(ctx, t) })
	err = a.receive(t, &opened)
	cancel()
	sender.Wait()
	return opened, err
}

// receive takes frames until Done or an error.
func (a *Attachment) receive(t Transport, opened *bool) error {
	for {
		frame, err := t.Recv()
		if errors.Is(err, io.EOF) {
			return errLost()
		}
		if err != nil {
			return err
		}
		done, err := a.accept(frame)
		*opened = *opened || frame.GetOpened() != nil
		if done || err != nil {
			return err
		}
		a.poke()
	}
}

// accept takes one frame and delivers what is in it.
func (a *Attachment) accept(frame *providerv1.ExecOutput) (done bool, err error) {
	a.mu.Lock()
	before := a.ledger.missing()
	chunk, err := a.ledger.Accept(frame)
	after := a.ledger.missing()
	done = a.ledger.Done()
	a.room.Broadcast()
	a.mu.Unlock()
	for i := range after {
		if lost := after[i] - before[i]; lost > 0 && a.opts.Lost != nil {
			a.opts.Lost(providerv1.ExecStream(i+1), lost)
		}
	}
	if err != nil || chunk == nil {
		return done, err
	}
	return done, a.deliver(chunk)
}

func (a *Attachment) deliver(c *Chunk) error {
	to := a.opts.Stdout
	if c.Stream == providerv1.ExecStream_EXEC_STREAM_STDERR {
		to = a.opts.Stderr
	}
	if _, err := to.Write(c.Data); err != nil {
		return writeError{fmt.Errorf("write %s: %w", streamNames[int(c.Stream)-1], err)}
	}
	a.mu.Lock()
	a.ledger.Delivered(c)
	a.mu.Unlock()
	return nil
}

// send sends whatever the ledger has until the attachment is over. What fails to
// be sent is not reported: receiving fails as well, and says why.
func (a *Attachment) send(ctx context.Context, t Transport) {
	delay := time.NewTimer(ackDelay)
	defer delay.Stop()
	flush := false
	for {
		a.mu.Lock()
		frame := a.ledger.Next(flush)
		waiting := a.ledger.unacked() > 0
		a.mu.Unlock()
		if frame != nil {
			if t.Send(frame) != nil {
				return
			}
			continue
		}
		flush = false
		var due <-chan time.Time
		if waiting {
			delay.Reset(ackDelay)
			due = delay.C
		}
		select {
		case <-a.work:
		case <-due:
			flush = true
		case <-ctx.Done():
			return
		}
	}
}
