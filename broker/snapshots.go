package broker

import (
	"context"
	"errors"
	"time"

	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// findSnapshot returns a snapshot that exists at the provider.
func (s *Service) findSnapshot(ctx context.Context, idOrName string) (*state.Snapshot, error) {
	if idOrName == "" {
		return nil, fault.Field("snapshot", "", "want the id or the name of a snapshot")
	}
	sn, err := s.store.Snapshot(ctx, idOrName)
	if err == nil && !sn.Ready {
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
	return storeFault(err)
}

// ListSnapshots returns one page of snapshots, the newest first. Pages may be
// short: only an empty token ends the listing.
func (s *Service) ListSnapshots(ctx context.Context, req *brokerv1.ListSnapshotsRequest) (*brokerv1.ListSnapshotsResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	id := req.GetSandboxId()
	if id != "" {
		if sb, err := s.store.Sandbox(ctx, id); err == nil {
			id = sb.ID()
		}
	}
	rows, next, err := s.store.ListSnapshots(ctx, id, state.Page{Size: size, Token: req.GetPageToken()})
	if err != nil {
		return nil, listFault(err, req.GetPageToken())
	}
	out := &brokerv1.ListSnapshotsResponse{NextPageToken: next}
	for _, sn := range rows {
		if sn.Ready {
			out.Snapshots = append(out.Snapshots, sn.Body)
		}
	}
	return out, nil
}

// DeleteSnapshot deletes a snapshot; one that does not exist is a success.
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
	p, err := s.provider(sn.Body.GetProvider())
	if err != nil {
		return false, err
	}
	_, err = p.DeleteSnapshot(opCtx, &providerv1.DeleteSnapshotRequest{SnapshotId: sn.ID(), Handle: sn.Handle})
	if err != nil {
		return false, err
	}
	if err := s.store.RemoveSnapshot(opCtx, sn.ID()); err != nil {
		return false, storeFault(err)
	}
	return false, nil
}

// settleSnapshots finds out what became of snapshots of a provider whose making
// was interrupted, from the provider's own listing.
func (s *Service) settleSnapshots(ctx context.Context, provider string) {
	open, err := s.unreadySnapshots(ctx, provider)
	if err != nil || len(open) == 0 {
		return
	}
	p, err := s.provider(provider)
	if err != nil {
		return
	}
	for token := ""; ; {
		resp, err := p.ListSnapshots(ctx, &providerv1.ListSnapshotsRequest{Owner: s.owner, PageSize: maxPage, PageToken: token})
		if err != nil {
			s.log.WarnContext(ctx, "snapshots cannot be settled", "provider", provider, "error", err)
			return
		}
		for _, vendor := range resp.GetSnapshots() {
			if sn := open[vendor.GetSnapshotId()]; sn != nil {
				delete(open, sn.ID())
				if err := s.snapshotReady(ctx, sn, vendor); err != nil {
					s.log.WarnContext(ctx, "snapshot is not stored", "snapshot_id", sn.ID(), "error", err)
				}
			}
		}
		if token = resp.GetNextPageToken(); token == "" {
			break
		}
	}
	for id, sn := range open {
		if time.Since(sn.Body.GetCreatedAt().AsTime()) < s.opts.SettleGrace {
			continue
		}
		if err := s.store.RemoveSnapshot(ctx, id); err != nil {
			s.log.WarnContext(ctx, "snapshot that was never made is not removed", "snapshot_id", id, "error", err)
		}
	}
}

func (s *Service) unreadySnapshots(ctx context.Context, provider string) (map[string]*state.Snapshot, error) {
	open := make(map[string]*state.Snapshot)
	for token := ""; ; {
		rows, next, err := s.store.ListSnapshots(ctx, "", state.Page{Size: maxPage, Token: token})
		if err != nil {
			return nil, err
		}
		for _, sn := range rows {
			if !sn.Ready && sn.Body.GetProvider() == provider {
				open[sn.ID()] = sn
			}
		}
		if token = next; token == "" {
			return open, nil
		}
	}
}
