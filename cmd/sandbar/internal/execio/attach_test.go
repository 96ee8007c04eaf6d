package execio_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/broker/session"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/execio"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is a command that has written its output already and echoes nothing. It
// ends each attachment after a number of frames drawn by cut.
type peer struct {
	stdout, stderr []byte
	frame          int
	cut            func() int // frames until the cut; negative: none
	exit           *providerv1.ExitStatus
	wantStdin      bool // Done only when stdin was closed

	mu       sync.Mutex
	stdin    []byte
	closed   bool
	attached int
	changed  chan struct{}
}

func (p *peer) open(ctx context.Context) (session.Transport, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attached++
	if p.changed == nil {
		p.changed = make(chan struct{}, 1)
	}
	return &attachment{ctx: ctx, peer: p, left: p.cut(), opened: make(chan *providerv1.ExecOpen, 1)}, nil
}

type attachment struct {
	ctx    context.Context
	peer   *peer
	left   int
	opened chan *providerv1.ExecOpen
	at     [2]int64
	began  bool
}

func (a *attachment) Send(in *providerv1.ExecInput) error {
	if a.ctx.Err() != nil {
		return io.EOF
	}
	p := a.peer
	p.mu.Lock()
	defer p.mu.Unlock()
	switch f := in.GetFrame().(type) {
	case *providerv1.ExecInput_Open:
		a.opened <- f.Open
	case *providerv1.ExecInput_Stdin:
		have := int64(len(p.stdin))
		if f.Stdin.GetOffset() > have {
			panic("a gap in stdin")
		}
		if end := f.Stdin.GetOffset() + int64(len(f.Stdin.GetData())); end > have {
			p.stdin = append(p.stdin, f.Stdin.GetData()[have-f.Stdin.GetOffset():]...)
		}
	case *providerv1.ExecInput_StdinClose:
		p.closed = f.StdinClose.GetOffset() == int64(len(p.stdin))
	}
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return nil
}

func (a *attachment) Recv() (*providerv1.ExecOutput, error) {
	if a.ctx.Err() != nil {
		return nil, a.ctx.Err()
	}
	if a.left == 0 {
		return nil, io.EOF
	}
	a.left--
	if !a.began {
		a.began = true
		o := <-a.opened
		a.at = [2]int64{o.GetStdoutFrom(), o.GetStderrFrom()}
		a.peer.mu.Lock()
		defer a.peer.mu.Unlock()
		return &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Opened{Opened: &providerv1.ExecOpened{
			StdoutFrom: o.GetStdoutFrom(), StderrFrom: o.GetStderrFrom(), StdinNext: int64(len(a.peer.stdin)),
		}}}, nil
	}
	return a.next()
}

func (a *attachment) next() (*providerv1.ExecOutput, error) {
	p := a.peer
	for i, all := range [][]byte{p.stdout, p.stderr} {
		if at := a.at[i]; at >= 0 && at < int64(len(all)) {
			end := min(at+int64(p.frame), int64(len(all)))
			a.at[i] = end
			return &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Data{Data: &providerv1.ExecData{
				Stream: providerv1.ExecStream(i + 1), Offset: at, Data: all[at:end],
			}}}, nil
		}
	}
	for p.wantStdin {
		p.mu.Lock()
		n, closed := int64(len(p.stdin)), p.closed
		p.mu.Unlock()
		if closed {
			break
		}
		select {
		case <-p.changed:
			return &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_StdinAck{StdinAck: &providerv1.ExecStdinAck{Next: n}}}, nil
		case <-a.ctx.Done():
			return nil, a.ctx.Err()
		}
	}
	return &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Done{Done: &providerv1.ExecDone{
		StdoutTotal: int64(len(p.stdout)), StderrTotal: int64(len(p.stderr)), Exit: p.exit,
	}}}, nil
}

