package authz

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// Permission is the right to make a group of calls. Those that read and those
// that change something are told by :read and :write.
type Permission string

// Every permission.
const (
	// SandboxRead is about what is known of sandboxes and snapshots from outside.
	SandboxRead Permission = "sandbox:read"
	// SandboxWrite makes, changes and ends sandboxes and snapshots.
	SandboxWrite Permission = "sandbox:write"
	// Exec runs and sees commands. Their arguments are as much inside as their
	// output.
	Exec Permission = "exec"
	// FileRead and FileWrite are about files inside.
	FileRead  Permission = "file:read"
	FileWrite Permission = "file:write"
	// Port sees and reaches ports inside.
	Port Permission = "port"
	// VolumeRead and VolumeWrite are about volumes, not the files in them.
	VolumeRead  Permission = "volume:read"
	VolumeWrite Permission = "volume:write"
	// ProviderRead sees providers and whether they work; ProviderWrite restarts
	// them, for everybody.
	ProviderRead  Permission = "provider:read"
	ProviderWrite Permission = "provider:write"
	// KeyRead and KeyWrite are about API keys of the tenant.
	KeyRead  Permission = "key:read"
	KeyWrite Permission = "key:write"
	// WebhookRead and WebhookWrite are about webhooks of the tenant, which are told of
	// all that happens in it.
	WebhookRead  Permission = "webhook:read"
	WebhookWrite Permission = "webhook:write"
	// TenantRead sees the caller's own tenant, TenantWrite makes, changes and deletes
	// tenants.
	TenantRead  Permission = "tenant:read"
	TenantWrite Permission = "tenant:write"
	// ServerRead sees what serves, ServerWrite ends it.
	ServerRead  Permission = "server:read"
	ServerWrite Permission = "server:write"
	// CostRead sees what the tenant's sandboxes used and cost.
	CostRead Permission = "cost:read"
	// ActivityRead sees what happens at the providers, of all tenants together.
	ActivityRead Permission = "activity:read"
	// HostMount shows folders of the provider's machine to a sandbox. No call takes
	// it by itself: a request to make a sandbox does if it has such a mount.
	HostMount Permission = "host:mount"
	// Any is what everybody has who was recognized.
	Any Permission = "any"
)

// permissions are all that can be given or scoped, by role that has them.
var permissions = map[brokerv1.Role][]Permission{
	brokerv1.Role_ROLE_ADMIN: {
		SandboxRead, SandboxWrite, Exec, FileRead, FileWrite, Port, VolumeRead, VolumeWrite, ProviderRead, ProviderWrite,
		KeyRead, KeyWrite, TenantRead, TenantWrite, ServerRead, ServerWrite, HostMount, CostRead,
		WebhookRead, WebhookWrite, ActivityRead,
	},
	brokerv1.Role_ROLE_OPERATOR: {
		SandboxRead, SandboxWrite, Exec, FileRead, FileWrite, Port, VolumeRead, VolumeWrite, ProviderRead,
		KeyRead, KeyWrite, TenantRead, ServerRead, CostRead,
		WebhookRead, WebhookWrite,
	},
	brokerv1.Role_ROLE_USER: {
		SandboxRead, SandboxWrite, Exec, FileRead, FileWrite, Port, VolumeRead, VolumeWrite, TenantRead, ServerRead, CostRead,
	},
	brokerv1.Role_ROLE_AUDITOR: {
		SandboxRead, VolumeRead, ProviderRead, KeyRead, TenantRead, ServerRead, CostRead,
		WebhookRead,
	},
}

// unconfined are permissions that a scope of providers or labels takes away:
// whoever is kept to a part of a tenant administers none of it, and sees no sums
// over all of it.
var unconfined = []Permission{KeyRead, KeyWrite, TenantWrite, ProviderWrite, ServerWrite, HostMount, CostRead, WebhookRead, WebhookWrite, ActivityRead}

// RoleName returns a role as people write it.
func RoleName(r brokerv1.Role) string {
	return strings.ToLower(strings.TrimPrefix(r.String(), "ROLE_"))
}

// ParseRole reads what RoleName writes.
func ParseRole(name string) (brokerv1.Role, error) {
	for r := range permissions {
		if RoleName(r) == name {
			return r, nil
		}
	}
	return 0, fmt.Errorf("%q is not a role: want admin, operator, user or auditor", name)
}

// parsePermission returns what a word in a scope stands for: a permission, or all
// of a group, as sandbox is sandbox:read and sandbox:write.
func parsePermission(word string) ([]Permission, error) {
	var out []Permission
	groups := make(map[string]bool)
	for _, p := range permissions[brokerv1.Role_ROLE_ADMIN] {
		group, _, _ := strings.Cut(string(p), ":")
		groups[group] = true
		if word == string(p) || word == group {
			out = append(out, p)
		}
	}
	if out == nil {
		return nil, fmt.Errorf("%q is not a permission: want one of %s, or one with :read or :write",
			word, strings.Join(slices.Sorted(maps.Keys(groups)), ", "))
	}
	return out, nil
}
