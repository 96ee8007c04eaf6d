package execio

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/broker/session"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Options describe what to attach to and where its streams go.
type Options struct {
	Sandbox string
	ExecID  string
	// Open starts an attachment. It is called again after each loss.
	Open session.Dial
	// Stdout and Stderr receive the output; nil: that stream is not asked for.
	Stdout, Stderr io.Writer
	// Stdin is sent until it ends; nil: no input is sent.
	Stdin io.Reader
	// CloseStdin makes a Read of Stdin that waits return; may be nil when Stdin
	// never blocks for long.
	CloseStdin func()
	// Resize delivers new sizes of the terminal; nil: it has none.
	Resize <-chan *providerv1.Terminal
	// FromOldest starts with the oldest output still retained instead of the
	// first byte.
	FromOldest bool
	// Until ends Attach without waiting for the command once the output has
	// reached these offsets; nil: wait for the end.
	Until *Offsets
	// OnLost is told of each attachment that broke, OnAttached of each that came
	// about. They may be nil.
	OnLost     func(error)
	OnAttached func()
	// GiveUp bounds how long to go on without any progress; zero: 30 s.
	GiveUp time.Duration
}

// Offsets are positions in the two output streams.
type Offsets struct{ Stdout, Stderr int64 }

// Result is how an attachment ended.
type Result struct {
	// Exit is nil if Options.Until ended the attachment, or an error did.
	Exit *providerv1.ExitStatus
	// Shown is up to where output was written; -1: that stream was not asked for.
	Shown Offsets
	// Missing counts bytes that were produced and are no longer to be had.
	Missing Offsets
}

// errUntil ends an attachment that has shown what was asked for.
var errUntil = errors.New("output up to the asked offset was shown")

// Attach carries the streams until the command has ended and all its output has
// been written, the context ends, or the exec is known to be gone. Cancelling
// detaches and never kills. With an error the result says what was shown.
func Attach(ctx context.Context, o Options) (*Result, error) {
	a := session.New(o.open(), session.Options{Stdout: o.Stdout, Stderr: o.Stderr, Patience: o.GiveUp})
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	if o.Stdin != nil {
		wg.Go(func() {
			// An unreadable input ends like an empty one: the command sees its end.
			_, _ = io.Copy(a, o.Stdin)
			_ = a.Close() // never fails
		})
	}
	if o.Resize != nil {
		wg.Go(func() { o.follow(ctx, a) })
	}
	res, err := a.Run(ctx, func(ctx context.Context) (session.Transport, error) {
		t, err := o.Open(ctx)
		if err != nil {
			o.lost(ctx, err)
			return nil, err
		}
		return &watched{Transport: t, ctx: ctx, options: &o, finish: cancel}, nil
	})
	cancel(nil)
	if o.CloseStdin != nil {
		o.CloseStdin()
	}
	wg.Wait()
	out := &Result{
		Exit: res.Exit, Shown: Offsets{res.StdoutNext, res.StderrNext}, Missing: Offsets{res.StdoutMissing, res.StderrMissing},
	}
	if errors.Is(err, errUntil) {
		err = nil
	}
	return out, err
}

func (o *Options) open() *providerv1.ExecOpen {
	open := &providerv1.ExecOpen{
		Sandbox: &providerv1.SandboxRef{SandboxId: o.Sandbox}, ExecId: o.ExecID, Stdin: o.Stdin != nil, FromOldest: o.FromOldest,
	}
	if o.Stdout == nil {
		open.StdoutFrom = -1
	}
	if o.Stderr == nil {
		open.StderrFrom = -1
	}
	return open
}

func (o *Options) follow(ctx context.Context, a *session.Attachment) {
	for {
		select {
		case <-ctx.Done():
			return
		case size := <-o.Resize:
			a.Resize(size.GetRows(), size.GetCols())
		}
	}
}

func (o *Options) lost(ctx context.Context, err error) {
	if o.OnLost != nil && ctx.Err() == nil {
		o.OnLost(err)
	}
}

// watched is a transport that notices how it goes. It holds the attachment's
// context, whose life it shares.
type watched struct {
	session.Transport
	ctx     context.Context //nolint:containedctx // the life of the attachment
	options *Options
	finish  context.CancelCauseFunc
	reached Offsets
	opened  bool
}

// Recv is asked for a frame only when the last one has been written.
func (w *watched) Recv() (*providerv1.ExecOutput, error) {
	if w.shown() {
		w.finish(errUntil)
		return nil, errUntil
	}
	out, err := w.Transport.Recv()
	if err != nil {
		w.options.lost(w.ctx, err)
		return nil, err
	}
	switch f := out.GetFrame().(type) {
	case *providerv1.ExecOutput_Opened:
		w.opened, w.reached = true, Offsets{f.Opened.GetStdoutFrom(), f.Opened.GetStderrFrom()}
		if w.options.OnAttached != nil {
			w.options.OnAttached()
		}
	case *providerv1.ExecOutput_Data:
		end := f.Data.GetOffset() + int64(len(f.Data.GetData()))
		if f.Data.GetStream() == providerv1.ExecStream_EXEC_STREAM_STDERR {
			w.reached.Stderr = end
		} else {
			w.reached.Stdout = end
		}
	}
	return out, nil
}

// shown reports whether all that was asked for has been written.
func (w *watched) shown() bool {
	u := w.options.Until
	return u != nil && w.opened &&
		(w.options.Stdout == nil || w.reached.Stdout >= u.Stdout) &&
		(w.options.Stderr == nil || w.reached.Stderr >= u.Stderr)
}