func code(n int32) *providerv1.ExitStatus {
	return &providerv1.ExitStatus{Result: &providerv1.ExitStatus_Code{Code: n}, Cause: providerv1.ExitCause_EXIT_CAUSE_TASK}
}

// TestEveryByteOnce cuts attachments anywhere and expects both streams and
// stdin to arrive whole, in order and once.
func TestEveryByteOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bytesGen := rapid.SliceOfN(rapid.Byte(), 0, 3000)
		in := bytesGen.Draw(rt, "stdin")
		p := &peer{
			stdout: bytesGen.Draw(rt, "stdout"), stderr: bytesGen.Draw(rt, "stderr"),
			frame: rapid.IntRange(50, 1000).Draw(rt, "frame"), exit: code(3), wantStdin: true,
		}
		cuts := rapid.SliceOfN(rapid.IntRange(0, 8), 0, 6).Draw(rt, "cuts")
		p.cut = func() int {
			if p.attached > len(cuts) {
				return -1
			}
			return cuts[p.attached-1]
		}
		// A bubble of fake time lets the backoff pass at once.
		synctest.Test(t, func(*testing.T) {
			var out, errOut bytes.Buffer
			res, err := execio.Attach(context.Background(), execio.Options{
				Sandbox: "s", ExecID: "e", Open: p.open, Stdout: &out, Stderr: &errOut, Stdin: bytes.NewReader(in),
			})
			if err != nil {
				rt.Fatalf("Attach: %v", err)
			}
			if !bytes.Equal(out.Bytes(), p.stdout) || !bytes.Equal(errOut.Bytes(), p.stderr) || !bytes.Equal(p.stdin, in) {
				rt.Fatalf("got %d/%d bytes out and %d in, want %d/%d and %d", out.Len(), errOut.Len(), len(p.stdin), len(p.stdout), len(p.stderr), len(in))
			}
			if res.Exit.GetCode() != 3 {
				rt.Fatalf("exit %v, want code 3", res.Exit)
			}
		})
	})
}

func TestLostForEverIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{stdout: []byte("partial"), frame: 100, exit: code(0), cut: func() int { return 0 }}
		var losses int
		res, err := execio.Attach(t.Context(), execio.Options{
			Sandbox: "s", ExecID: "e", Open: p.open, Stdout: io.Discard, GiveUp: 5 * time.Second, OnLost: func(error) { losses++ },
		})
		if err == nil || res.Exit != nil || res.Shown.Stdout != 0 || !strings.Contains(err.Error(), "ended before") {
			t.Errorf("Attach = %v, %v; want an error that says so", res, err)
		}
		if losses < 3 {
			t.Errorf("%d attempts in 5 s", losses)
		}
	})
}

func TestPermanentErrorIsNotTriedAgain(t *testing.T) {
	want := fault.New(providerv1.ErrorReason_ERROR_REASON_EXEC_NOT_FOUND, "gone")
	calls := 0
	_, err := execio.Attach(t.Context(), execio.Options{
		Sandbox: "s", ExecID: "e", Stdout: io.Discard,
		Open: func(context.Context) (session.Transport, error) { calls++; return nil, want },
	})
	if !errors.Is(err, want) || calls != 1 {
		t.Errorf("err %v after %d calls, want %v after 1", err, calls, want)
	}
}

// TestDoneThatLies: totals that were never sent are bytes that are missing.
func TestDoneThatLies(t *testing.T) {
	open := func(context.Context) (session.Transport, error) {
		return &script{frames: []*providerv1.ExecOutput{
			{Frame: &providerv1.ExecOutput_Opened{Opened: &providerv1.ExecOpened{}}},
			{Frame: &providerv1.ExecOutput_Done{Done: &providerv1.ExecDone{StdoutTotal: 10, Exit: code(0)}}},
		}}, nil
	}
	res, err := execio.Attach(t.Context(), execio.Options{Sandbox: "s", ExecID: "e", Stdout: io.Discard, Open: open})
	if err == nil && res.Missing.Stdout != 10 {
		t.Errorf("Attach = %+v, want an error or 10 bytes missing", res)
	}
}

