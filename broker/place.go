package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/placement"
	"github.com/sandbar-dev/sandbar/broker/policy"
	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// maxTries is how many providers one creation is tried at: each may take as long
// as a call may, and a caller waits for all of them.
const maxTries = 3

// makePlaced makes a sandbox at the best provider, or at the next one where that
// proves that it made nothing. Not knowing what it made ends the search: the row
// then stays and is settled.
func (s *Service) makePlaced(ctx context.Context, r *state.Request, req *brokerv1.CreateSandboxRequest) ([]*state.Sandbox, error) {
	place, release, err := s.decide(ctx, req, true)
	if err != nil {
		return nil, err
	}
	names := ranked(place)
	names = names[:min(len(names), maxTries)]
	for i, name := range names {
		if i > 0 {
			var ok bool
			if release, ok = s.measures.claim(name, s.opts.Clock()); !ok {
				continue // its circuit has opened meanwhile
			}
		}
		place.Provider = name
		rows, refused, tryErr := s.tryAt(ctx, r, req, place, i < len(names)-1)
		release()
		err = withTries(tryErr, place)
		if refused == nil || ctx.Err() != nil {
			return rows, err
		}
		place.Attempts = append(place.Attempts, &brokerv1.PlacementAttempt{
			Provider: name, At: timestamppb.New(s.opts.Clock()), Reason: fault.Name(refused.Reason), Message: refused.Message,
		})
		s.log.InfoContext(ctx, "provider did not make the sandbox", "provider", name, "error", refused, "attempt", i+1)
	}
	return nil, err
}

// tryAt makes a sandbox at the provider of a placement. refused is the provider's
// proof that it made nothing, if another one may be tried.
func (s *Service) tryAt(ctx context.Context, r *state.Request, req *brokerv1.CreateSandboxRequest, place *brokerv1.Placement, more bool) (rows []*state.Sandbox, refused *fault.Error, err error) {
	name, trial := place.GetProvider(), newTrial(s.opts.Clock)
	defer func() { s.measure(name, trial) }()
	var opts []grpc.CallOption
	if more {
		opts = append(opts, provider.OrElsewhere())
	}
	m, err := s.planCreate(ctx, req, name, opts...)
	if err != nil {
		trial.failed(fault.From(err))
	} else {
		trial.began = s.opts.Clock() // a plugin that had to be started is not slow
		m.trial = trial
		m.rows[0].Placement = proto.CloneOf(place)
		rows, err = s.makeSandboxes(ctx, fresh(r), m)
	}
	// An error of the broker itself, such as one of its store, is not the provider's
	// word.
	if f := trial.said; f != nil && f.Elsewhere() && errors.Is(err, error(f)) {
		refused = f
	}
	return rows, refused, err
}

// fresh is a request that no attempt has written to.
func fresh(r *state.Request) *state.Request {
	if r == nil {
		return nil
	}
	c := *r
	c.IDs = nil
	return &c
}

// measure takes over what a trial says about a provider.
func (s *Service) measure(name string, t *trial) {
	if t.done && s.measures.record(name, s.opts.Clock(), t.took, t.said) {
		s.poke() // to be stored at once
	}
}

// withTries says in a provider's error which others were asked before.
func withTries(err error, place *brokerv1.Placement) error {
	var last *fault.Error
	if len(place.GetAttempts()) == 0 || !errors.As(err, &last) {
		return err
	}
	f := *last
	var tried []string
	for _, a := range place.GetAttempts() {
		f.Message += "; before that, " + a.GetProvider() + ": " + a.GetMessage()
		tried = append(tried, a.GetProvider())
	}
	return f.With("tried", strings.Join(tried, ","))
}

// ranked returns the providers that could be chosen, the best first.
func ranked(p *brokerv1.Placement) []string {
	var out []string
	for _, c := range p.GetCandidates() {
		if len(c.GetObstacles()) == 0 {
			out = append(out, c.GetProvider())
		}
	}
	return out
}

const (
	// describeSoon is how long providers that are just starting are waited for while
	// others could be chosen: starting takes less than a second, and a choice without
	// the best one is a poor choice. describeLong is for while none could.
	describeSoon = 10 * time.Second
	describeLong = time.Minute
)

// decide chooses. Refusing, it returns the placement too, which says why. With
// claim the caller must call release when it has tried the chosen one.
func (s *Service) decide(ctx context.Context, req *brokerv1.CreateSandboxRequest, claim bool) (place *brokerv1.Placement, release func(), err error) {
	who, err := s.caller(ctx)
	if err != nil {
		return nil, nil, err
	}
	needs := s.requirements(who, req)
	names, note := s.names(who), ""
	switch {
	case len(names) == 0 && len(s.providers.Names()) > 0:
		return nil, nil, who.NeedProvider(s.providers.Names()[0])
	case len(names) == 0:
		return nil, nil, fault.New(providerv1.ErrorReason_ERROR_REASON_NOT_CONFIGURED, "no provider is configured: add one to the configuration")
	case needs.PinnedBy != "" && !slices.Contains(names, needs.Provider):
		return nil, nil, outOfScope(who, needs)
	case needs.PinnedBy != "":
		note = fmt.Sprintf("rule %q pins it", needs.PinnedBy)
	case needs.Provider != "":
		note = "the request names it"
	case len(names) == 1 && s.policy(names[0]).Weight > 0:
		needs.Provider, note = names[0], "it is the only provider configured"
		if len(s.providers.Names()) > 1 {
			note = "it is the only provider in the scope of " + who.String()
		}
	}
	if needs.Provider != "" {
		place, err = s.decideNamed(ctx, needs, names)
		place.Note = note
		return place, func() {}, err
	}
	for _, wait := range []time.Duration{describeSoon, describeLong} {
		candidates, starting := s.candidates(ctx, needs, names, wait)
		place, release = s.measures.place(needs, candidates, s.opts.Clock(), claim)
		if place.GetProvider() != "" || !starting || ctx.Err() != nil {
			break
		}
	}
	if place.GetProvider() == "" {
		return place, release, noProvider(place, s.opts.Clock())
	}
	return place, release, nil
}

