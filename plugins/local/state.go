package local

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/local/record"
	"github.com/sandbar-dev/sandbar/plugins/local/shim"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// refresh returns what is true of a sandbox now: its record, corrected where its
// process died. The caller holds the sandbox's lock.
func (d *Driver) refresh(store *record.Store, id string) (*providerv1.Sandbox, error) {
	dir := store.SandboxDir(id)
	// Liveness first: a shim writes its last record before it ends, so a record
	// read after a shim was seen dead is final.
	alive, err := shim.Alive(dir)
	if err != nil {
		return nil, internal(providerv1.Effect_EFFECT_NONE, "look for the sandbox's process: %w", err)
	}
	rec, err := store.Sandbox(id)
	if errors.Is(err, fs.ErrNotExist) {
		if alive {
			return nil, notFound(id) // it is just expiring
		}
		// A sandbox that expired by itself leaves its mount point.
		return nil, errors.Join(notFound(id), store.RemoveSandbox(id))
	}
	if err != nil {
		return nil, internal(providerv1.Effect_EFFECT_NONE, "read record: %w", err)
	}
	if alive {
		return rec.Sandbox, nil
	}
	sb := rec.Sandbox
	if at := sb.GetExpiresAt(); at != nil && time.Now().After(at.AsTime()) {
		return nil, errors.Join(notFound(id), store.RemoveSandbox(id))
	}
	switch sb.GetState() {
	case providerv1.SandboxState_SANDBOX_STATE_CREATING:
		// Its maker died before it could answer: nobody was told of it.
		return nil, errors.Join(notFound(id), store.RemoveSandbox(id))
	case providerv1.SandboxState_SANDBOX_STATE_RUNNING:
		died(sb)
		if err := store.PutSandbox(rec); err != nil {
			return nil, internal(providerv1.Effect_EFFECT_NONE, "write record: %w", err)
		}
	}
	return sb, nil
}

// reap brings the record in line after a sandbox's process ended, for whatever
// reason.
func (d *Driver) reap(id string) {
	store, _, err := d.open()
	if err != nil {
		return // the plugin is stopping; the next one finds out by itself
	}
	unlock, err := d.locks.lock(context.Background(), id)
	if err != nil {
		return
	}
	defer unlock()
	_, err = d.refresh(store, id)
	if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
		d.release(context.Background(), id)
		return
	}
	if err != nil {
		d.log.Error("look after a sandbox that ended", "sandbox_id", id, "error", err)
	}
}

// current is refresh for callers without the lock. While another call changes
// the sandbox, its last committed record is the answer, unless its process is
// seen to be dead.
func (d *Driver) current(store *record.Store, id string) (*providerv1.Sandbox, error) {
	if unlock, ok := d.locks.tryLock(id); ok {
		defer unlock()
		return d.refresh(store, id)
	}
	alive, err := shim.Alive(store.SandboxDir(id))
	if err != nil {
		return nil, internal(providerv1.Effect_EFFECT_NONE, "look for the sandbox's process: %w", err)
	}
	rec, err := store.Sandbox(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(id)
	}
	if err != nil {
		return nil, internal(providerv1.Effect_EFFECT_NONE, "read record: %w", err)
	}
	if sb := rec.Sandbox; !alive && sb.GetState() == providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		died(sb)
	}
	return rec.Sandbox, nil
}

// died makes a sandbox whose process is gone say so.
func died(sb *providerv1.Sandbox) {
	sb.State = providerv1.SandboxState_SANDBOX_STATE_FAILED
	sb.StatusReason = "the sandbox's process was killed"
}

// GetSandbox implements sdk.Driver.
func (d *Driver) GetSandbox(ctx context.Context, req *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
	store, _, err := d.open()
	if err != nil {
		return nil, err
	}
	if req.GetIdempotencyKey() == "" {
		return d.current(store, req.GetSandbox().GetSandboxId())
	}
	return d.settle(ctx, store, req.GetIdempotencyKey())
}

// settle answers what a key was spent on, after any call with it that is under
// way: of a fork, a copy that exists. When the answer is that nothing was made,
// nothing will be: the key is fenced.
func (d *Driver) settle(ctx context.Context, store *record.Store, idempotencyKey string) (*providerv1.Sandbox, error) {
	settled, err := d.locks.lock(ctx, keyLock(idempotencyKey))
	if err != nil {
		return nil, err
	}
	defer settled()
	key, err := store.Settle(idempotencyKey)
	if err != nil {
		return nil, internal(providerv1.Effect_EFFECT_NONE, "settle idempotency key: %w", err)
	}
	absent := fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND,
		"no sandbox was made with idempotency key %q", idempotencyKey).With("idempotency_key", idempotencyKey)
	if key.Fenced {
		return nil, absent
	}
	if key.Open {
		if err := d.deleteCopies(ctx, key.IDs); err != nil {
			return nil, err
		}
	}
	for _, id := range key.IDs {
		sb, err := d.settled(ctx, store, id)
		if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
			return sb, err
		}
	}
	if err := store.Fence(idempotencyKey); err != nil {
		return nil, internal(providerv1.Effect_EFFECT_NONE, "settle idempotency key: %w", err)
	}
	return nil, absent
}

