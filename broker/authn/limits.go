package authn

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sandbar-dev/sandbar/broker/quota"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// UpdateTenant changes what the mask names of a tenant.
func (d *Directory) UpdateTenant(ctx context.Context, req *brokerv1.UpdateTenantRequest) (*brokerv1.Tenant, error) {
	p, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	paths := req.GetUpdateMask().GetPaths()
	if len(paths) == 0 {
		return nil, fault.Field("update_mask", "", "want the fields to change, such as limits.max_sandboxes")
	}
	if err := checkText("description", req.GetDescription()); err != nil {
		return nil, err
	}
	from := &brokerv1.Tenant{Description: req.GetDescription(), Limits: req.GetLimits()}
	t, err := d.store.UpdateTenant(ctx, req.GetName(), func(t *brokerv1.Tenant) error {
		for _, path := range paths {
			if !changeable(path) || !take(t.ProtoReflect(), from.ProtoReflect(), strings.Split(path, ".")) {
				return fault.Field("update_mask", path, "want description, or a field of limits, such as limits.max_sandboxes")
			}
		}
		tidy(t)
		return quota.Check(t.GetLimits())
	})
	var refused *fault.Error
	switch {
	case errors.Is(err, state.ErrNotFound):
		return nil, noTenant(req.GetName())
	case errors.As(err, &refused):
		return nil, refused
	case err != nil:
		return nil, state.Fault(err)
	}
	d.tenants.forget(t.GetName())
	d.log.InfoContext(ctx, "tenant is changed", "tenant", t.GetName(), "fields", fmt.Sprint(paths), "caller", p)
	return t, nil
}

func changeable(path string) bool {
	return path == "description" || path == "limits" || strings.HasPrefix(path, "limits.")
}

// take sets the field at a path as it is in from; false if there is no such field.
func take(to, from protoreflect.Message, path []string) bool {
	fd := to.Descriptor().Fields().ByName(protoreflect.Name(path[0]))
	switch {
	case fd == nil || len(path) > 1 && fd.Message() == nil:
		return false
	case len(path) > 1:
		return take(to.Mutable(fd).Message(), from.Get(fd).Message(), path[1:])
	case from.Has(fd):
		to.Set(fd, from.Get(fd))
	default:
		to.Clear(fd)
	}
	return true
}

// tidy takes away what says nothing, so that no limits are no limits in every way
// of writing them.
func tidy(t *brokerv1.Tenant) {
	for _, b := range []*brokerv1.Budget{t.GetLimits().GetDaily(), t.GetLimits().GetMonthly()} {
		if b.GetMoneyMicros() == 0 && b != nil {
			b.Currency = ""
		}
	}
	if proto.Equal(t.GetLimits().GetDaily(), &brokerv1.Budget{}) {
		t.Limits.Daily = nil
	}
	if proto.Equal(t.GetLimits().GetMonthly(), &brokerv1.Budget{}) {
		t.Limits.Monthly = nil
	}
	if quota.None(t.GetLimits()) {
		t.Limits = nil
	}
}
