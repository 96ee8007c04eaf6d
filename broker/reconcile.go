package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/metering"
	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	// dueBatch is how many due sandboxes are read at once.
	dueBatch = 256
	// dueParallel is how many are tended at once.
	dueParallel = 16
	// maxBusyWait is how long a sandbox that is being operated on is left alone.
	maxBusyWait = time.Second
	// verifyRetry is how often a provider that could not tell is asked again, also
	// about snapshots.
	verifyRetry = 30 * time.Second
	// tombstoneLife is how long an idempotency key is remembered after its
	// sandbox ended; the contract's minimum.
	tombstoneLife = 24 * time.Hour
	purgeInterval = time.Hour
)

// reconcile does what falls due: ends of lifetimes, idling, unfinished
// operations, chores. It sleeps until the next due time or a poke.
func (s *Service) reconcile() {
	ctx, cancel := context.WithCancel(s.life)
	defer cancel()
	defer s.cancelOnClose(cancel)()
	chores := s.chores()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		busy := s.tendDue(ctx)
		now := time.Now()
		next := s.flushMeasures(ctx, now)
		for _, c := range chores {
			if !now.Before(c.at) {
				c.do(ctx)
				c.at = time.Now().Add(c.every)
			}
			if c.at.Before(next) {
				next = c.at
			}
		}
		timer.Reset(s.untilNext(ctx, busy, next))
	}
}

// chore is what is done again and again.
type chore struct {
	every time.Duration
	at    time.Time
	do    func(context.Context)
}

func (s *Service) chores() []*chore {
	now := time.Now()
	out := []*chore{
		{s.opts.ReapInterval, now.Add(s.opts.ReapInterval), s.reap},
		{purgeInterval, now, s.purge},
		{s.opts.BudgetInterval, now, s.enforceBudgets},
		{verifyRetry, now.Add(verifyRetry), s.reverify},
	}
	if s.store.Shared() {
		out = append(out, &chore{s.opts.ReplicaLag, now.Add(s.opts.ReplicaLag), s.keepUp})
	}
	return out
}

func (s *Service) purge(ctx context.Context) {
	now := time.Now()
	s.logged(ctx, "old records are not purged", s.store.PurgeGone(ctx, now.Add(-tombstoneLife)))
	s.logged(ctx, "old events are not purged", s.store.PurgeEvents(ctx, now.Add(-eventLife), maxEvents))
	s.logged(ctx, "old use is not purged", s.store.PurgeUsed(ctx, metering.DayOf(s.opts.Clock())-usedLife))
}

// reverify asks again who could not tell before. Of brokers that share a store each
// asks all about snapshots: one that was killed may have been making some.
func (s *Service) reverify(ctx context.Context) {
	for _, name := range s.verifying.failed() {
		s.ProviderReady(name)
	}
	if s.store.Shared() {
		for _, name := range s.providers.Names() {
			s.unsettled.push(name)
		}
	}
	for _, name := range s.unsettled.take() {
		s.settleSnapshots(ctx, name)
	}
}

// flushMeasures stores what was measured if that is due, and returns when it is due
// again.
func (s *Service) flushMeasures(ctx context.Context, now time.Time) time.Time {
	at := s.measures.flushAt(now)
	if now.Before(at) {
		return at
	}
	s.logged(ctx, "measurements are not stored", s.measures.flush(ctx, s.store))
	return s.measures.flushAt(time.Now())
}

func (s *Service) logged(ctx context.Context, message string, err error, about ...any) {
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, message, append(about, "error", err)...) //nolint:sloglint // callers pass constants
	}
}

// untilNext returns how long nothing is due; something else is at next. If something
// is due that could not be tended, it is tried again after busyWait rather than at once.
func (s *Service) untilNext(ctx context.Context, busy bool, next time.Time) time.Duration {
	due, err := s.store.NextDue(ctx)
	s.logged(ctx, "next due time cannot be read", err)
	if err != nil {
		busy = true
	}
	if !due.IsZero() && due.Before(next) {
		next = due
	}
	wait := time.Until(next)
	if busy {
		wait = max(wait, s.busyWait())
	}
	return max(wait, 0)
}

// busyWait is how long what is due and could not be tended is left alone. Brokers that
// share a store look again before another takes a sandbox for idle that is in use here.
func (s *Service) busyWait() time.Duration {
	if !s.store.Shared() {
		return maxBusyWait
	}
	return min(maxBusyWait, s.opts.ReplicaLag)
}

// tendDue tends all that is due. It reports whether something due was left.
func (s *Service) tendDue(ctx context.Context) (left bool) {
	seen := make(map[string]bool)
	for {
		ids := s.dueIDs(ctx, len(seen))
		ids = slices.DeleteFunc(ids, func(id string) bool { return seen[id] })
		if len(ids) == 0 || ctx.Err() != nil {
			return len(seen) > 0 && s.stillDue(ctx)
		}
		var g errgroup.Group
		g.SetLimit(dueParallel)
		for _, id := range ids {
			seen[id] = true
			g.Go(func() error {
				err := s.tend(ctx, id)
				if err != nil && ctx.Err() == nil {
					s.log.WarnContext(ctx, "sandbox cannot be tended", "sandbox_id", id, "error", err)
				}
				return nil
			})
		}
		_ = g.Wait() // the goroutines return no error
	}
}

