package local

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/plugins/local/record"
	"github.com/sandbar-dev/sandbar/plugins/local/shim"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// forkBudget is how many copies are brought up at once. A copy that runs begins
// to load its memory, which delays those that start after it: so eight, even on
// two processors. Far more would only take memory for starts that wait.
const forkBudget = 8

// ForkSandbox implements sdk.Forker: one checkpoint, restored once for each copy
// while the original goes on.
//
// The key is open until all copies run. Whoever finds it open without a fork
// under way, which holds the key's lock, deletes what the fork left behind.
func (d *Driver) ForkSandbox(ctx context.Context, req *providerv1.ForkSandboxRequest) (*providerv1.ForkSandboxResponse, error) {
	settled, err := d.locks.lock(ctx, keyLock(req.GetOperation().GetIdempotencyKey()))
	if err != nil {
		return nil, err
	}
	defer settled()
	store, conf, unlock, err := d.locked(ctx, req.GetSandbox().GetSandboxId())
	if err != nil {
		return nil, err
	}
	defer unlock()
	ids := make([]string, len(req.GetIdentities()))
	for i, identity := range req.GetIdentities() {
		ids[i] = identity.GetSandboxId()
	}
	key, fresh, err := store.SpendOpen(req.GetOperation(), ids)
	switch {
	case err != nil:
		return nil, internal(providerv1.Effect_EFFECT_NONE, "spend idempotency key: %w", err)
	case !fresh && !key.Open:
		return d.forked(store, key.IDs)
	case !fresh:
		if err := d.deleteCopies(ctx, key.IDs); err != nil {
			return nil, err
		}
	}
	out, err := d.fork(ctx, store, conf, req)
	if err != nil {
		return nil, errors.Join(err, store.Forget(req.GetOperation().GetIdempotencyKey()))
	}
	if err := store.Complete(req.GetOperation().GetIdempotencyKey()); err != nil {
		return nil, internal(providerv1.Effect_EFFECT_UNKNOWN, "note the end of the fork: %w", err)
	}
	return out, nil
}

// fork makes all copies or none. The caller holds the locks of the key and of
// the original.
func (d *Driver) fork(ctx context.Context, store *record.Store, conf config, req *providerv1.ForkSandboxRequest,
) (_ *providerv1.ForkSandboxResponse, err error) {
	id := req.GetSandbox().GetSandboxId()
	sb, err := d.refresh(store, id)
	if err != nil {
		return nil, err
	}
	rec, err := store.Sandbox(id)
	if err != nil {
		return nil, internal(providerv1.Effect_EFFECT_NONE, "read record: %w", err)
	}
	// A snapshot without a record: swept if this process dies on the way.
	point := "fork-" + req.GetOperation().GetIdempotencyKey()
	defer func() { err = errors.Join(err, store.RemoveSnapshot(point)) }()
	if err := d.save(ctx, store, sb, &providerv1.CreateSnapshotRequest{
		Sandbox: req.GetSandbox(), Operation: req.GetOperation(), SnapshotId: point, Minimum: shim.Everything(),
	}, store.SnapshotDir(point)); err != nil {
		return nil, err
	}
	return d.copies(ctx, store, conf, rec, req, point)
}

// forked returns the copies that an earlier call with the same key made.
func (d *Driver) forked(store *record.Store, ids []string) (*providerv1.ForkSandboxResponse, error) {
	out := &providerv1.ForkSandboxResponse{}
	for _, id := range ids {
		sb, err := d.current(store, id)
		if err != nil {
			return nil, err
		}
		out.Sandboxes = append(out.Sandboxes, sb)
	}
	return out, nil
}

// deleteCopies takes back what a fork left that died on its way.
func (d *Driver) deleteCopies(ctx context.Context, ids []string) error {
	var errs []error
	for _, id := range ids {
		_, err := d.DeleteSandbox(ctx, &providerv1.DeleteSandboxRequest{Sandbox: &providerv1.SandboxRef{SandboxId: id}})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// copies restores all copies, or leaves none.
func (d *Driver) copies(ctx context.Context, store *record.Store, conf config, rec *record.Sandbox,
	req *providerv1.ForkSandboxRequest, point string,
) (*providerv1.ForkSandboxResponse, error) {
	out := &providerv1.ForkSandboxResponse{Sandboxes: make([]*providerv1.Sandbox, len(req.GetIdentities()))}
	errs := make([]error, len(req.GetIdentities()))
	inParallel(forkBudget, len(errs), func(i int) {
		identity := req.GetIdentities()[i]
		unlock, err := d.locks.lock(ctx, identity.GetSandboxId())
		if err != nil {
			errs[i] = err
			return
		}
		defer unlock()
		spec, _ := proto.Clone(rec.Spec).(*providerv1.SandboxSpec)
		out.Sandboxes[i], errs[i] = d.spawn(ctx, makeRequest{
			store: store, conf: conf, operation: req.GetOperation(), identity: identity, spec: spec,
			boot: &shim.Boot{Checkpoint: shim.CheckpointDir(store.SnapshotDir(point))},
		})
	})
	i := slices.IndexFunc(errs, func(err error) bool { return err != nil })
	if i < 0 {
		return out, nil
	}
	for j, sb := range out.Sandboxes {
		if errs[j] == nil {
			_, err := d.DeleteSandbox(context.WithoutCancel(ctx), &providerv1.DeleteSandboxRequest{
				Sandbox: &providerv1.SandboxRef{SandboxId: sb.GetIdentity().GetSandboxId()},
			})
			errs[i] = errors.Join(errs[i], err)
		}
	}
	return nil, errs[i]
}

// inParallel calls f(0) to f(n-1), at most limit at a time, and waits for all.
func inParallel(limit, n int, f func(int)) {
	slots := make(chan struct{}, limit)
	done := make(chan struct{})
	for i := range n {
		go func() {
			slots <- struct{}{}
			defer func() { <-slots; done <- struct{}{} }()
			f(i)
		}()
	}
	for range n {
		<-done
	}
}
