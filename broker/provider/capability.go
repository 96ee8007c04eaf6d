package provider

import (
	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/guard"
)

// Set is what a provider declared. The zero Set holds nothing.
type Set struct {
	described *providerv1.DescribeResponse
}

// NewSet returns the declarations of an answer to Describe, which must not be
// changed afterwards.
func NewSet(d *providerv1.DescribeResponse) Set { return Set{described: d} }

// Get returns one declaration, or nil. There are some fifty, so looking through
// them costs less than keeping an index in step.
func (s Set) Get(id string) *providerv1.Capability {
	for _, c := range s.described.GetCapabilities() {
		if c.GetId() == id {
			return c
		}
	}
	return nil
}

// Has reports whether id is declared and switched on.
func (s Set) Has(id string) bool {
	return s.Get(id).GetState() == providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED
}

// IDs returns all that Has is true of, in the provider's order.
func (s Set) IDs() []string {
	var out []string
	for _, c := range s.described.GetCapabilities() {
		if s.Has(c.GetId()) {
			out = append(out, c.GetId())
		}
	}
	return out
}

// Limit returns a numeric promise of a capability, or of the provider as a whole
// where id is empty; false if it makes none.
func (s Set) Limit(id, name string) (int64, bool) {
	limits := s.described.GetLimits()
	if id != "" {
		limits = s.Get(id).GetLimits()
	}
	v, ok := limits[name]
	return v, ok
}

// Need returns nil if id is supported, and the refusal that the provider itself
// would have to answer if not.
func (s Set) Need(id, field string) error {
	c := s.Get(id)
	var e *fault.Error
	switch {
	case c == nil:
		e = fault.Unsupported(id)
	case c.GetState() == providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED:
		return nil
	default:
		e = fault.New(providerv1.ErrorReason_ERROR_REASON_CAPABILITY_DISABLED,
			"capability %s is switched off: %s", id, c.GetReason()).
			With(fault.MetaCapability, id).With("why", c.GetReason())
	}
	if field != "" {
		e = e.With(fault.MetaField, field)
	}
	if alternative := c.GetAlternative(); alternative != "" {
		e = e.With("alternative", alternative)
	}
	return e.With("provider", s.described.GetName())
}

// Check returns the first refusal that a call would meet for want of a
// capability. method is the gRPC name.
func (s Set) Check(method string, req proto.Message) error {
	if id := guard.Method(method); id != "" {
		if err := s.Need(id, ""); err != nil {
			return err
		}
	}
	for _, n := range guard.Uses(req) {
		if err := s.Need(n.Capability, n.Field); err != nil {
			return err
		}
	}
	return nil
}
