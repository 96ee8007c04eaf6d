package policy

import (
	"slices"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/sandbar-dev/sandbar/broker/placement"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/image"
)

// The names of what expressions are about.
const (
	varRequest  = "request"
	varTenant   = "tenant"
	varCaller   = "caller"
	varProvider = "provider"
)

// warmLatency is what a provider's recent creations took at most if provider.warm
// is true. From a pool they take some milliseconds, or one round trip to a vendor;
// no vendor starts a cold one so quickly.
const warmLatency = 100 * time.Millisecond

// The types are made for the first rule: most processes that link this package
// never see one, and all would wait for it.

// requestView is what rules see of a request.
type requestView struct {
	*brokerv1.CreateSandboxRequest
	needs    placement.Requirements
	lifetime time.Duration
}

var requestSchema = sync.OnceValue(func() *schema {
	return newSchema("sandbar.Request",
		textField("name", func(r *requestView) string { return r.GetName() }),
		textField("provider", func(r *requestView) string { return r.GetProvider() }),
		textField("image", func(r *requestView) string { return image.Text(r.GetSpec().GetImage()) }),
		numberField("cpu", func(r *requestView) float64 { return float64(r.GetSpec().GetResources().GetCpuMillis()) / 1000 }),
		intField("memory", func(r *requestView) int64 { return r.GetSpec().GetResources().GetMemoryBytes() }),
		intField("disk", func(r *requestView) int64 { return r.GetSpec().GetResources().GetDiskBytes() }),
		intField("pids", func(r *requestView) int64 { return r.GetSpec().GetResources().GetPids() }),
		intField("gpus", func(r *requestView) int64 { return int64(r.GetSpec().GetResources().GetGpu().GetCount()) }),
		textField("gpu_kind", func(r *requestView) string { return r.GetSpec().GetResources().GetGpu().GetKind() }),
		textField("region", func(r *requestView) string { return r.GetSpec().GetRegion() }),
		textField("egress", func(r *requestView) string { return egressText(r.GetSpec().GetEgress().GetMode()) }),
		mapField("labels", func(r *requestView) map[string]string { return r.GetLabels() }),
		mapField("provider_labels", func(r *requestView) map[string]string { return r.GetProviderLabels() }),
		listField("capabilities", (*requestView).capabilities),
		listField("pause_keeps", func(r *requestView) []string { return keepsTexts(r.GetPauseKeeps()) }),
		listField("snapshot_keeps", func(r *requestView) []string { return keepsTexts(r.GetSnapshotKeeps()) }),
		listField("fork_keeps", func(r *requestView) []string { return keepsTexts(r.GetForkKeeps()) }),
		listField("volumes", (*requestView).volumes),
		listField("host_paths", (*requestView).hostPaths),
		field[*requestView]{
			name: "lifetime", typ: types.DurationType, unknown: "request.lifetime has no end: test has(request.lifetime) first",
			get: func(r *requestView) ref.Val {
				if r.lifetime == 0 {
					return nil
				}
				return types.Duration{Duration: r.lifetime}
			},
		},
	)
})

