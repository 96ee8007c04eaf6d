package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// verifying knows of which providers the stored states were compared with the
// truth since the broker, or the plugin, started.
type verifying struct {
	mu    sync.Mutex
	state map[string]*verification
	// settled is closed when no verification is under way.
	settled chan struct{}
	running int
}

type verification struct {
	running bool
	again   bool
	done    bool
	why     string
}

func (v *verifying) init() {
	v.state = make(map[string]*verification)
	v.settled = make(chan struct{})
	close(v.settled)
}

// begin starts run, which must end by calling next until that returns false; if
// one is under way already it will go round once more.
func (v *verifying) begin(name string, run func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e := v.state[name]
	if e == nil {
		e = &verification{why: "its state is being verified"}
		v.state[name] = e
	}
	if e.running {
		e.again = true
		return
	}
	e.running = true
	if v.running++; v.running == 1 {
		v.settled = make(chan struct{})
	}
	run()
}

// next ends a round with its outcome and reports whether another is wanted.
func (v *verifying) next(name string, err error) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	e := v.state[name]
	e.done, e.why = err == nil, ""
	if err != nil {
		e.why = "its provider did not tell: " + fault.From(err).Message
	}
	if e.again {
		e.again = false
		return true
	}
	e.running = false
	if v.running--; v.running == 0 {
		close(v.settled)
	}
	return false
}

// verifyWait bounds how long a question waits for a provider that just started;
// the answer is UNKNOWN after it. Starting a plugin takes less than a second, on
// a machine that has nothing else to do.
const verifyWait = 3 * time.Second

// wait returns when no verification is under way, or it takes too long.
func (v *verifying) wait(ctx context.Context) {
	v.mu.Lock()
	settled := v.settled
	v.mu.Unlock()
	select {
	case <-settled:
		return
	default:
	}
	t := time.NewTimer(verifyWait)
	defer t.Stop()
	select {
	case <-settled:
	case <-t.C:
	case <-ctx.Done():
	}
}

// failed lists the providers whose last verification failed.
func (v *verifying) failed() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []string
	for name, e := range v.state {
		if !e.running && !e.done {
			out = append(out, name)
		}
	}
	return out
}

// unverified says why what is stored about a provider's sandboxes need not be
// true now, or "".
func (s *Service) unverified(name string) string {
	if _, ok := s.providers.Provider(name); !ok {
		return "provider " + name + " is not configured"
	}
	if why := s.providers.Unreachable(name); why != "" {
		return why
	}
	s.verifying.mu.Lock()
	defer s.verifying.mu.Unlock()
	if e := s.verifying.state[name]; e != nil && !e.done {
		return e.why
	}
	return ""
}

// verify brings what is stored about a provider's sandboxes and snapshots in
// line with what the provider says.
func (s *Service) verify(name string) {
	for {
		ctx, cancel := context.WithCancel(s.life)
		stop := s.cancelOnClose(cancel)
		err := s.verifyOnce(ctx, name)
		stop()
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "provider cannot tell about its sandboxes", "provider", name, "error", err)
		}
		cancel()
		if !s.verifying.next(name, err) {
			s.poke()
			return
		}
	}
}

// cancelOnClose calls cancel when the service is closed. stop must be called.
func (s *Service) cancelOnClose(cancel func()) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-s.closed:
			cancel()
		case <-done:
		}
	}()
	return func() { close(done); <-ended }
}

// recoverPage is the contract's limit for one Recover call.
const recoverPage = 1000

func (s *Service) verifyOnce(ctx context.Context, name string) error {
	p, err := s.provider(name)
	if err != nil {
		return err
	}
	s.settleSnapshots(ctx, name)
	for token := ""; ; {
		rows, next, err := s.store.ListSandboxes(ctx, state.Filter{Provider: name}, state.Page{Size: recoverPage, Token: token})
		if err != nil {
			return err
		}
		if err := s.verifyPage(ctx, p, rows); err != nil {
			return err
		}
		if token = next; token == "" {
			return nil
		}
	}
}

// settleParallel is how many unfinished sandboxes are settled at once: enough
// to hide the latency of a vendor, too few to anger it.
const settleParallel = 16

func (s *Service) verifyPage(ctx context.Context, p *provider.Provider, rows []*state.Sandbox) error {
	var g errgroup.Group
	g.SetLimit(settleParallel)
	settled := make(map[string]*state.Sandbox, len(rows))
	req := &providerv1.RecoverRequest{}
	for _, sb := range rows {
		if sb.Status.Pending != lifecycle.None {
			g.Go(func() error { return s.tend(ctx, sb.ID()) })
			continue
		}
		settled[sb.ID()] = sb
		req.Sandboxes = append(req.Sandboxes, sb.Ref())
	}
	var err error
	if len(req.GetSandboxes()) > 0 {
		var resp *providerv1.RecoverResponse
		if resp, err = p.Recover(ctx, req); err == nil {
			err = s.applyRecoveries(ctx, settled, resp.GetRecoveries())
		}
	}
	return errors.Join(err, g.Wait())
}

func (s *Service) applyRecoveries(ctx context.Context, rows map[string]*state.Sandbox, recoveries []*providerv1.Recovery) error {
	for _, r := range recoveries {
		asked := rows[r.GetSandboxId()]
		if asked == nil {
			continue // not one that was asked about
		}
		delete(rows, r.GetSandboxId())
		if err := s.applyRecovery(ctx, asked, r); err != nil {
			return err
		}
	}
	for id := range rows {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL,
			"the provider did not answer for %d sandboxes it was asked to recover, such as %s", len(rows), id)
	}
	return nil
}

// applyRecovery applies one answer unless the sandbox changed since the question
// was asked: whatever changed it knows better.
func (s *Service) applyRecovery(ctx context.Context, sb *state.Sandbox, r *providerv1.Recovery) error {
	if r.GetOutcome() == providerv1.RecoveryOutcome_RECOVERY_OUTCOME_RECOVERED && !news(sb, r.GetSandbox()) {
		return nil // as nearly always; a listing asks about all that it shows
	}
	unlock, ok, err := s.locks.tryLock(ctx, sb.ID())
	if !ok {
		return err
	}
	defer unlock()
	now, err := s.store.Sandbox(ctx, sb.ID())
	if errors.Is(err, state.ErrNotFound) || err == nil && now.Version != sb.Version {
		return nil
	}
	if err != nil {
		return state.Fault(err)
	}
	switch r.GetOutcome() {
	case providerv1.RecoveryOutcome_RECOVERY_OUTCOME_RECOVERED:
		_, err = s.applyObserved(ctx, now, r.GetSandbox())
	case providerv1.RecoveryOutcome_RECOVERY_OUTCOME_GONE:
		if now.Status.State == providerv1.SandboxState_SANDBOX_STATE_FAILED {
			return nil // known to be dead already
		}
		_, err = s.applyAbsent(ctx, now)
	default:
		_, err = s.apply(ctx, now, lifecycle.Unreachable(unknownWhy(r.GetCause())))
	}
	return err
}

func unknownWhy(f *providerv1.Fault) string {
	if f.GetMessage() == "" {
		return "the provider cannot tell yet"
	}
	return f.GetMessage()
}
