package runsc

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/container"
	"gvisor.dev/gvisor/runsc/sandbox"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// Sandbox is one running guest. Close ends it; the end of the process would too.
type Sandbox struct {
	cfg Config
	// agent is the identity of cfg.Agent, which may have another path by now.
	agent string
	conf  *config.Config
	ctl   *control
	sand  *sandbox.Sandbox // for calls that need no container state

	lower *Lower

	// runMu guards cont, which is not safe for concurrent use, against Checkpoint and Close.
	runMu sync.Mutex
	cont  *container.Container

	mu         sync.Mutex
	execs      map[string]*Exec
	nextExec   int
	nextStream int64
	closed     bool
	outputs    *outputs // for the next command; nil while there are none
	preparing  bool     // outputs are being made
	// staleOutputs were prepared before the restore; the agent has them open until others are.
	staleOutputs []string
	background   sync.WaitGroup

	limits *watchdog
	cause  error         // why the sandbox ended, if that is known; guarded by mu
	done   chan struct{} // closed after everything of the guest has ended
}

// Create starts a guest with nothing but its agent in it. The caller must have called Enter.
func Create(ctx context.Context, cfg Config) (*Sandbox, error) {
	return boot(ctx, cfg, func(s *Sandbox) error {
		setup, err := s.cfg.setup(s.lower)
		if err != nil {
			return fmt.Errorf("look into root file system of %q: %w", cfg.ID, err)
		}
		if err := s.cont.Start(s.conf); err != nil {
			return fmt.Errorf("start sandbox %q: %w", cfg.ID, err)
		}
		if _, err := s.ctl.call(ctx, &wire.Request{Op: wire.OpSetup, Setup: setup}, nil); err != nil {
			return fmt.Errorf("set up guest of %q: %w", cfg.ID, err)
		}
		return nil
	})
}

// boot brings up a gVisor sandbox; run puts a guest into it, new or saved.
func boot(ctx context.Context, cfg Config, run func(*Sandbox) error) (_ *Sandbox, err error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Sandbox{cfg: cfg, execs: map[string]*Exec{}, done: make(chan struct{})}
	if s.agent, err = agentIdentity(cfg.Agent); err != nil {
		return nil, fmt.Errorf("identify agent: %w", err)
	}
	if s.conf, err = cfg.runtime(); err != nil {
		return nil, err
	}
	if s.lower, err = openLower(&cfg); err != nil {
		return nil, fmt.Errorf("open root file system of %q: %w", cfg.ID, err)
	}
	defer func() {
		if err != nil {
			s.lower.close()
		}
	}()
	if err := cfg.Limits.prepare(); err != nil {
		return nil, err
	}
	spec := cfg.spec()
	if err := cfg.writeBundle(spec); err != nil {
		return nil, err
	}
	guest, events, err := s.openControl()
	if err != nil {
		return nil, err
	}
	s.cont, err = container.New(s.conf, container.Args{ID: cfg.ID, Spec: spec, BundleDir: cfg.bundleDir(), PassFiles: guest})
	// From here on the guest's death is the end of both pipes.
	closeFiles([]*os.File{guest[wire.RequestFD], guest[wire.EventFD]})
	if err != nil {
		_ = s.ctl.out.Close()
		_ = events.Close()
		return nil, fmt.Errorf("create sandbox %q: %w", cfg.ID, err)
	}
	s.sand = s.cont.Sandbox
	go s.ctl.readEvents(events)
	go s.waitEnd()
	if err := run(s); err != nil {
		s.abort()
		return nil, err
	}
	if err := s.settle(ctx); err != nil {
		s.abort()
		return nil, fmt.Errorf("start guest agent of %q: %w", cfg.ID, err)
	}
	return s, nil
}

// settle waits for the agent and applies the limits that need a running guest.
func (s *Sandbox) settle(ctx context.Context) error {
	if _, err := s.ctl.call(ctx, &wire.Request{Op: wire.OpHello}, nil); err != nil {
		return err
	}
	return s.startWatchdog()
}

// openControl returns the guest's ends of the control pipes by guest descriptor, and the host's end of the events.
func (s *Sandbox) openControl() (map[int]*os.File, *os.File, error) {
	reqR, reqW, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("create control pipe: %w", err)
	}
	evR, evW, err := os.Pipe()
	if err != nil {
		closeFiles([]*os.File{reqR, reqW})
		return nil, nil, fmt.Errorf("create control pipe: %w", err)
	}
	s.ctl = newControl(reqW, s.execEvent)
	return map[int]*os.File{wire.RequestFD: reqR, wire.EventFD: evW}, evR, nil
}

// waitEnd owns the end of the sandbox: whatever ended it, execs get their last word and Done is closed.
func (s *Sandbox) waitEnd() {
	_, _ = s.sand.Wait(s.cfg.ID)
	<-s.ctl.ended
	s.mu.Lock()
	s.closed = true
	limits := s.limits
	execs := make([]*Exec, 0, len(s.execs))
	for _, ex := range s.execs {
		execs = append(execs, ex)
	}
	s.mu.Unlock()
	limits.stop()
	s.background.Wait()
	s.mu.Lock()
	outputs := s.outputs
	s.outputs = nil
	s.mu.Unlock()
	outputs.close()
	err := s.endError()
	for _, ex := range execs {
		ex.finish(Exit{}, fmt.Errorf("wait for exec %q: %w", ex.ID, err))
	}
	_ = s.ctl.out.Close()
	close(s.done)
}

// Err says why the sandbox ended; it wraps ErrEnded. It is for after Done.
func (s *Sandbox) Err() error { return s.endError() }

func (s *Sandbox) endError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.cause != nil:
		return fmt.Errorf("%w: %w", ErrEnded, s.cause)
	case s.ctl.err != nil:
		return fmt.Errorf("%w: %w", ErrEnded, s.ctl.err)
	}
	return ErrEnded
}

// Done is closed when the guest has ended, by Close, a checkpoint that does not keep it running, or by itself.
func (s *Sandbox) Done() <-chan struct{} { return s.done }

// Close kills the guest and waits until all of it is gone. It may be called again.
func (s *Sandbox) Close(ctx context.Context) error {
	s.runMu.Lock()
	defer s.runMu.Unlock()
	if s.cont == nil {
		s.lower.close()
		return nil
	}
	if err := s.cont.Destroy(); err != nil {
		return fmt.Errorf("destroy sandbox %q: %w", s.cfg.ID, err)
	}
	s.cont = nil
	select {
	case <-s.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, ex := range s.Execs() {
		ex.closeStreams()
	}
	s.lower.close()
	return os.RemoveAll(filepath.Join(s.cfg.Dir, s.cfg.ID))
}

func (s *Sandbox) abort() { _ = s.Close(context.Background()) }
