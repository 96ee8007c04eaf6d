package exec

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// session moves bytes between one Process, its state, and its attachments.
//
// One mutex guards state and is never held across I/O. Goroutines of the session
// wait on cond; attachments wait on a channel of their own, because they also
// wait for their stream's end.
type session struct {
	opts Options
	log  *slog.Logger
	proc Process
	// ctx ends with the session; it is the context of Wait, Signal and Resize.
	ctx    context.Context //nolint:containedctx // the session outlives the call that made it
	cancel context.CancelFunc
	// over is closed when all goroutines of the session have returned.
	over chan struct{}

	mu   sync.Mutex
	cond *sync.Cond
	st   *state
	atts map[*attachment]struct{}
	did  doings
	// abandoned says that the table gave the exec up.
	abandoned bool
	pumps     [2]pumpState
	feeding   bool // a write to stdin is in progress
	frozen    bool
	frozenAt  time.Time
	signals   []signalRequest
	size      *providerv1.Terminal
	control   chan struct{}
	deadline  time.Time
}

type signalRequest struct {
	signal providerv1.ExecSignal
	done   chan error
}

func newSession(opts Options, st *state) *session {
	ctx, cancel := context.WithCancel(context.Background())
	s := &session{
		opts: opts, st: st, ctx: ctx, cancel: cancel,
		log:     opts.Logger.With("sandbox_id", st.key.Sandbox, "exec_id", st.key.Exec),
		over:    make(chan struct{}),
		atts:    map[*attachment]struct{}{},
		did:     doings{sent: map[string]bool{}},
		control: make(chan struct{}, 1),
	}
	s.cond = sync.NewCond(&s.mu)
	if t := st.spec.GetTimeout(); t != nil {
		s.deadline = st.startedAt.Add(t.AsDuration())
	}
	return s
}

// run drives the process to its end and returns when every goroutine it started
// has returned. It calls ended when the lead process has ended.
func (s *session) run(ended func()) {
	defer close(s.over)
	var wg sync.WaitGroup
	wg.Go(func() { s.pump(stdout, s.proc.Stdout()) })
	wg.Go(func() { s.pump(stderr, s.proc.Stderr()) })
	wg.Go(s.feed)
	wg.Go(s.steer)
	status, err := s.wait()
	s.ended(status, err)
	ended()
	s.awaitDrained()
	if err := s.close(); err != nil {
		s.log.Warn("closing a command failed", "error", err)
	}
	s.cancel()
	wg.Wait()
}

func (s *session) wait() (status *providerv1.ExitStatus, err error) {
	defer recovered(&err)
	return s.proc.Wait(s.ctx)
}

func (s *session) close() (err error) {
	defer recovered(&err)
	return s.proc.Close()
}

// ended records the end of the lead process and starts the drain time of
// streams that something still holds open.
func (s *session) ended(status *providerv1.ExitStatus, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.st.end(settle(status, err, s.did), s.opts.now())
	for i := range s.pumps {
		s.armDrain(i)
	}
	s.changed()
}

// awaitDrained waits until both streams ended, by themselves or by force.
func (s *session) awaitDrained() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.st.drained() && !s.abandoned {
		s.cond.Wait()
	}
	for i := range s.pumps {
		s.pumps[i].disarm()
		if !s.st.logs[i].eof { // abandoned: what was not read is lost
			s.st.logs[i].finish(errAbandoned)
		}
	}
	s.changed()
}

// abandon gives the exec up: attachments end with err, and the process is closed
// without being killed.
func (s *session) abandon(err *fault.Error) {
	s.mu.Lock()
	s.abandoned = true
	for a := range s.atts {
		a.cursor.failure = err
	}
	s.changed()
	s.mu.Unlock()
	s.cancel()
}

// changed wakes everybody who waits for state. The caller holds mu.
func (s *session) changed() {
	s.cond.Broadcast()
	for a := range s.atts {
		a.poke()
	}
}

// exec returns the public view.
func (s *session) exec() *providerv1.Exec {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.st
	out := &providerv1.Exec{
		ExecId: st.key.Exec, SandboxId: st.key.Sandbox, State: st.phase, Exit: st.exit,
		StartedAt: timestamppb.New(st.startedAt), Argv: slices.Clone(st.spec.GetArgv()),
		StdoutTotal: st.logs[stdout].total, StderrTotal: st.logs[stderr].total,
		StdoutOldest: st.logs[stdout].oldest, StderrOldest: st.logs[stderr].oldest,
		StdinNext: st.in.written, Terminal: st.spec.GetTerminal() != nil,
	}
	if st.exit != nil {
		out.EndedAt = timestamppb.New(st.endedAt)
	}
	return out
}

// finished reports when the command ended, and whether anybody is attached.
func (s *session) finished() (at time.Time, ended, watched bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st.endedAt, s.st.exit != nil, len(s.atts) > 0
}
