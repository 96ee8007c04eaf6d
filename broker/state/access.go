package state

import (
	"context"
	"time"

	"github.com/sandbar-dev/sandbar/broker/quota"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// Tenants keeps tenants. The one called default is there from the beginning.
type Tenants interface {
	// InsertTenant stores a new tenant. ErrNameTaken.
	InsertTenant(ctx context.Context, t *brokerv1.Tenant) error
	// Tenant returns one by name. ErrNotFound.
	Tenant(ctx context.Context, name string) (*brokerv1.Tenant, error)
	// ListTenants returns the newest first. ErrBadToken.
	ListTenants(ctx context.Context, p Page) ([]*brokerv1.Tenant, string, error)
	// RemoveTenant drops a tenant without live sandboxes and snapshots, and with it
	// its keys, its requests and the records of what ended and what was used. No sandbox or snapshot
	// can be inserted for it at the same time. ErrNotFound, ErrTenantInUse.
	RemoveTenant(ctx context.Context, name string) error
	// UpdateTenant stores what change makes of a tenant; nobody changes it, and
	// nothing is inserted for it, in between. An error of change is returned and
	// nothing is stored. change may be called again. The name stays. ErrNotFound.
	UpdateTenant(ctx context.Context, name string, change func(*brokerv1.Tenant) error) (*brokerv1.Tenant, error)
	// EnforcedTenants returns those whose sandboxes do not run on when a budget is
	// spent.
	EnforcedTenants(ctx context.Context) ([]*brokerv1.Tenant, error)
	// TenantUse returns what a tenant has and used, counted until now. ErrNotFound.
	TenantUse(ctx context.Context, name string, now time.Time) (quota.Use, error)
}

// Key is an API key.
type Key struct {
	// Body is what users see.
	Body *brokerv1.APIKey
	// Hash is the SHA-256 of the whole key.
	Hash []byte
}

// ID returns the key's id.
func (k *Key) ID() string { return k.Body.GetKeyId() }

// Keys keeps API keys.
type Keys interface {
	// InsertKey stores a new key. ErrNoTenant.
	InsertKey(ctx context.Context, k *Key) error
	// Key returns one by id. ErrNotFound.
	Key(ctx context.Context, id string) (*Key, error)
	// UpdateKey replaces what users see of a key; id, tenant and hash stay.
	// ErrNotFound.
	UpdateKey(ctx context.Context, body *brokerv1.APIKey) error
	// ListKeys returns those of a tenant, or all for "", the newest first.
	// ErrBadToken.
	ListKeys(ctx context.Context, tenant string, p Page) ([]*Key, string, error)
}
