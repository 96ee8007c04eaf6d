package broker

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// caller returns who makes a call. What the service does by itself needs nobody
// and goes to the store.
func (s *Service) caller(ctx context.Context) (authz.Principal, error) {
	if who, ok := authz.From(ctx); ok {
		return who, nil
	}
	if s.opts.Caller != nil {
		return *s.opts.Caller, nil
	}
	return authz.Principal{}, fault.New(providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID, "the call is nobody's")
}

// maker returns who makes something, which needs one tenant to belong to.
func (s *Service) maker(ctx context.Context) (authz.Principal, error) {
	who, err := s.caller(ctx)
	if err == nil && who.Acting == authz.AllTenants {
		err = fault.Field("tenant", authz.AllTenants, "want the one tenant that it is to belong to")
	}
	return who, err
}

// isID tells ids from names, which hold no underscore.
func isID(idOrName string) bool { return strings.Contains(idOrName, "_") }

func sees(who authz.Principal, sb *state.Sandbox) bool {
	return who.Sees(sb.Tenant(), sb.Body.GetProvider(), sb.Body.GetLabels())
}

func seesSnapshot(who authz.Principal, sn *state.Snapshot) bool {
	return who.Sees(sn.Tenant(), sn.Body.GetProvider(), sn.Body.GetLabels())
}

// tenantFilter is how listings are asked for the tenant of a call; "" is all.
func tenantFilter(who authz.Principal) string {
	if who.Acting == authz.AllTenants {
		return ""
	}
	return who.Acting
}

// filter narrows a listing to what the caller sees. It reports whether there can
// be anything.
func filter(who authz.Principal, f state.Filter) (state.Filter, bool) {
	f.Tenant, f.Providers = tenantFilter(who), who.Scope.GetProviders()
	labels, err := who.Labelled(f.Labels)
	f.Labels = labels
	return f, err == nil
}

// names are the providers that the caller may use.
func (s *Service) names(who authz.Principal) []string {
	return slices.DeleteFunc(slices.Clone(s.providers.Names()), func(name string) bool { return !who.Uses(name) })
}

// asCaller returns a creation as its maker may ask for it: with the labels of the
// maker's scope, and without what the maker has no permission for.
func asCaller(who authz.Principal, req *brokerv1.CreateSandboxRequest) (*brokerv1.CreateSandboxRequest, error) {
	if req.GetProvider() != "" {
		if err := who.NeedProvider(req.GetProvider()); err != nil {
			return nil, err
		}
	}
	for _, m := range req.GetSpec().GetMounts() {
		if m.GetHostPath() == "" {
			continue
		}
		if err := who.Need(authz.HostMount, "a mount of a folder of the provider's machine"); err != nil {
			return nil, err
		}
	}
	labels, err := who.Labelled(req.GetLabels())
	if err != nil || len(labels) == len(req.GetLabels()) {
		return req, err
	}
	req = proto.CloneOf(req)
	req.Labels = labels
	return req, validateLabels(labels)
}

// labelsOfScope adds the labels of the caller's scope to those of a request.
func (s *Service) labelsOfScope(ctx context.Context, labels *map[string]string) error {
	who, err := s.caller(ctx)
	if err != nil {
		return err
	}
	all, err := who.Labelled(*labels)
	if err != nil {
		return err
	}
	*labels = all
	return validateLabels(all)
}

// noTenant is for a tenant that was deleted while a call was under way.
func noTenant(name string) error {
	return fault.Field("tenant", name, "want a tenant that there is")
}

func keyReused(key string) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED,
		"idempotency key %q was used for another request; use a fresh key", key).With("idempotency_key", key)
}
