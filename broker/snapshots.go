package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// findSnapshot returns a snapshot that exists at the provider, maybe not for long.
func (s *Service) findSnapshot(ctx context.Context, idOrName string) (*state.Snapshot, error) {
	if idOrName == "" {
		return nil, fault.Field("snapshot", "", "want the id or the name of a snapshot")
	}
	who, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	var sn *state.Snapshot
	if isID(idOrName) {
		sn, err = s.store.Snapshot(ctx, idOrName)
	} else {
		sn, err = s.store.SnapshotNamed(ctx, who.Acting, idOrName)
	}
	if err == nil && (!sn.Ready || !seesSnapshot(who, sn)) {
		err = state.ErrNotFound
	}
	if err != nil {
		return nil, snapshotNotFound(idOrName, err)
	}
	return sn, nil
}

func snapshotNotFound(idOrName string, err error) error {
	if errors.Is(err, state.ErrNotFound) {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_SNAPSHOT_NOT_FOUND, "snapshot %q does not exist", idOrName).
			With("snapshot_id", idOrName)
	}
	return state.Fault(err)
}

// ListSnapshots returns one page of snapshots, the newest first. Pages may be
// short: only an empty token ends the listing.
func (s *Service) ListSnapshots(ctx context.Context, req *brokerv1.ListSnapshotsRequest) (*brokerv1.ListSnapshotsResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	who, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	f := state.SnapshotFilter{Tenant: tenantFilter(who), SandboxID: req.GetSandboxId()}
	if f.SandboxID != "" && !isID(f.SandboxID) {
		if sb, err := s.find(ctx, f.SandboxID); err == nil {
			f.SandboxID = sb.ID()
		}
	}
	rows, next, err := s.store.ListSnapshots(ctx, f, state.Page{Size: size, Token: req.GetPageToken()})
	if err != nil {
		return nil, listFault(err, req.GetPageToken())
	}
	out := &brokerv1.ListSnapshotsResponse{NextPageToken: next}
	for _, sn := range rows {
		if sn.Ready && seesSnapshot(who, sn) {
			out.Snapshots = append(out.Snapshots, sn.View())
		}
	}
	return out, nil
}

// DeleteSnapshot deletes a snapshot; one that does not exist is a success. When the
// provider cannot do it now the wish stays, and is repeated until it is done; the
// error says so.
func (s *Service) DeleteSnapshot(ctx context.Context, idOrName string) (alreadyAbsent bool, err error) {
	sn, err := s.findSnapshot(ctx, idOrName)
	if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SNAPSHOT_NOT_FOUND) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	opCtx, end, err := s.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	unlock, err := s.lock(ctx, sn.ID())
	if err != nil {
		return false, err
	}
	defer unlock()
	sn, err = s.store.Snapshot(opCtx, sn.ID())
	if errors.Is(err, state.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, state.Fault(err)
	}
	if !sn.Deleting {
		sn.Deleting = true
		if err := s.store.UpdateSnapshot(opCtx, sn); err != nil {
			return false, state.Fault(err)
		}
	}
	return false, s.deleteSnapshotLocked(opCtx, sn)
}

// deleteSnapshotLocked carries out a delete that is stored as a wish. The snapshot's
// lock is held by the caller.
func (s *Service) deleteSnapshotLocked(ctx context.Context, sn *state.Snapshot) (err error) {
	defer func() {
		if err != nil && sn.Deleting {
			s.unsettled.push(sn.Body.GetProvider())
		}
	}()
	p, err := s.provider(sn.Body.GetProvider())
	if err == nil {
		_, err = p.DeleteSnapshot(ctx, &providerv1.DeleteSnapshotRequest{SnapshotId: sn.ID(), Handle: sn.Handle})
	}
	if err == nil {
		return state.Fault(s.store.RemoveSnapshot(ctx, sn.ID()))
	}
	f := fault.From(err)
	if err := s.snapshotStays(ctx, sn, f); err != nil {
		return err
	}
	return f.With("snapshot_id", sn.ID())
}

