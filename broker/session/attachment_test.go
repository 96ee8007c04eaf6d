package session_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandbar-dev/sandbar/broker/session"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// wire is a transport to a peer that breaks after a number of frames.
type wire struct {
	ctx    context.Context
	toPeer chan *providerv1.ExecInput
	toUs   chan *providerv1.ExecOutput
	broken chan struct{}
	err    error
}

func (w *wire) Send(in *providerv1.ExecInput) error {
	select {
	case w.toPeer <- in:
		return nil
	case <-w.broken:
		return io.EOF
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

func (w *wire) Recv() (*providerv1.ExecOutput, error) {
	select {
	case out := <-w.toUs:
		return out, nil
	case <-w.broken:
		return nil, w.err
	case <-w.ctx.Done():
		return nil, w.ctx.Err()
	}
}

// server serves a peer over wires, one at a time.
type server struct {
	t    *testing.T
	peer *peer
	// life returns after how many frames attachment n breaks, and how; -1: never.
	life  func(n int) (frames int, err error)
	dials int
	wg    sync.WaitGroup
}

func (s *server) dial(ctx context.Context) (session.Transport, error) {
	s.wg.Wait() // the peer serves one at a time
	s.dials++
	frames, err := s.life(s.dials)
	if frames == 0 {
		return nil, err
	}
	w := &wire{ctx: ctx, toPeer: make(chan *providerv1.ExecInput), toUs: make(chan *providerv1.ExecOutput), broken: make(chan struct{}), err: err}
	s.wg.Go(func() { s.serve(w, frames) })
	return w, nil
}

func (s *server) serve(w *wire, frames int) {
	select {
	case in := <-w.toPeer:
		s.peer.attach(in, func(n int) int { return min(n, 1+rand.N(1<<10)) })
	case <-w.ctx.Done():
		return
	}
	doneSent := false
	for ; frames != 0; frames-- {
		if len(s.peer.queue) == 0 && s.peer.ended && !doneSent {
			s.peer.queue = append(s.peer.queue, done(s.peer))
			doneSent = true
		}
		var out chan *providerv1.ExecOutput
		var next *providerv1.ExecOutput
		if len(s.peer.queue) > 0 {
			out, next = w.toUs, s.peer.queue[0]
		}
		select {
		case out <- next:
			s.peer.queue = s.peer.queue[1:]
		case in := <-w.toPeer:
			s.peer.take(in)
			if n := len(s.peer.stdin) - int(s.peer.read); n > 0 {
				s.peer.reads(n)
			}
			s.peer.ended = s.peer.ended || s.peer.closed >= 0
		case <-w.ctx.Done():
			return
		}
	}
	close(w.broken)
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func lost() error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_CRASHED, "the plugin crashed")
}

func TestRunSurvivesLostAttachments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t.Errorf)
		p.out = [2][]byte{random(200 << 10), random(50 << 10)}
		input := random(3 << 20) // more than the window
		endings := []error{io.EOF, lost(), fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_RESTARTING, "not yet").WithRetryAfter(time.Second)}
		s := &server{t: t, peer: p, life: func(n int) (int, error) {
			if n > 20 {
				return -1, nil
			}
			return rand.N(60), endings[n%len(endings)]
		}}
		var out, errs bytes.Buffer
		a := session.New(&providerv1.ExecOpen{Stdin: true}, session.Options{Stdout: &out, Stderr: &errs})
		var writer sync.WaitGroup
		writer.Go(func() {
			if _, err := a.Write(input); err != nil {
				t.Errorf("write: %v", err)
			}
			_ = a.Close()
		})
		r, err := a.Run(t.Context(), s.dial)
		writer.Wait()
		s.wg.Wait()
		if err != nil || r.Exit.GetCode() != 7 || r.Attachments < 2 {
			t.Errorf("result %+v, error %v", r, err)
		}
		if !bytes.Equal(out.Bytes(), p.out[0]) || !bytes.Equal(errs.Bytes(), p.out[1]) || !bytes.Equal(p.stdin, input) {
			t.Errorf("bytes differ: stdout %d of %d, stderr %d of %d, stdin %d of %d",
				out.Len(), len(p.out[0]), errs.Len(), len(p.out[1]), len(p.stdin), len(input))
		}
		if _, err := a.Write([]byte("x")); !errors.Is(err, session.ErrInputEnded) {
			t.Errorf("write after the end: %v", err)
		}
	})
}

func TestRunGivesUp(t *testing.T) {
	failing := errors.New("disk full")
	for _, tc := range []struct {
		name  string
		life  func(int) (int, error)
		out   io.Writer
		want  string
		took  time.Duration // at most
		tries int           // at most
	}{
		{"refused", func(int) (int, error) {
			return 0, fault.New(providerv1.ErrorReason_ERROR_REASON_EXEC_NOT_FOUND, "exec is not known")
		}, nil, "exec is not known", 0, 1},
		{"never comes back", func(int) (int, error) { return 0, lost() }, nil, "crashed", 30 * time.Second, 1000},
		{"a bug each time", func(int) (int, error) {
			return 0, fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG, "panicked")
		}, nil, "panicked", time.Second, 3},
		{"writer fails", func(int) (int, error) { return -1, nil }, writerFunc(func([]byte) (int, error) { return 0, failing }), "write stdout: disk full", 0, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPeer(t.Errorf)
				p.out[0], p.ended = []byte("x"), true
				s := &server{t: t, peer: p, life: tc.life}
				began := time.Now()
				r, err := session.New(&providerv1.ExecOpen{}, session.Options{Stdout: tc.out}).Run(t.Context(), s.dial)
				s.wg.Wait()
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error %v, want one with %q", err, tc.want)
				}
				if r.Exit != nil {
					t.Errorf("an exit was made up: %v", r.Exit)
				}
				if took := time.Since(began); took > tc.took || s.dials > tc.tries {
					t.Errorf("took %s and %d attempts, want at most %s and %d", took, s.dials, tc.took, tc.tries)
				}
			})
		})
	}
}

// TestQuietCommandKeepsItsPatience: a long silence before a loss is not a failure.
func TestQuietCommandKeepsItsPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t.Errorf)
		s := &server{t: t, peer: p, life: func(int) (int, error) { return -1, nil }}
		quiet := func(ctx context.Context) (session.Transport, error) {
			inner, err := s.dial(ctx)
			if s.dials == 1 {
				return afterHours{inner}, err
			}
			p.ended = true
			return inner, err
		}
		r, err := session.New(&providerv1.ExecOpen{}, session.Options{}).Run(t.Context(), quiet)
		s.wg.Wait()
		if err != nil || r.Exit.GetCode() != 7 {
			t.Errorf("result %+v, error %v", r, err)
		}
	})
}

// afterHours delivers Opened and the empty streams, and breaks hours later.
type afterHours struct{ session.Transport }

func (a afterHours) Recv() (*providerv1.ExecOutput, error) {
	w, ok := a.Transport.(*wire)
	if !ok {
		return nil, errors.New("not a wire")
	}
	select {
	case out := <-w.toUs:
		return out, nil
	case <-time.After(5 * time.Hour):
		return nil, lost()
	}
}

func TestRunEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t.Errorf)
		s := &server{t: t, peer: p, life: func(int) (int, error) { return -1, nil }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		a := session.New(&providerv1.ExecOpen{Stdin: true}, session.Options{})
		_, err := a.Run(ctx, s.dial)
		s.wg.Wait()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