func TestNoExitIsUnknown(t *testing.T) {
	open := func(context.Context) (session.Transport, error) {
		return &script{frames: []*providerv1.ExecOutput{
			{Frame: &providerv1.ExecOutput_Opened{Opened: &providerv1.ExecOpened{}}},
			{Frame: &providerv1.ExecOutput_Done{Done: &providerv1.ExecDone{}}},
		}}, nil
	}
	res, err := execio.Attach(t.Context(), execio.Options{Sandbox: "s", ExecID: "e", Stdout: io.Discard, Open: open})
	if err != nil || res.Exit.GetCause() != providerv1.ExitCause_EXIT_CAUSE_UNKNOWN {
		t.Errorf("Attach = %v, %v; want cause UNKNOWN", res, err)
	}
}

func TestEvictedOutputIsCounted(t *testing.T) {
	open := func(context.Context) (session.Transport, error) {
		return &script{frames: []*providerv1.ExecOutput{
			{Frame: &providerv1.ExecOutput_Opened{Opened: &providerv1.ExecOpened{StdoutFrom: 100}}},
			{Frame: &providerv1.ExecOutput_Data{Data: &providerv1.ExecData{Stream: providerv1.ExecStream_EXEC_STREAM_STDOUT, Offset: 100, Data: []byte("tail")}}},
			{Frame: &providerv1.ExecOutput_Done{Done: &providerv1.ExecDone{StdoutTotal: 104, StdoutMissing: 100, Exit: code(0)}}},
		}}, nil
	}
	var out bytes.Buffer
	res, err := execio.Attach(t.Context(), execio.Options{Sandbox: "s", ExecID: "e", Stdout: &out, Open: open, FromOldest: true})
	if err != nil || out.String() != "tail" || res.Missing.Stdout != 100 {
		t.Errorf("Attach = %+v, %v, output %q; want 100 missing and tail", res, err, out.String())
	}
}

func TestCancelDetaches(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	p := &peer{frame: 10, exit: code(0), wantStdin: true, cut: func() int { return -1 }}
	r, w := io.Pipe()
	open := func(ctx context.Context) (session.Transport, error) {
		context.AfterFunc(ctx, func() { _ = w.Close() })
		cancel(why)
		return p.open(ctx)
	}
	_, err := execio.Attach(ctx, execio.Options{
		Sandbox: "s", ExecID: "e", Stdout: io.Discard, Stdin: r, CloseStdin: func() { _ = r.Close() }, Open: open,
	})
	if !errors.Is(err, why) {
		t.Errorf("err = %v, want %v", err, why)
	}
}

// script answers fixed frames.
type script struct{ frames []*providerv1.ExecOutput }

func (*script) Send(*providerv1.ExecInput) error { return nil }

func (s *script) Recv() (*providerv1.ExecOutput, error) {
	if len(s.frames) == 0 {
		return nil, io.EOF
	}
	f := s.frames[0]
	s.frames = s.frames[1:]
	return f, nil
}

// TestUntil: a command that goes on is left when what there was has been shown.
func TestUntil(t *testing.T) {
	p := &peer{stdout: []byte("hello"), stderr: []byte("oops"), frame: 2, wantStdin: true, exit: code(0), cut: func() int { return -1 }}
	var out, errOut bytes.Buffer
	res, err := execio.Attach(t.Context(), execio.Options{
		Sandbox: "s", ExecID: "e", Open: p.open, Stdout: &out, Stderr: &errOut, Until: &execio.Offsets{Stdout: 5, Stderr: 4},
	})
	if err != nil || res.Exit != nil || out.String() != "hello" || errOut.String() != "oops" {
		t.Errorf("Attach = %+v, %v with %q and %q", res, err, out.String(), errOut.String())
	}
}
