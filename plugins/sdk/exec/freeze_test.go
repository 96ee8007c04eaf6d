package exec

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// pausedPipe is a stream of a paused process: what is left in it, and then
// nothing until the deadline.
type pausedPipe struct {
	left     chan []byte
	deadline chan time.Time
	until    time.Time
	close    func()
	closed   chan struct{}
}

func newPausedPipe(left string) *pausedPipe {
	p := &pausedPipe{left: make(chan []byte, 1), deadline: make(chan time.Time, 1), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	if left != "" {
		p.left <- []byte(left)
	}
	return p
}

func (p *pausedPipe) SetReadDeadline(t time.Time) error {
	p.deadline <- t
	return nil
}

func (p *pausedPipe) Read(b []byte) (int, error) {
	for {
		var passed <-chan time.Time
		if !p.until.IsZero() {
			timer := time.NewTimer(time.Until(p.until))
			defer timer.Stop()
			passed = timer.C
		}
		select {
		case p.until = <-p.deadline:
			continue
		default:
		}
		select {
		case left := <-p.left:
			return copy(b, left), nil
		case p.until = <-p.deadline:
		case <-passed:
			return 0, os.ErrDeadlineExceeded
		case <-p.closed:
			return 0, os.ErrClosed
		}
	}
}

// Close ends a Read.
func (p *pausedPipe) Close() error {
	p.close()
	return nil
}

// telling is one that can say that it is empty.
type telling struct{ *pausedPipe }

func (p telling) Empty() bool { return len(p.left) == 0 }

// pausedProcess is one whose only stream is out.
type pausedProcess struct {
	out   io.ReadCloser
	ended chan struct{}
}

func (p *pausedProcess) Stdin() io.WriteCloser { return nil }
func (p *pausedProcess) Stdout() io.Reader     { return p.out }
func (p *pausedProcess) Stderr() io.Reader     { return nil }

func (p *pausedProcess) Wait(ctx context.Context) (*providerv1.ExitStatus, error) {
	select {
	case <-p.ended:
		return nil, errors.New("nobody knows how")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pausedProcess) Signal(context.Context, providerv1.ExecSignal) error { return nil }

func (p *pausedProcess) Resize(context.Context, *providerv1.Terminal) error { return nil }

func (p *pausedProcess) Close() error { return p.out.Close() }

// TestFreezeTakesNoTimeForEmptyStreams, and loses nothing of others.
func TestFreezeTakesNoTimeForEmptyStreams(t *testing.T) {
	for _, c := range []struct {
		name   string
		stream func() io.ReadCloser
		takes  time.Duration
	}{
		{"empty and says so", func() io.ReadCloser { return telling{newPausedPipe("")} }, 0},
		{"empty", func() io.ReadCloser { return newPausedPipe("") }, freezeDrain},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := NewTable(Options{})
				p := &pausedProcess{out: c.stream(), ended: make(chan struct{})}
				_, err := table.Start(t.Context(), Key{"sbx", "exe"}, nil,
					&providerv1.ExecSpec{Argv: []string{"x"}, Terminal: &providerv1.Terminal{}},
					func(context.Context) (Process, error) { return p, nil })
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				began := time.Now()
				if err := table.Freeze(t.Context()); err != nil {
					t.Fatal(err)
				}
				if d := time.Since(began); d != c.takes {
					t.Errorf("the freeze took %v: want %v", d, c.takes)
				}
				table.Thaw()
				close(p.ended)
				table.Close()
			})
		})
	}
}

func TestDrainUntil(t *testing.T) {
	if d := drainUntil(telling{newPausedPipe("rest")}); !d.After(time.Now()) {
		t.Error("what is left in a pipe is not waited for")
	}
	if d := drainUntil(telling{newPausedPipe("")}); d.After(time.Now()) {
		t.Error("an empty pipe is waited for")
	}
}
