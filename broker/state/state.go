package state

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/metering"
	"github.com/sandbar-dev/sandbar/broker/placement"
	"github.com/sandbar-dev/sandbar/broker/quota"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Errors of a Store. Everything else is trouble with the store itself.
var (
	// ErrNotFound: no such record.
	ErrNotFound = errors.New("no such record")
	// ErrConflict: the record changed, or ended, since it was read.
	ErrConflict = errors.New("the record changed since it was read")
	// ErrNameTaken: a live record has this name.
	ErrNameTaken = errors.New("the name is taken")
	// ErrKeyTaken: a request with this idempotency key is stored.
	ErrKeyTaken = errors.New("the idempotency key is taken")
	// ErrNoTenant: there is no tenant of this name.
	ErrNoTenant = errors.New("no such tenant")
	// ErrTenantInUse: the tenant has live sandboxes or snapshots.
	ErrTenantInUse = errors.New("the tenant has sandboxes or snapshots")
	// ErrBadToken: a page token that this store did not give for this filter.
	ErrBadToken = errors.New("not a page token of this listing")
)

// Sandbox is one sandbox.
type Sandbox struct {
	// Body is what users see, except state and status_reason, which are in
	// Status; View joins them. Body.Observed keeps the provider's handle.
	Body *brokerv1.Sandbox
	// Status is where it stands.
	Status lifecycle.Status
	// Operation is the key and digest it is made with; copies of one fork share
	// them.
	Operation *providerv1.Operation
	// RequestKey is the client's idempotency key, or empty.
	RequestKey string
	// RetryAt is when the reconciler has to look at it again; zero: not because
	// of an unfinished operation.
	RetryAt time.Time
	// Attempts counts reconciliations in a row that did not settle it.
	Attempts int
	// GoneAt is when it ended; zero while Status.Gone is false.
	GoneAt time.Time
	// Version grows with each update.
	Version int64
	// Placement is why it is where it is. It is stored when the sandbox is inserted,
	// and read by Store.Placement alone, as nothing else asks for it.
	Placement *brokerv1.Placement
	// Events tell of the change that is stored next, and are stored with it. The
	// store takes them away then.
	Events []*brokerv1.Event
	// Meter is what it is counted as, and since when. Body.Rate says by what.
	Meter metering.Meter
	// Used is what it used until the change that is stored next, and is stored with
	// it. The store takes it away then.
	Used []metering.Piece
	// Admission, if it is not nil, is what the change that is stored next demands of
	// the tenant's limits, which are asked with it. The store takes it away then.
	Admission *quota.Demand
	// Heir, if it is not nil, is another sandbox whose change is stored with the change
	// that is stored next, after it, so that it can have the name that this one gives
	// up. The store takes it away then.
	Heir *Sandbox
}

// ID returns the sandbox's id.
func (s *Sandbox) ID() string { return s.Body.GetSandboxId() }

// Tenant returns who owns it; that never changes.
func (s *Sandbox) Tenant() string { return s.Body.GetTenant() }

// Ref addresses the sandbox at its provider, with the handle if there is one.
func (s *Sandbox) Ref() *providerv1.SandboxRef {
	return &providerv1.SandboxRef{SandboxId: s.ID(), Handle: s.Body.GetObserved().GetHandle()}
}

// View returns the sandbox as users see it. Handle and operation are between
// the broker and the provider and are left out.
func (s *Sandbox) View() *brokerv1.Sandbox {
	v := proto.CloneOf(s.Body)
	v.State, v.StatusReason = s.Status.State, s.Status.Reason
	if o := v.GetObserved(); o != nil {
		o.Handle, o.Operation = nil, nil
	}
	return v
}

// Clone returns a deep copy.
func (s *Sandbox) Clone() *Sandbox {
	c := *s
	c.Body = proto.CloneOf(s.Body)
	c.Operation = proto.CloneOf(s.Operation)
	return &c
}

// Expires returns the end of its lifetime, or zero.
func (s *Sandbox) Expires() time.Time { return moment(s.Body.GetExpiresAt()) }

// LastActive returns when it was used last.
func (s *Sandbox) LastActive() time.Time { return moment(s.Body.GetLastActiveAt()) }

