package exec

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Key names an exec.
type Key struct {
	Sandbox string
	Exec    string
}

// Table holds the execs of one plugin process or shim. It is safe for concurrent
// use; Close ends every goroutine it started.
type Table struct {
	opts Options
	wg   sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	starting map[Key]*start
	sessions map[Key]*session
	expiry   map[Key]*time.Timer
}

// start is a StartExec in progress.
type start struct {
	digest []byte
	done   chan struct{}
	err    error
}

// NewTable returns an empty table.
func NewTable(opts Options) *Table {
	return &Table{
		opts:     opts.withDefaults(),
		starting: map[Key]*start{},
		sessions: map[Key]*session{},
		expiry:   map[Key]*time.Timer{},
	}
}

// Options returns the options in force, defaults filled in.
func (t *Table) Options() Options { return t.opts }

// Start starts the command key by calling launch, or returns the one that has
// this key. Another digest is refused with IDEMPOTENCY_KEY_REUSED. Concurrent
// calls launch once.
func (t *Table) Start(ctx context.Context, key Key, digest []byte, spec *providerv1.ExecSpec,
	launch func(context.Context) (Process, error),
) (*providerv1.Exec, error) {
	for {
		s, pending, err := t.claim(key, digest)
		switch {
		case err != nil:
			return nil, err
		case s != nil:
			return s.exec(), nil
		case pending == nil:
			return t.launch(ctx, key, digest, spec, launch)
		}
		select {
		case <-pending.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		// The one that launched may have been cancelled, which says nothing about
		// this call: try again unless the launch itself was refused.
		if pending.err != nil && !errors.Is(pending.err, context.Canceled) && !errors.Is(pending.err, context.DeadlineExceeded) {
			return nil, pending.err
		}
	}
}

// claim returns the session of key, or a start in progress, or neither and
// registers a start by the caller.
func (t *Table) claim(key Key, digest []byte) (*session, *start, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, nil, errClosed()
	}
	if s := t.sessions[key]; s != nil {
		if !bytes.Equal(s.st.digest, digest) {
			return nil, nil, reused(key)
		}
		return s, nil, nil
	}
	if p := t.starting[key]; p != nil {
		if !bytes.Equal(p.digest, digest) {
			return nil, nil, reused(key)
		}
		return nil, p, nil
	}
	t.starting[key] = &start{digest: digest, done: make(chan struct{})}
	return nil, nil, nil
}

func errClosed() *fault.Error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_DRAINING, "the provider is stopping")
}

func reused(key Key) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED,
		"exec %q was started with another request", key.Exec).With("exec_id", key.Exec).With("sandbox_id", key.Sandbox)
}

func (t *Table) launch(ctx context.Context, key Key, digest []byte, spec *providerv1.ExecSpec,
	launch func(context.Context) (Process, error),
) (*providerv1.Exec, error) {
	proc, err := func() (proc Process, err error) {
		defer func() {
			if p := recover(); p != nil {
				t.launched(key, nil, errors.New("the launch panicked"))
				panic(p)
			}
		}()
		return launch(ctx)
	}()
	if err == nil && proc == nil {
		err = fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG, "the driver returned neither a process nor an error")
	}
	if err != nil {
		t.launched(key, nil, err)
		return nil, err
	}
	s := newSession(t.opts, newState(key, digest, spec, t.opts.Retain, t.opts.now()))
	s.proc = proc
	if b, ok := proc.(beginner); ok {
		s.st.startedAt = b.Began()
	}
	t.launched(key, s, nil)
	return s.exec(), nil
}

func (t *Table) launched(key Key, s *session, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.starting[key]
	delete(t.starting, key)
	p.err = err
	close(p.done)
	if s != nil {
		t.adopt(s)
	}
}

// adopt puts a session into the table and runs it. The caller holds mu.
func (t *Table) adopt(s *session) {
	t.sessions[s.st.key] = s
	if t.closed {
		s.abandon(errClosed())
	}
	t.wg.Go(func() { s.run(func() { t.retire(s) }) })
}

func (t *Table) session(key Key) (*session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.sessions[key]; s != nil {
		return s, nil
	}
	return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_EXEC_NOT_FOUND,
		"exec %q does not exist in sandbox %q, or ended long ago", key.Exec, key.Sandbox).
		With("exec_id", key.Exec).With("sandbox_id", key.Sandbox)
}

// Get returns one exec, or EXEC_NOT_FOUND.
func (t *Table) Get(key Key) (*providerv1.Exec, error) {
	s, err := t.session(key)
	if err != nil {
		return nil, err
	}
	return s.exec(), nil
}

// List returns the execs of a sandbox, oldest first.
func (t *Table) List(sandbox string) []*providerv1.Exec {
	t.mu.Lock()
	var found []*session
	for key, s := range t.sessions {
		if key.Sandbox == sandbox {
			found = append(found, s)
		}
	}
	t.mu.Unlock()
	out := make([]*providerv1.Exec, len(found))
	for i, s := range found {
		out[i] = s.exec()
	}
	slices.SortFunc(out, func(a, b *providerv1.Exec) int {
		return cmp.Or(a.GetStartedAt().AsTime().Compare(b.GetStartedAt().AsTime()), cmp.Compare(a.GetExecId(), b.GetExecId()))
	})
	return out
}

// Signal signals a command's process group and returns when the driver did it.
// After the command's end it is a success without effect.
func (t *Table) Signal(ctx context.Context, key Key, signal providerv1.ExecSignal) error {
	s, err := t.session(key)
	if err != nil {
		return err
	}
	done, err := s.signal(signal)
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Attach serves one AttachExec stream to its end. permit is asked about every
// frame before it is handled; its error ends the attachment. An error before
// Opened is returned, one after it is sent as a Fault.
func (t *Table) Attach(stream Stream, permit func(*providerv1.ExecInput) error) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	open := first.GetInput().GetOpen()
	if open == nil {
		return fault.Field("input.open", "", "want open as the first frame")
	}
	key := Key{Sandbox: open.GetSandbox().GetSandboxId(), Exec: open.GetExecId()}
	s, err := t.session(key)
	if err != nil {
		return err
	}
	a, err := s.attach(stream, open, permit)
	if err != nil {
		return err
	}
	defer t.detached(s)
	defer a.detach()
	if !t.track(a.receive) {
		return errClosed()
	}
	return a.send()
}

// track runs f as a goroutine of the table, unless the table is closed.
func (t *Table) track(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.wg.Go(f)
	return true
}