func (r *requestView) capabilities() []string {
	var out []string
	for _, n := range r.needs.Needs {
		out = append(out, n.Capability)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (r *requestView) volumes() []string {
	var out []string
	for _, v := range r.needs.Volumes {
		out = append(out, v.Value)
	}
	return out
}

func (r *requestView) hostPaths() []string {
	var out []string
	for _, m := range r.GetSpec().GetMounts() {
		if p := m.GetHostPath(); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// egressText is a mode in small letters; without one nothing leaves.
func egressText(m providerv1.EgressMode) string {
	if m == providerv1.EgressMode_EGRESS_MODE_UNSPECIFIED {
		m = providerv1.EgressMode_EGRESS_MODE_DENY
	}
	return strings.ToLower(strings.TrimPrefix(m.String(), "EGRESS_MODE_"))
}

func keepsTexts(k *providerv1.Keeps) []string {
	var out []string
	for _, e := range []struct {
		name string
		kept bool
	}{{"disk", k.GetDisk()}, {"memory", k.GetMemory()}, {"processes", k.GetProcesses()}} {
		if e.kept {
			out = append(out, e.name)
		}
	}
	return out
}

var callerSchema = sync.OnceValue(func() *schema {
	return newSchema("sandbar.Caller",
		textField("kind", func(c *Caller) string { return c.Kind }),
		textField("id", func(c *Caller) string { return c.ID }),
		textField("name", func(c *Caller) string { return c.Name }),
		textField("issuer", func(c *Caller) string { return c.Issuer }),
		textField("role", func(c *Caller) string { return c.Role }),
		textField("tenant", func(c *Caller) string { return c.Tenant }),
	)
})

// providerView is what rules see of a candidate.
type providerView struct {
	placement.Candidate
	now time.Time
}

var providerSchema = sync.OnceValue(func() *schema {
	return newSchema("sandbar.Provider",
		textField("name", func(p *providerView) string { return p.Name }),
		mapField("labels", func(p *providerView) map[string]string { return p.Labels }),
		textField("region", func(p *providerView) string { return p.Region }),
		listField("capabilities", (*providerView).capabilities),
		intField("sandboxes", func(p *providerView) int64 { return int64(p.Live) }),
		numberField("failure_rate", func(p *providerView) float64 { return p.Measured.FailureRate(p.now) }),
		textField("circuit", func(p *providerView) string { return p.Measured.Circuit(p.now).String() }),
		boolField("warm", func(p *providerView) bool {
			latency, known := p.Measured.Measured(p.now)
			return known && latency <= warmLatency
		}),
		field[*providerView]{
			name: "latency", typ: types.DurationType, unknown: "provider.latency is not known: test has(provider.latency) first",
			get: func(p *providerView) ref.Val {
				latency, known := p.Measured.Measured(p.now)
				if !known {
					return nil
				}
				return types.Duration{Duration: latency}
			},
		},
	)
})

// capabilities are those that a request may use.
func (p *providerView) capabilities() []string {
	var out []string
	for _, c := range p.Described.GetCapabilities() {
		if c.GetState() == providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED {
			out = append(out, c.GetId())
		}
	}
	slices.Sort(out)
	return out
}

// schemaOf returns the type of a variable; nil if it has no fields.
func schemaOf(variable string) *schema {
	switch variable {
	case varRequest:
		return requestSchema()
	case varCaller:
		return callerSchema()
	case varProvider:
		return providerSchema()
	}
	return nil
}

func schemaByType(name string) *schema {
	for _, s := range []*schema{requestSchema(), callerSchema(), providerSchema()} {
		if s.typ.TypeName() == name {
			return s
		}
	}
	return nil
}

// variables are what one evaluation is about. provider is nil where it is about
// the request alone.
type variables struct {
	request, tenant, caller, provider ref.Val
}

var _ cel.Activation = variables{}

func newVariables(q Query, needs placement.Requirements) variables {
	return variables{
		request: object{requestSchema().typ, &requestView{q.Request, needs, q.Lifetime}},
		tenant:  types.String(q.Tenant),
		caller:  object{callerSchema().typ, &q.Caller},
	}
}

func (v variables) of(c placement.Candidate, now time.Time) variables {
	v.provider = object{providerSchema().typ, &providerView{c, now}}
	return v
}

// ResolveName implements cel.Activation.
func (v variables) ResolveName(name string) (any, bool) {
	var out ref.Val
	switch name {
	case varRequest:
		out = v.request
	case varTenant:
		out = v.tenant
	case varCaller:
		out = v.caller
	case varProvider:
		out = v.provider
	}
	return out, out != nil
}

// Parent implements cel.Activation.
func (variables) Parent() cel.Activation { return nil }