// IdleAt returns when it becomes idle if nobody uses it before, or zero.
func (s *Sandbox) IdleAt() time.Time {
	timeout := s.Body.GetIdle().GetTimeout().AsDuration()
	if timeout <= 0 || s.Status.State != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		return time.Time{}
	}
	return s.LastActive().Add(timeout)
}

// DueAt returns when the reconciler has to look at it, or zero. A back-off goes
// before everything else; what is being deleted need not expire.
func (s *Sandbox) DueAt() time.Time {
	if s.Status.Gone {
		return time.Time{}
	}
	if !s.RetryAt.IsZero() {
		return s.RetryAt
	}
	return earliest(s.Expires(), s.IdleAt())
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func moment(ts *timestamppb.Timestamp) time.Time {
	if ts == nil {
		return time.Time{}
	}
	return ts.AsTime()
}

// Snapshot is one snapshot.
type Snapshot struct {
	// Body is what users see, except the state; View joins them.
	Body *brokerv1.Snapshot
	// Handle is the provider's own memory of it.
	Handle *providerv1.Handle
	// Spec is what the sandbox it was taken from was asked to be.
	Spec *providerv1.SandboxSpec
	// Operation is the key and digest it is made with.
	Operation *providerv1.Operation
	// RequestKey is the client's idempotency key, or empty.
	RequestKey string
	// Ready is false from before the provider is asked to make it until it
	// answered that it did.
	Ready bool
	// Deleting is true from before the provider is asked to delete it until it
	// answered that it did, when the row goes, or that it never will.
	Deleting bool
}

// ID returns the snapshot's id.
func (s *Snapshot) ID() string { return s.Body.GetSnapshotId() }

// Tenant returns who owns it; that never changes.
func (s *Snapshot) Tenant() string { return s.Body.GetTenant() }

// View returns the snapshot as users see it, which is one that was made.
func (s *Snapshot) View() *brokerv1.Snapshot {
	v := proto.CloneOf(s.Body)
	v.State = brokerv1.SnapshotState_SNAPSHOT_STATE_READY
	if s.Deleting {
		v.State = brokerv1.SnapshotState_SNAPSHOT_STATE_DELETING
	}
	return v
}

// Request remembers a client's call with an idempotency key: the same call
// again gets the same records.
type Request struct {
	// Tenant is whose key it is; another tenant's is another key.
	Tenant string
	Key    string
	// Digest tells the same call from another with the same key.
	Digest []byte
	// IDs are the records it made.
	IDs []string
	At  time.Time
}

// Filter chooses sandboxes; the zero value chooses all live ones.
type Filter struct {
	// Labels must all match exactly.
	Labels map[string]string
	// Tenant is a name, or empty for all.
	Tenant string
	// Provider is a name, or empty for all.
	Provider string
	// Providers are names of which one must match; empty for all.
	Providers []string
	// States to include; empty for every state.
	States []providerv1.SandboxState
}

// Page asks for one page of a listing.
type Page struct {
	// Size is at least 1.
	Size int
	// Token is empty for the first page, then the one the page before returned.
	Token string
}

// Sandboxes keeps sandboxes.
type Sandboxes interface {
	// InsertSandboxes stores new sandboxes, all of one tenant, and the request that
	// asks for them unless it is nil, all or nothing. ErrNameTaken, ErrKeyTaken,
	// ErrNoTenant, or the refusal of quota.Admit.
	InsertSandboxes(ctx context.Context, req *Request, sandboxes ...*Sandbox) error
	// Sandbox returns one, live or gone, by id. ErrNotFound.
	Sandbox(ctx context.Context, id string) (*Sandbox, error)
	// SandboxNamed returns a tenant's live sandbox by name. ErrNotFound.
	SandboxNamed(ctx context.Context, tenant, name string) (*Sandbox, error)
	// UpdateSandbox stores s, which must have the version that was read, and
	// increments s.Version. A last_active_at older than the stored one does not
	// go back. ErrConflict, ErrNameTaken, or the refusal of quota.Admit.
	UpdateSandbox(ctx context.Context, s *Sandbox) error
	// TouchSandbox sets last_active_at without changing the version; a time
	// before the stored one changes nothing.
	TouchSandbox(ctx context.Context, id string, at time.Time) error
	// RemoveSandbox drops a sandbox, and the request if it made nothing else, as if
	// it had never been asked for. One that is absent is fine.
	RemoveSandbox(ctx context.Context, s *Sandbox) error
	// ListSandboxes returns live sandboxes, the newest first, and a token for the
	// next page or "". A record that lives throughout a walk over all pages
	// appears in it exactly once. ErrBadToken.
	ListSandboxes(ctx context.Context, f Filter, p Page) ([]*Sandbox, string, error)
	// DueSandboxes returns at most limit sandboxes whose DueAt has passed, the
	// longest overdue first.
	DueSandboxes(ctx context.Context, now time.Time, limit int) ([]*Sandbox, error)
	// NextDue returns the earliest DueAt, or zero.
	NextDue(ctx context.Context) (time.Time, error)
	// Placement returns what a sandbox, live or gone, was inserted with; nil if that
	// was nothing. ErrNotFound.
	Placement(ctx context.Context, id string) (*brokerv1.Placement, error)
	// CountSandboxes returns how many live sandboxes each provider has; none has no
	// entry.
	CountSandboxes(ctx context.Context) (map[string]int, error)
	// CountStates returns how many live sandboxes of each provider are in each state;
	// none has no entry.
	CountStates(ctx context.Context) (map[string]map[providerv1.SandboxState]int, error)
	// CountDue returns how many sandboxes' DueAt has passed.
	CountDue(ctx context.Context, now time.Time) (int, error)
	// PurgeGone drops what ended before cutoff, and requests as old whose records
	// are no longer live.
	PurgeGone(ctx context.Context, cutoff time.Time) error
}

// SnapshotFilter chooses snapshots; the zero value chooses all.
type SnapshotFilter struct {
	// Tenant is a name, or empty for all.
	Tenant string
	// SandboxID is what they were taken from, or empty for any.
	SandboxID string
	// Open leaves those that are not ready, or that are being deleted.
	Open bool
}

// Snapshots keeps snapshots.
type Snapshots interface {
	// InsertSnapshot stores a new snapshot. ErrNameTaken, ErrKeyTaken, ErrNoTenant.
	InsertSnapshot(ctx context.Context, req *Request, s *Snapshot) error
	// Snapshot returns one by id. ErrNotFound.
	Snapshot(ctx context.Context, id string) (*Snapshot, error)
	// SnapshotNamed returns a tenant's snapshot by name. ErrNotFound.
	SnapshotNamed(ctx context.Context, tenant, name string) (*Snapshot, error)
	// UpdateSnapshot replaces what is stored. ErrNotFound.
	UpdateSnapshot(ctx context.Context, s *Snapshot) error
	// RemoveSnapshot drops one and its request. An absent one is fine.
	RemoveSnapshot(ctx context.Context, id string) error
	// ListSnapshots returns snapshots, the newest first, also those not ready.
	// ErrBadToken.
	ListSnapshots(ctx context.Context, f SnapshotFilter, p Page) ([]*Snapshot, string, error)
}

// Measurements keeps what was measured of providers.
type Measurements interface {
	// Measurements returns all that is stored, by provider.
	Measurements(ctx context.Context) (map[string]placement.Measurement, error)
	// PutMeasurements stores measurements, over those of the same providers.
	PutMeasurements(ctx context.Context, m map[string]placement.Measurement) error
}

// Locks keep brokers that share a store out of each other's way.
type Locks interface {
	// Shared reports whether other brokers may use the store at the same time.
	Shared() bool
	// TryLock takes a name unless another broker has it, until unlock is called or the
	// process ends. It is lost when the store loses its connection: it spares brokers
	// work that would be in vain, and what is stored is guarded by versions all the
	// same. The caller must not take a name that it has. In a store that is not shared
	// it does nothing.
	TryLock(ctx context.Context, name string) (unlock func(), ok bool, err error)
}

// Store is everything the broker remembers.
type Store interface {
	Sandboxes
	Snapshots
	Measurements
	Events
	Uses
	Tenants
	Keys
	Locks
	Webhooks
	// Owner returns the broker's own id, which is made at the first call and
	// stays for the life of the store.
	Owner(ctx context.Context) (string, error)
	// Request returns a tenant's request with a key. ErrNotFound.
	Request(ctx context.Context, tenant, key string) (*Request, error)
	// Close frees the store; calls under way fail.
	Close() error
}
