package vercel

import (
	"context"
	"net/http"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/guest"
)

// snapshot is a disk that was kept. Simulator.mu guards it.
type snapshot struct {
	id, sandbox, session, region string
	// status is created or deleted: a record stays [M].
	status           string
	created, updated time.Time
	expires          time.Time
	parent           string
	kept             *guest.Snapshot
}

func (sp *snapshot) wire() wireSnapshot {
	return wireSnapshot{
		ID: sp.id, SourceSessionID: sp.session, Region: sp.region, Status: sp.status, SizeBytes: sp.kept.Bytes, ExpiresAt: millis(sp.expires),
		CreatedAt: millis(sp.created), UpdatedAt: millis(sp.updated), ParentID: sp.parent,
	}
}

// findSnapshot returns one that can be used, or nil.
func (s *Simulator) findSnapshot(id string) *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.snapshots[id]
	if sp == nil || sp.status != "created" || (!sp.expires.IsZero() && time.Now().After(sp.expires)) {
		return nil
	}
	return sp
}

// takeSnapshot keeps the disk, and ends the session [D].
func (s *Simulator) takeSnapshot(w http.ResponseWriter, r *http.Request, sn *session) error {
	var b struct {
		Expiration *int64 `json:"expiration"`
	}
	if err := read(r, &b); err != nil {
		return err
	}
	if !s.fleet.Has("snapshot.disk") {
		return notSimulated("snapshots with these guests")
	}
	g, err := s.alive(sn)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if sn.status != running {
		s.mu.Unlock()
		return refuse(http.StatusUnprocessableEntity, "sandbox_snapshotting", "Sandbox is creating a snapshot")
	}
	sn.status = snapshotting
	s.mu.Unlock()
	ctx := context.WithoutCancel(r.Context())
	kept, err := g.Snapshot(ctx)
	s.mu.Lock()
	if err != nil {
		sn.status = running
		s.mu.Unlock()
		return err
	}
	now := time.Now()
	sp := &snapshot{
		id: newID("snap_"), sandbox: sn.sandbox.name, session: sn.id, region: sn.region, status: "created", created: now, updated: now, kept: kept,
	}
	const usual = 30 * 24 * time.Hour // [D]; 0: never
	switch {
	case b.Expiration == nil:
		sp.expires = now.Add(usual)
	case *b.Expiration > 0:
		sp.expires = now.Add(time.Duration(*b.Expiration) * time.Millisecond)
	}
	if old := sn.sandbox.currentSnapshot; old != nil {
		sp.parent = old.id
	}
	s.snapshots[sp.id], sn.sandbox.currentSnapshot, sn.snapshotted = sp, sp, now
	s.halt(sn, stopped)
	body := map[string]any{"snapshot": sp.wire(), "session": sn.wire()}
	s.mu.Unlock()
	if err := s.release(ctx, sn); err != nil {
		return err
	}
	answer(w, http.StatusOK, body)
	return nil
}

func (s *Simulator) listSnapshots(w http.ResponseWriter, r *http.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	listOf(w, r, "snapshots", s.snapshots, (*snapshot).wire, func(sp *snapshot) (string, time.Time) { return sp.sandbox, sp.created })
	return nil
}

func (s *Simulator) getSnapshot(w http.ResponseWriter, r *http.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.snapshots[r.PathValue("id")]
	if sp == nil {
		return notFound("Snapshot not found: " + r.PathValue("id")) // [M]
	}
	answer(w, http.StatusOK, map[string]any{"snapshot": sp.wire()})
	return nil
}

// deleteSnapshot keeps the record as deleted [M].
func (s *Simulator) deleteSnapshot(w http.ResponseWriter, r *http.Request) error {
	s.mu.Lock()
	sp := s.snapshots[r.PathValue("id")]
	if sp == nil {
		s.mu.Unlock()
		return notFound("Snapshot not found: " + r.PathValue("id"))
	}
	first := sp.status == "created"
	sp.status, sp.updated = "deleted", time.Now()
	body := map[string]any{"snapshot": sp.wire()}
	s.mu.Unlock()
	if first {
		if err := s.fleet.Forget(r.Context(), sp.kept); err != nil {
			return err
		}
	}
	answer(w, http.StatusOK, body)
	return nil
}