// requirements are those of a request, and the rules that are about it.
func (s *Service) requirements(who authz.Principal, req *brokerv1.CreateSandboxRequest) placement.Requirements {
	lifetime := s.lifetime(req.GetLifetime(), req.GetSpec().GetLifetime())
	return s.opts.Rules.Bind(placement.Derive(req, lifetime), policy.Query{
		Request: req, Tenant: who.Acting, Lifetime: lifetime,
		Caller: policy.Caller{
			Kind: strings.ToLower(strings.TrimPrefix(who.Kind.String(), "CALLER_KIND_")), Role: authz.RoleName(who.Role),
			ID: who.ID, Name: who.Name, Issuer: who.Issuer, Tenant: who.Tenant,
		},
	})
}

// outOfScope refuses a caller whom a rule pins to a provider that is not there for
// them.
func outOfScope(who authz.Principal, needs placement.Requirements) error {
	message := placement.Pinned(needs.PinnedBy, needs.Provider)
	if who.Uses(needs.Provider) {
		message += ", which is not configured"
	} else {
		message += ", which is not in the scope of " + who.String()
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED, "%s", message).
		With("rule", needs.PinnedBy).With("provider", needs.Provider)
}

// decideNamed is for a provider that has no alternative. It waits for it as long
// as a call would, and leaves to it what only was measured.
func (s *Service) decideNamed(ctx context.Context, needs placement.Requirements, names []string) (*brokerv1.Placement, error) {
	p, err := s.provider(needs.Provider)
	if err != nil {
		return &brokerv1.Placement{}, err
	}
	described, err := p.Description(ctx)
	if err != nil {
		return &brokerv1.Placement{}, err
	}
	var candidates []placement.Candidate
	for _, name := range names {
		c := s.candidate(name)
		if name == needs.Provider {
			c.Described = described
		}
		candidates = append(candidates, c)
	}
	place, _ := s.measures.place(needs, candidates, s.opts.Clock(), false)
	if place.GetProvider() == "" {
		return place, unsuited(needs.Provider, provider.NewSet(described), place)
	}
	return place, nil
}

func (s *Service) policy(name string) placement.Policy {
	if p, ok := s.opts.Placement[name]; ok {
		return p
	}
	return placement.Policy{Weight: placement.DefaultWeight}
}

func (s *Service) candidate(name string) placement.Candidate {
	return placement.Candidate{Name: name, Policy: s.policy(name), Default: name == s.providers.Default(), NotReady: s.providers.Unreachable(name)}
}

// candidates describes the providers with these names. It waits for those that are starting;
// starting is true if one has not said yet what it can do.
func (s *Service) candidates(ctx context.Context, needs placement.Requirements, names []string, wait time.Duration) (out []placement.Candidate, starting bool) {
	for _, name := range names {
		out = append(out, s.candidate(name))
	}
	waitCtx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var all sync.WaitGroup
	for i := range out {
		c := &out[i]
		p, ok := s.providers.Provider(c.Name)
		switch {
		case !ok:
			c.NotReady = "it is not started"
		case c.NotReady != "":
			c.Described = p.Described()
		default:
			all.Go(func() { s.describe(waitCtx, p, needs, c) })
		}
	}
	all.Wait()
	for _, c := range out {
		starting = starting || c.Described == nil && c.NotReady == ""
	}
	return out, starting
}

// describe asks one provider what placing a sandbox there takes. One that is still
// starting when ctx ends stays as it is.
func (s *Service) describe(ctx context.Context, p *provider.Provider, needs placement.Requirements, c *placement.Candidate) {
	described, err := p.Description(ctx)
	if err != nil {
		if ctx.Err() == nil {
			c.NotReady = fault.From(err).Message
		}
		return
	}
	c.Described = described
	if len(needs.Volumes) == 0 || !provider.NewSet(described).Has("volume") {
		return
	}
	if c.Volumes, err = s.volumeNames(ctx, c.Name, p); err != nil {
		c.NotReady = "it does not list its volumes: " + fault.From(err).Message
	}
}

// inRegion returns the spec to ask a provider for. Where the configuration says
// that the provider is in the region that is wanted, choosing it was all there was
// to do, unless it can choose among regions itself.
func (s *Service) inRegion(name string, set provider.Set, spec *providerv1.SandboxSpec) *providerv1.SandboxSpec {
	if spec.GetRegion() == "" || spec.GetRegion() != s.policy(name).Region || set.Has("placement.region") {
		return spec
	}
	spec = proto.CloneOf(spec)
	spec.Region = ""
	return spec
}