// snapshotStays stores why a snapshot was not deleted. One that its provider refuses
// for good to delete is as it was.
func (s *Service) snapshotStays(ctx context.Context, sn *state.Snapshot, f *fault.Error) error {
	next := *sn
	next.Body = proto.CloneOf(sn.Body)
	next.Body.StatusReason = f.Message
	if refusedForGood(f) {
		next.Deleting, next.Body.StatusReason = false, ""
	}
	if next.Deleting && proto.Equal(next.Body, sn.Body) {
		return nil
	}
	if err := s.store.UpdateSnapshot(ctx, &next); err != nil {
		return state.Fault(err)
	}
	*sn = next
	return nil
}

// settleSnapshots finds out what became of snapshots of a provider whose making
// was interrupted, and deletes those that somebody wanted deleted.
func (s *Service) settleSnapshots(ctx context.Context, provider string) {
	open, err := s.openSnapshots(ctx, provider)
	s.logged(ctx, "snapshots cannot be settled", err, "provider", provider)
	left := err != nil
	for _, sn := range open {
		settle := s.settleSnapshot
		if sn.Deleting {
			settle = s.finishDelete
		}
		settled, err := settle(ctx, sn)
		s.logged(ctx, "snapshot is not settled", err, "snapshot_id", sn.ID(), "sandbox_id", sn.Body.GetSandboxId(), "provider", provider)
		left = left || !settled
	}
	if left {
		s.unsettled.push(provider)
	}
}

// settleSnapshot believes the provider's own listing. A snapshot that is not
// there, and can no longer appear, was never made.
func (s *Service) settleSnapshot(ctx context.Context, sn *state.Snapshot) (settled bool, err error) {
	unlock, ok, err := s.locks.tryLock(ctx, sn.Body.GetSandboxId())
	if !ok {
		return false, err // it may be in the making after all
	}
	defer unlock()
	sn, err = s.store.Snapshot(ctx, sn.ID())
	if errors.Is(err, state.ErrNotFound) || err == nil && sn.Ready {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	listed, err := s.listed(ctx, sn)
	switch {
	case err != nil:
		return false, err
	case listed != nil:
		return true, s.snapshotReady(ctx, sn, listed)
	case time.Since(sn.Body.GetCreatedAt().AsTime()) < s.opts.SettleGrace:
		return false, nil
	default:
		return true, s.store.RemoveSnapshot(ctx, sn.ID())
	}
}

// finishDelete repeats a delete that is stored as a wish.
func (s *Service) finishDelete(ctx context.Context, sn *state.Snapshot) (settled bool, err error) {
	unlock, ok, err := s.locks.tryLock(ctx, sn.ID())
	if !ok {
		return false, err // somebody does it now
	}
	defer unlock()
	sn, err = s.store.Snapshot(ctx, sn.ID())
	if errors.Is(err, state.ErrNotFound) || err == nil && !sn.Deleting {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	err = s.deleteSnapshotLocked(ctx, sn)
	return err == nil || !sn.Deleting, err
}

// listed looks for a snapshot in its provider's listing; nil if it is not there.
func (s *Service) listed(ctx context.Context, sn *state.Snapshot) (*providerv1.Snapshot, error) {
	p, err := s.provider(sn.Body.GetProvider())
	if err != nil {
		return nil, err
	}
	for token := ""; ; {
		resp, err := p.ListSnapshots(ctx, &providerv1.ListSnapshotsRequest{Owner: s.owner, PageSize: maxPage, PageToken: token})
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(resp.GetSnapshots(), func(v *providerv1.Snapshot) bool { return v.GetSnapshotId() == sn.ID() })
		if i >= 0 {
			return resp.GetSnapshots()[i], nil
		}
		if token = resp.GetNextPageToken(); token == "" {
			return nil, nil
		}
	}
}

// openSnapshots returns those of a provider that somebody has to see to.
func (s *Service) openSnapshots(ctx context.Context, provider string) ([]*state.Snapshot, error) {
	var open []*state.Snapshot
	for token := ""; ; {
		rows, next, err := s.store.ListSnapshots(ctx, state.SnapshotFilter{Open: true}, state.Page{Size: maxPage, Token: token})
		if err != nil {
			return nil, err
		}
		for _, sn := range rows {
			if sn.Body.GetProvider() == provider {
				open = append(open, sn)
			}
		}
		if token = next; token == "" {
			return open, nil
		}
	}
}
