package broker

import (
	"context"
	"errors"
	"maps"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/telemetry"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// CreateSandbox places and makes a sandbox. It returns when the sandbox can be
// used, or FAILED, or after the caller's deadline as CREATING.
func (s *Service) CreateSandbox(ctx context.Context, req *brokerv1.CreateSandboxRequest) (*brokerv1.Sandbox, error) {
	if err := validateCreate(req); err != nil {
		return nil, err
	}
	who, err := s.maker(ctx)
	if err != nil {
		return nil, err
	}
	if req, err = asCaller(who, req); err != nil {
		return nil, err
	}
	rows, err := s.once(ctx, req.GetIdempotencyKey(), req, func(r *state.Request) ([]*state.Sandbox, error) {
		return s.makePlaced(ctx, r, req)
	})
	if err != nil {
		return nil, err
	}
	return rows[0].View(), nil
}

// making is a decided creation of one or several sandboxes by one call.
type making struct {
	provider string
	// by is what makes them, as it is counted.
	by   telemetry.Operation
	rows []*state.Sandbox
	op   *providerv1.Operation
	call func(context.Context, *provider.Provider) ([]*providerv1.Sandbox, error)
	// trial takes the outcome, if anybody wants to know.
	trial *trial
}

// planCreate plans the creation at one provider; opts are for the call.
func (s *Service) planCreate(ctx context.Context, req *brokerv1.CreateSandboxRequest, name string, opts ...grpc.CallOption) (making, error) {
	p, err := s.provider(name)
	if err != nil {
		return making{}, err
	}
	set, err := p.Capabilities(ctx)
	if err != nil {
		return making{}, err
	}
	spec := proto.CloneOf(req.GetSpec())
	if spec == nil {
		spec = &providerv1.SandboxSpec{}
	}
	lifetime := s.lifetime(req.GetLifetime(), spec.GetLifetime())
	if lifetime > 0 && set.Has("lifetime.native") {
		// The provider then ends it also while no broker runs.
		spec.Lifetime = durationpb.New(lifetime)
	}
	who, err := s.maker(ctx)
	if err != nil {
		return making{}, err
	}
	sb := s.newRow(who.Acting, name, lifetime, req.GetIdle())
	sb.Body.Name, sb.Body.Labels, sb.Body.Spec = req.GetName(), req.GetLabels(), spec
	asked, err := s.withVolumes(ctx, who, name, p, s.inRegion(name, set, spec))
	if err != nil {
		return making{}, err
	}
	create := &providerv1.CreateSandboxRequest{Identity: s.identity(sb), Spec: asked}
	create.Operation = operation(create)
	return making{
		provider: name, by: telemetry.Create, rows: []*state.Sandbox{sb}, op: create.GetOperation(),
		call: func(ctx context.Context, p *provider.Provider) ([]*providerv1.Sandbox, error) {
			resp, err := p.CreateSandbox(ctx, create, opts...)
			return []*providerv1.Sandbox{resp.GetSandbox()}, inOwnWords(err, volumePrefix+who.Acting+".", "")
		},
	}, nil
}

// endsByItself reports whether a provider ends sandboxes at their lifetime. It
// waits for the provider to start.
func (s *Service) endsByItself(ctx context.Context, name string) (bool, error) {
	p, err := s.provider(name)
	if err != nil {
		return false, err
	}
	set, err := p.Capabilities(ctx)
	return set.Has("lifetime.native"), err
}

func (s *Service) lifetime(asked ...*durationpb.Duration) time.Duration {
	for _, d := range asked {
		if d != nil {
			return d.AsDuration()
		}
	}
	return s.opts.Lifetime
}

// newRow returns a row for a sandbox of a tenant that does not exist yet.
func (s *Service) newRow(tenant, provider string, lifetime time.Duration, idle *brokerv1.Idle) *state.Sandbox {
	now := time.Now()
	if idle == nil {
		idle = s.opts.Idle
	}
	body := &brokerv1.Sandbox{
		SandboxId: newSandboxID(), Tenant: tenant, Provider: provider, Idle: proto.CloneOf(idle),
		CreatedAt: timestamppb.New(now), LastActiveAt: timestamppb.New(now),
	}
	if lifetime > 0 {
		body.ExpiresAt = timestamppb.New(now.Add(lifetime))
	}
	return &state.Sandbox{Body: body, Status: lifecycle.New(), Version: 1}
}

// identity is what the sandbox is called at the vendor.
func (s *Service) identity(sb *state.Sandbox) *providerv1.Identity {
	return &providerv1.Identity{SandboxId: sb.ID(), Owner: s.owner, Labels: maps.Clone(sb.Body.GetLabels())}
}

// makeOne makes one sandbox as planned, once for each key.
func (s *Service) makeOne(ctx context.Context, key string, req proto.Message, plan func() (making, error)) (*brokerv1.Sandbox, error) {
	rows, err := s.once(ctx, key, req, func(r *state.Request) ([]*state.Sandbox, error) {
		m, err := plan()
		if err != nil {
			return nil, err
		}
		return s.makeSandboxes(ctx, r, m)
	})
	if err != nil {
		return nil, err
	}
	return rows[0].View(), nil
}

// makeSandboxes stores the rows, then calls the provider. The rows of a refused
// creation are removed; those of one with unknown outcome stay and are settled.
func (s *Service) makeSandboxes(ctx context.Context, r *state.Request, m making) ([]*state.Sandbox, error) {
	opCtx, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	about(ctx, m.rows[0])
	for _, sb := range m.rows {
		sb.Operation = m.op
		if r != nil {
			sb.RequestKey = r.Key
			r.IDs = append(r.IDs, sb.ID())
		}
		unlock, err := s.lock(ctx, sb.ID())
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	for _, sb := range m.rows {
		sb.RetryAt = s.takeoverAt()
		s.demand(sb)
		sb.Events = []*brokerv1.Event{event(ctx, sb, brokerv1.EventType_EVENT_TYPE_SANDBOX_CREATING)}
	}
	err = s.store.InsertSandboxes(ctx, r, m.rows...)
	switch {
	case errors.Is(err, state.ErrNameTaken):
		return nil, nameTaken(m.rows[0].Body.GetName())
	case errors.Is(err, state.ErrKeyTaken):
		return nil, err
	case errors.Is(err, state.ErrNoTenant):
		return nil, noTenant(m.rows[0].Tenant())
	case err != nil:
		return nil, state.Fault(err)
	}
	s.watching.more.Send()
	s.measures.add(m.provider, len(m.rows))
	began := time.Now()
	rows, err := s.finish(ctx, opCtx, m)
	s.metrics.Operation(opCtx, m.provider, m.by, time.Since(began), orFailed(rows, err))
	if ctx.Err() != nil && r == nil {
		s.abandon(opCtx, m.rows)
	}
	return rows, err
}

// orFailed is what became of a creation, as it is counted: a sandbox that the
// provider made and that failed was not made.
func orFailed(rows []*state.Sandbox, err error) error {
	for _, sb := range rows {
		if err == nil && sb.Status.State == providerv1.SandboxState_SANDBOX_STATE_FAILED {
			return failedSandbox(sb.Status)
		}
	}
	return err
}

// finish calls the provider for rows that are stored, and stores its answer.
func (s *Service) finish(ctx, opCtx context.Context, m making) ([]*state.Sandbox, error) {
	vendors, err := s.call(opCtx, m)
	if err == nil && len(vendors) != len(m.rows) {
		err = fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL,
			"provider %s answered with %d sandboxes instead of %d", m.provider, len(vendors), len(m.rows)).With("provider", m.provider)
	}
	if err != nil {
		f := fault.From(err)
		m.trial.failed(f)
		return nil, s.notMade(opCtx, m, f)
	}
	for i, sb := range m.rows {
		if _, err := s.applyObserved(opCtx, sb, vendors[i]); err != nil {
			return nil, err
		}
	}
	for _, sb := range m.rows {
		if err := s.awaitCreated(ctx, opCtx, sb); err != nil {
			return nil, err
		}
		m.trial.made(sb.Status)
	}
	return m.rows, nil
}

func (s *Service) call(ctx context.Context, m making) ([]*providerv1.Sandbox, error) {
	p, err := s.provider(m.provider)
	if err != nil {
		return nil, err
	}
	return m.call(ctx, p)
}

// notMade stores that a creation failed, and returns the error to tell.
func (s *Service) notMade(ctx context.Context, m making, f *fault.Error) error {
	for _, sb := range m.rows {
		if _, err := s.apply(ctx, sb, failure(f)); err != nil {
			return err
		}
	}
	if f.Effect == providerv1.Effect_EFFECT_NONE {
		return f
	}
	return withID(f, m.rows[0].ID())
}

// createPoll bounds how often a slow creation is asked about while somebody
// waits for it.
const (
	createPollFirst = 100 * time.Millisecond
	createPollMax   = 2 * time.Second
)

// awaitCreated asks until a slow creation is done or the caller leaves.
func (s *Service) awaitCreated(ctx, opCtx context.Context, sb *state.Sandbox) error {
	for wait := createPollFirst; sb.Status.State == providerv1.SandboxState_SANDBOX_STATE_CREATING; wait = min(2*wait, createPollMax) {
		if !pause(ctx, wait) || s.life.Err() != nil {
			return nil //nolint:nilerr // leaving is no failure: the creation goes on without its caller
		}
		if _, err := s.ask(opCtx, sb); err != nil {
			return err
		}
	}
	if sb.Status.Gone {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "sandbox %s ended while it was being made", sb.ID()).
			With("sandbox_id", sb.ID())
	}
	return nil
}

// abandon deletes sandboxes whose maker left without an idempotency key: nobody
// can ever claim them.
func (s *Service) abandon(ctx context.Context, rows []*state.Sandbox) {
	for _, sb := range rows {
		if sb.Status.Gone {
			continue
		}
		if err := s.deleteLocked(ctx, sb, "its maker left before it was made"); err != nil {
			s.log.WarnContext(ctx, "abandoned sandbox is not deleted yet", "sandbox_id", sb.ID(), "provider", sb.Body.GetProvider(), "error", err)
		}
	}
}

// pause waits, and reports whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
