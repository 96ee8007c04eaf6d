package exec

import (
	"context"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// freezeDrain is how long a pump may go on reading what paused processes left in
// their pipes. A pipe that is empty for this long is empty; one that can say so
// is not waited for.
const freezeDrain = 20 * time.Millisecond

// drainUntil is when a pump of a stream whose processes are paused must stop.
func drainUntil(stream any) time.Time {
	if e, ok := stream.(emptier); ok && e.Empty() {
		return time.Unix(1, 0)
	}
	return time.Now().Add(freezeDrain)
}

// Freeze stops all movement of bytes between processes and the table, for a
// checkpoint, and returns when it has stopped. Pause the processes first: what
// they left in their pipes is then in the table, beyond the retention if need
// be, and not a byte is in between. Attachments stay, and find nothing new; input
// is accepted and waits.
//
// Exactness needs streams with deadlines, as *os.File and net.Conn have them. A
// Read without one counts as stopped while it waits, and a Write without one is
// waited for until ctx ends. Streams that also have Empty() bool, which says that
// a Read would wait, take no time when they are.
//
// Every Freeze needs a Thaw, or a Close.
func (t *Table) Freeze(ctx context.Context) error {
	all := t.all()
	for _, s := range all {
		s.freeze()
	}
	for _, s := range all {
		if err := s.awaitFrozen(ctx); err != nil {
			t.Thaw()
			return err
		}
	}
	return nil
}

// Thaw ends a Freeze.
func (t *Table) Thaw() {
	for _, s := range t.all() {
		s.thaw()
	}
}

// Detach ends all attachments with err, and leaves the commands alone. A paused
// sandbox's readers attach again, by offset, when it runs again.
func (t *Table) Detach(err *fault.Error) {
	for _, s := range t.all() {
		s.mu.Lock()
		for a := range s.atts {
			a.cursor.failure = err
		}
		s.changed()
		s.mu.Unlock()
	}
}

func (t *Table) all() []*session {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*session, 0, len(t.sessions))
	for _, s := range t.sessions {
		out = append(out, s)
	}
	return out
}

func (s *session) freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen || s.proc == nil {
		s.frozen = true
		return
	}
	s.frozen = true
	s.frozenAt = s.opts.now()
	for i, r := range []any{s.proc.Stdout(), s.proc.Stderr()} {
		s.pumps[i].parked = false
		s.pumps[i].interruptible = false
		if d, ok := r.(readDeadliner); ok {
			s.pumps[i].interruptible = d.SetReadDeadline(drainUntil(r)) == nil
		}
	}
	if d, ok := s.proc.Stdin().(writeDeadliner); ok {
		_ = d.SetWriteDeadline(time.Now()) // a Write that cannot be interrupted is waited for
	}
	s.cond.Broadcast()
}

func (s *session) thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.frozen {
		return
	}
	s.frozen = false
	if s.proc == nil {
		return
	}
	for i, r := range []any{s.proc.Stdout(), s.proc.Stderr()} {
		s.pumps[i].parked = false
		if d, ok := r.(readDeadliner); ok {
			_ = d.SetReadDeadline(time.Time{})
		}
	}
	if d, ok := s.proc.Stdin().(writeDeadliner); ok {
		_ = d.SetWriteDeadline(time.Time{})
	}
	if !s.deadline.IsZero() { // a frozen command's time stands still
		s.deadline = s.deadline.Add(s.opts.now().Sub(s.frozenAt))
	}
	s.changed()
	s.wakeSteer()
}

// awaitFrozen waits until no byte is on its way.
func (s *session) awaitFrozen(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cond.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.moving() {
		if err := ctx.Err(); err != nil {
			return fault.New(providerv1.ErrorReason_ERROR_REASON_OPERATION_IN_PROGRESS,
				"the streams of exec %q did not come to rest: %w", s.st.key.Exec, err).
				With("exec_id", s.st.key.Exec).WithEffect(providerv1.Effect_EFFECT_NONE)
		}
		s.cond.Wait()
	}
	return nil
}

func (s *session) moving() bool {
	if s.proc == nil || s.abandoned {
		return false
	}
	for i := range s.pumps {
		p := &s.pumps[i]
		switch {
		case s.st.logs[i].eof || p.parked:
		case !p.interruptible && p.reading:
		default:
			return true
		}
	}
	return s.feeding
}