func (s *Service) stillDue(ctx context.Context) bool {
	due, err := s.store.NextDue(ctx)
	return err != nil || !due.IsZero() && !due.After(time.Now())
}

// dueIDs returns what is due beyond so many that were tended and are due still.
func (s *Service) dueIDs(ctx context.Context, tended int) []string {
	ids := s.recheck.take()
	rows, err := s.store.DueSandboxes(ctx, time.Now(), tended+dueBatch)
	s.logged(ctx, "due sandboxes cannot be read", err)
	for _, sb := range rows {
		if !slices.Contains(ids, sb.ID()) {
			ids = append(ids, sb.ID())
		}
	}
	return ids
}

// tend does for one sandbox what has to be done now: finish what is unfinished,
// end what has outlived its time, put to rest what is idle, and otherwise ask.
// One that somebody operates on is left to them.
func (s *Service) tend(ctx context.Context, id string) error {
	unlock, ok, err := s.locks.tryLock(ctx, id)
	if !ok {
		return errors.Join(err, s.storeLastUse(ctx, id))
	}
	defer unlock()
	sb, err := s.store.Sandbox(ctx, id)
	if errors.Is(err, state.ErrNotFound) || err == nil && sb.Status.Gone {
		return nil
	}
	if err != nil {
		return err
	}
	now := time.Now()
	switch end, idle := sb.Expires(), sb.IdleAt(); {
	case sb.Status.Pending == lifecycle.Delete:
		return s.callDelete(ctx, sb)
	case !end.IsZero() && !now.Before(end):
		s.log.InfoContext(ctx, "lifetime ended", "sandbox_id", id, "provider", sb.Body.GetProvider())
		return s.deleteLocked(ctx, sb, "its lifetime ended")
	case sb.Status.Settled() && !idle.IsZero() && !now.Before(idle):
		return s.tendIdle(ctx, sb)
	default:
		actions, err := s.ask(ctx, sb)
		if err == nil && slices.Contains(actions, lifecycle.CallDelete) {
			err = s.callDelete(ctx, sb)
		}
		return err
	}
}

// storeLastUse stores when a sandbox was used last through this broker, for another
// that has its lock and may be looking whether it is idle.
func (s *Service) storeLastUse(ctx context.Context, id string) error {
	last := s.uses.lastUse(id, time.Now())
	if last.IsZero() || !s.store.Shared() {
		return nil
	}
	return s.store.TouchSandbox(ctx, id, last)
}

// tendIdle acts on a sandbox that looks idle, unless it is in use after all: a
// call is open, was made since the stored time, or a command runs inside.
func (s *Service) tendIdle(ctx context.Context, sb *state.Sandbox) error {
	now := time.Now()
	if last := s.uses.lastUse(sb.ID(), now); last.After(sb.LastActive()) {
		return s.store.TouchSandbox(ctx, sb.ID(), last)
	}
	if now.Before(sb.IdleAt().Add(s.idleGrace())) {
		return nil
	}
	busy, err := s.runsCommands(ctx, sb)
	if err != nil {
		// Whether it is idle cannot be told; ask again later rather than end it.
		_, err = s.apply(ctx, sb, lifecycle.Unreachable(fault.From(err).Message))
		return err
	}
	if busy {
		return s.store.TouchSandbox(ctx, sb.ID(), now)
	}
	s.log.InfoContext(ctx, "sandbox is idle", "sandbox_id", sb.ID(), "provider", sb.Body.GetProvider(), "action", sb.Body.GetIdle().GetAction().String())
	if sb.Body.GetIdle().GetAction() != brokerv1.IdleAction_IDLE_ACTION_PAUSE {
		return s.deleteLocked(ctx, sb, "it was idle")
	}
	return s.pauseIdle(ctx, sb)
}

// runsCommands reports whether a command runs inside. Of a provider that cannot
// list commands only attached ones are known, and those are open uses.
func (s *Service) runsCommands(ctx context.Context, sb *state.Sandbox) (bool, error) {
	p, err := s.provider(sb.Body.GetProvider())
	if err != nil {
		return false, err
	}
	set, err := p.Capabilities(ctx)
	if err != nil || !set.Has("exec.list") {
		return false, err
	}
	resp, err := p.ListExecs(ctx, &providerv1.ListExecsRequest{Sandbox: sb.Ref()})
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(resp.GetExecs(), func(e *providerv1.Exec) bool {
		return e.GetState() == providerv1.ExecState_EXEC_STATE_RUNNING
	}), nil
}

// pauseIdle pauses with all the provider can keep. A refusal counts as use, so
// that the pause is tried again after another idle time and not at once.
func (s *Service) pauseIdle(ctx context.Context, sb *state.Sandbox) error {
	err := s.pauseAll(ctx, sb, "it was idle")
	if err != nil && sb.Status.State == providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		return errors.Join(err, s.store.TouchSandbox(ctx, sb.ID(), time.Now()))
	}
	return err
}

func allKept(set provider.Set) *providerv1.Keeps {
	return &providerv1.Keeps{Disk: set.Has("pause.disk"), Memory: set.Has("pause.memory"), Processes: set.Has("pause.processes")}
}
