package authn

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Store is what a Directory needs of the broker's state.
type Store interface {
	state.Tenants
	state.Keys
}

// Volumes lists the volumes of the tenant that the context's caller acts for.
type Volumes interface {
	ListVolumes(ctx context.Context, provider string) (*brokerv1.ListVolumesResponse, error)
}

// Directory is the tenants and the API keys of a broker.
type Directory struct {
	store   Store
	volumes Volumes
	log     *slog.Logger
	keys    cache[*state.Key]
	tenants cache[*brokerv1.Tenant]
	watches watches

	end  context.CancelFunc
	done sync.WaitGroup
}

// NewDirectory returns a directory on a store. volumes tells what a tenant that is
// to be deleted still has; log may be nil. The caller closes the directory.
func NewDirectory(store Store, volumes Volumes, log *slog.Logger) *Directory {
	return newDirectory(store, volumes, log, RecheckInterval)
}

func newDirectory(store Store, volumes Volumes, log *slog.Logger, interval time.Duration) *Directory {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, end := context.WithCancel(context.Background())
	d := &Directory{store: store, volumes: volumes, log: log, end: end}
	d.keys.read, d.tenants.read = store.Key, store.Tenant
	d.keys.life, d.tenants.life = interval, interval
	d.done.Go(func() { d.recheck(ctx, interval) })
	return d
}

// Close ends the goroutine. Contexts of Watch then end no more by themselves.
func (d *Directory) Close() {
	d.end()
	d.done.Wait()
}

// EnsureTenants makes the tenants that the configuration names.
func (d *Directory) EnsureTenants(ctx context.Context, names ...string) error {
	for _, name := range names {
		if _, err := d.store.Tenant(ctx, name); err == nil {
			continue
		} else if !errors.Is(err, state.ErrNotFound) {
			return err
		}
		t := &brokerv1.Tenant{Name: name, CreatedAt: timestamppb.Now(), Description: "named in the configuration"}
		if err := d.store.InsertTenant(ctx, t); err != nil && !errors.Is(err, state.ErrNameTaken) {
			return err
		}
		d.log.InfoContext(ctx, "tenant of the configuration is made", "tenant", name)
	}
	return nil
}

// CheckTenant refuses a tenant that there is not.
func (d *Directory) CheckTenant(ctx context.Context, name string) error {
	if name == authz.AllTenants {
		return nil
	}
	_, err := d.tenants.get(ctx, name)
	if errors.Is(err, state.ErrNotFound) {
		return noTenant(name)
	}
	return state.Fault(err)
}

func noTenant(name string) error {
	return fault.Field("tenant", name, "want a tenant that there is; `sandbar tenant ls` lists them")
}

func unauthenticated(format string, args ...any) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID, format, args...)
}

// key recognizes the holder of a key that was made here.
func (d *Directory) key(ctx context.Context, key string) (authz.Principal, error) {
	id := KeyID(key)
	if id == "" {
		return authz.Principal{}, unknownKey()
	}
	k, err := d.keys.get(ctx, id)
	if errors.Is(err, state.ErrNotFound) {
		return authz.Principal{}, unknownKey()
	}
	if err != nil {
		return authz.Principal{}, state.Fault(err)
	}
	if subtle.ConstantTimeCompare(k.Hash, hashKey(key)) == 0 {
		return authz.Principal{}, unknownKey()
	}
	return principalOf(k.Body), void(k.Body, time.Now())
}

// unknownKey does not tell a wrong secret from a key that never was.
func unknownKey() error { return unauthenticated("the API key is not known to this broker") }

func principalOf(k *brokerv1.APIKey) authz.Principal {
	p := authz.Principal{
		Kind: brokerv1.CallerKind_CALLER_KIND_API_KEY, ID: k.GetKeyId(), Name: k.GetName(),
		Tenant: k.GetTenant(), Role: k.GetRole(), Scope: k.GetScope(),
	}
	if k.GetExpiresAt() != nil {
		p.Expires = k.GetExpiresAt().AsTime()
	}
	return p
}

// void says why a key does not hold any more; nil if it does.
func void(k *brokerv1.APIKey, now time.Time) error {
	switch {
	case k.GetRevokedAt() != nil:
		return unauthenticated("the API key %s was revoked at %s", k.GetKeyId(), k.GetRevokedAt().AsTime().Format(time.RFC3339))
	case k.GetExpiresAt() != nil && !now.Before(k.GetExpiresAt().AsTime()):
		return expired("the API key "+k.GetKeyId(), k.GetExpiresAt().AsTime())
	default:
		return nil
	}
}

func expired(what string, at time.Time) error {
	return unauthenticated("%s expired at %s", what, at.UTC().Format(time.RFC3339))
}