// settled is refresh for callers without the lock who have to know for sure.
func (d *Driver) settled(ctx context.Context, store *record.Store, id string) (*providerv1.Sandbox, error) {
	unlock, err := d.locks.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return d.refresh(store, id)
}

const (
	defaultPage = 100
	maxPage     = 1000
)

// ListSandboxes implements sdk.Driver. The token is the last id of a page.
func (d *Driver) ListSandboxes(ctx context.Context, req *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error) {
	store, _, err := d.open()
	if err != nil {
		return nil, err
	}
	ids, err := store.SandboxIDs()
	if err != nil {
		return nil, internal(providerv1.Effect_EFFECT_NONE, "list sandboxes: %w", err)
	}
	out := &providerv1.ListSandboxesResponse{}
	size := pageSize(req.GetPageSize())
	start, _ := slices.BinarySearchFunc(ids, req.GetPageToken(), func(id, token string) int {
		if id <= token {
			return -1
		}
		return 1
	})
	for _, id := range ids[start:] {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		sb, err := d.current(store, id)
		if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if sb.GetIdentity().GetOwner() != req.GetOwner() {
			continue
		}
		if len(out.Sandboxes) == size {
			out.NextPageToken = out.Sandboxes[size-1].GetIdentity().GetSandboxId()
			return out, nil
		}
		out.Sandboxes = append(out.Sandboxes, sb)
	}
	return out, nil
}

func pageSize(asked int32) int {
	if asked <= 0 {
		return defaultPage
	}
	return min(int(asked), maxPage)
}

// DeleteSandbox implements sdk.Driver.
func (d *Driver) DeleteSandbox(ctx context.Context, req *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error) {
	store, _, err := d.open()
	if err != nil {
		return nil, err
	}
	id := req.GetSandbox().GetSandboxId()
	unlock, err := d.locks.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	dir := store.SandboxDir(id)
	if _, err := store.Sandbox(id); errors.Is(err, fs.ErrNotExist) {
		d.release(ctx, id) // it may have expired by itself
		return &providerv1.DeleteSandboxResponse{AlreadyAbsent: true}, nil
	}
	d.shims.drop(id)
	// SIGKILL to the shim ends the guest as a whole and leaves nothing: there is
	// no gentler end that would keep more.
	if err := shim.Kill(ctx, dir); err != nil {
		return nil, internal(providerv1.Effect_EFFECT_UNKNOWN, "end sandbox: %w", err)
	}
	if err := store.RemoveSandbox(id); err != nil {
		return nil, internal(providerv1.Effect_EFFECT_APPLIED, "remove sandbox: %w", err)
	}
	d.release(ctx, id)
	return &providerv1.DeleteSandboxResponse{}, nil
}

// Recover implements sdk.Driver. Records are this provider's own word: what has
// none is gone.
func (d *Driver) Recover(_ context.Context, req *providerv1.RecoverRequest) (*providerv1.RecoverResponse, error) {
	store, _, err := d.open()
	if err != nil {
		return nil, err
	}
	out := &providerv1.RecoverResponse{}
	for _, ref := range req.GetSandboxes() {
		r := &providerv1.Recovery{SandboxId: ref.GetSandboxId()}
		sb, err := d.current(store, ref.GetSandboxId())
		switch {
		case err == nil:
			r.Outcome, r.Sandbox = providerv1.RecoveryOutcome_RECOVERY_OUTCOME_RECOVERED, sb
		case fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND):
			r.Outcome = providerv1.RecoveryOutcome_RECOVERY_OUTCOME_GONE
		default:
			r.Outcome, r.Cause = providerv1.RecoveryOutcome_RECOVERY_OUTCOME_UNKNOWN, fault.From(err).ToProto()
		}
		out.Recoveries = append(out.Recoveries, r)
	}
	return out, nil
}

// stateName is a state as it stands in error metadata.
func stateName(s providerv1.SandboxState) string {
	return strings.TrimPrefix(s.String(), "SANDBOX_STATE_")
}
