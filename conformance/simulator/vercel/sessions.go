package vercel

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/guest"
)

// States of a session [S]. The simulator's are never failed.
const (
	pending      = "pending"
	running      = "running"
	stopping     = "stopping"
	stopped      = "stopped"
	aborted      = "aborted"
	snapshotting = "snapshotting"
)

// session is one run of a sandbox in a guest. Simulator.mu guards it.
type session struct {
	id              string
	sandbox         *sandbox
	status          string
	timeout         int64
	vcpus           int64
	region, runtime string
	source          *snapshot
	created         time.Time
	started         time.Time
	stopRequested   time.Time
	stopped         time.Time
	aborted         time.Time
	snapshotted     time.Time
	updated         time.Time
	guest           *guest.Guest
	timer           *time.Timer
	commands        map[string]*command
	// life ends with the session.
	life context.Context //nolint:containedctx // commands outlive the requests that start them
	end  context.CancelFunc
}

func (s *Simulator) newSession(sb *sandbox, from *snapshot, now time.Time) *session {
	sn := &session{
		id: newID("sbx_"), sandbox: sb, status: pending, timeout: sb.timeout, vcpus: sb.vcpus, region: sb.region, runtime: sb.runtime,
		source: from, created: now, updated: now, commands: map[string]*command{},
	}
	sn.life, sn.end = context.WithCancel(s.life)
	return sn
}

// wire is a session as it is shown. The caller holds mu.
func (sn *session) wire() wireSession {
	out := wireSession{
		ID: sn.id, Memory: sn.vcpus * memoryPerCPU, VCPUs: sn.vcpus, Region: sn.region, Runtime: sn.runtime, Timeout: sn.timeout, Status: sn.status,
		RequestedAt: millis(sn.created), StartedAt: millis(sn.started), RequestedStopAt: millis(sn.stopRequested), StoppedAt: millis(sn.stopped),
		AbortedAt: millis(sn.aborted), SnapshottedAt: millis(sn.snapshotted), CreatedAt: millis(sn.created), CWD: homeDir,
		UpdatedAt: millis(sn.updated), NetworkPolicy: shownPolicy(sn.sandbox.policy),
	}
	if sn.source != nil {
		out.SourceSnapshotID = sn.source.id
	}
	if !sn.stopped.IsZero() && !sn.started.IsZero() {
		out.Duration = sn.stopped.Sub(sn.started).Milliseconds()
	}
	return out
}

// boot makes the guest of a session that is pending.
func (s *Simulator) boot(ctx context.Context, sb *sandbox, sn *session, from *snapshot) error {
	g, err := s.makeGuest(ctx, sb, from)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if sn.status != pending || s.closed { // it was deleted meanwhile
		s.mu.Unlock()
		if err := g.Delete(ctx); err != nil {
			return err
		}
		return gone()
	}
	now := time.Now()
	sn.guest, sn.status, sn.started, sn.updated, sb.statusUpdated = g, running, now, now, now
	sn.timer = time.AfterFunc(time.Duration(sn.timeout)*time.Millisecond, func() { s.expire(sn) })
	s.mu.Unlock()
	return nil
}

func (s *Simulator) makeGuest(ctx context.Context, sb *sandbox, from *snapshot) (*guest.Guest, error) {
	if from != nil {
		return s.fleet.Restore(ctx, from.kept)
	}
	g, err := s.fleet.Create(ctx, sb.spec())
	if err != nil {
		return nil, err
	}
	if err := g.MakeDirectory(ctx, homeDir, true); err != nil {
		return nil, errors.Join(err, g.Delete(ctx))
	}
	return g, nil
}

// expire ends a session whose time is up.
func (s *Simulator) expire(sn *session) {
	s.spawn(func() {
		if err := s.stop(s.life, sn); err != nil && s.life.Err() == nil {
			s.opts.Log.Error("a session could not be ended", "session_id", sn.id, "error", err)
		}
	})
}

// retime moves the end of a session. The caller holds mu.
func (s *Simulator) retime(sn *session, timeout int64) {
	sn.timeout, sn.updated = timeout, time.Now()
	sn.timer.Reset(time.Until(sn.started.Add(time.Duration(timeout) * time.Millisecond)))
}

// stop ends a session; the disk of a persistent sandbox is kept for the next [S, D].
func (s *Simulator) stop(ctx context.Context, sn *session) error {
	s.mu.Lock()
	sb, g := sn.sandbox, sn.guest
	if sn.status != running {
		s.mu.Unlock()
		return nil
	}
	sn.stopRequested = time.Now()
	if sb.persistent && s.fleet.Has("snapshot.disk") {
		sn.status = stopping
		s.mu.Unlock()
		kept, err := g.Snapshot(context.WithoutCancel(ctx))
		if err != nil {
			return err
		}
		s.mu.Lock()
		old := sb.disk
		sb.disk = &snapshot{id: newID("snap_"), kept: kept, session: sn.id, region: sn.region, created: time.Now(), status: "created"}
		if old != nil {
			defer func() {
				if err := s.fleet.Forget(ctx, old.kept); err != nil {
					s.opts.Log.Error("the disk of an earlier session could not be removed", "error", err)
				}
			}()
		}
	}
	s.halt(sn, stopped)
	s.mu.Unlock()
	return s.release(ctx, sn)
}

// halt marks the end of a session. The caller holds mu, and releases the guest.
func (s *Simulator) halt(sn *session, status string) {
	now := time.Now()
	switch {
	case sn.status == stopped || sn.status == aborted:
		return
	case status == aborted:
		sn.aborted = now
	default:
		sn.stopped = now
	}
	sn.status, sn.updated, sn.sandbox.statusUpdated = status, now, now
	if sn.timer != nil {
		sn.timer.Stop()
	}
	sn.end()
}

// release deletes the guest of a session that has ended.
func (s *Simulator) release(ctx context.Context, sn *session) error {
	s.mu.Lock()
	g := sn.guest
	sn.guest = nil
	s.mu.Unlock()
	if g == nil {
		return nil
	}
	return g.Delete(ctx)
}

// resume starts a new session of a sandbox whose last one has ended.
func (s *Simulator) resume(ctx context.Context, sb *sandbox) (bool, error) {
	s.mu.Lock()
	switch sb.session.status {
	case running, pending:
		s.mu.Unlock()
		return false, nil
	case stopping:
		s.mu.Unlock()
		return false, refuse(http.StatusUnprocessableEntity, "sandbox_stopping", "Sandbox is stopping")
	}
	from := sb.disk
	if last := sb.currentSnapshot; last != nil && last.status == "created" && (from == nil || last.created.After(from.created)) {
		from = last // a snapshot ended the last session [I]
	}
	sn := s.newSession(sb, from, time.Now())
	sb.session, s.sessions[sn.id] = sn, sn
	s.mu.Unlock()
	if err := s.boot(context.WithoutCancel(ctx), sb, sn, from); err != nil {
		s.mu.Lock()
		s.halt(sn, aborted)
		s.mu.Unlock()
		return false, err
	}
	return true, nil
}

func gone() *problem { return refuse(http.StatusGone, "sandbox_stopped", "Sandbox is stopped") } // [M]

// inSession finds the session that a route is about.
func (s *Simulator) inSession(do func(http.ResponseWriter, *http.Request, *session) error) route {
	return func(w http.ResponseWriter, r *http.Request) error {
		s.mu.Lock()
		sn := s.sessions[r.PathValue("id")]
		s.mu.Unlock()
		if sn == nil {
			return notFound("Session not found: " + r.PathValue("id")) // [M]
		}
		return do(w, r, sn)
	}
}

// alive returns the guest of a session that runs. One that has ended answers 410,
// one that is ending 422 [S: those are what the client resumes on].
func (s *Simulator) alive(sn *session) (*guest.Guest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch sn.status {
	case running:
		return sn.guest, nil
	case stopping:
		return nil, refuse(http.StatusUnprocessableEntity, "sandbox_stopping", "Sandbox is stopping")
	case snapshotting:
		return nil, refuse(http.StatusUnprocessableEntity, "sandbox_snapshotting", "Sandbox is creating a snapshot")
	case pending:
		return nil, refuse(http.StatusUnprocessableEntity, "sandbox_pending", "Sandbox is not ready") // [I]
	}
	return nil, gone()
}

func (s *Simulator) getSession(w http.ResponseWriter, _ *http.Request, sn *session) error {
	s.mu.Lock()
	body := map[string]any{"session": sn.wire(), "routes": sn.sandbox.routes()}
	s.mu.Unlock()
	answer(w, http.StatusOK, body)
	return nil
}

// stopSession answers when it has stopped; stopping again changes nothing [M].
func (s *Simulator) stopSession(w http.ResponseWriter, r *http.Request, sn *session) error {
	if err := s.stop(r.Context(), sn); err != nil {
		return err
	}
	s.mu.Lock()
	body := map[string]any{"session": sn.wire(), "sandbox": sn.sandbox.wire()}
	s.mu.Unlock()
	answer(w, http.StatusOK, body)
	return nil
}

// callSession is the calls that change a session.
func (s *Simulator) callSession(w http.ResponseWriter, r *http.Request, sn *session) error {
	switch call := r.PathValue("call"); call {
	case "cmd":
		return s.startCommand(w, r, sn)
	case "snapshot":
		return s.takeSnapshot(w, r, sn)
	case "extend-timeout":
		return s.extendTimeout(w, r, sn)
	case "network-policy":
		return s.setPolicy(w, r, sn)
	case "interactive":
		return notSimulated("interactive terminal")
	default:
		return notFound("No route for " + r.Method + " " + r.URL.Path)
	}
}

// extendTimeout adds to the end, a second at least [S].
func (s *Simulator) extendTimeout(w http.ResponseWriter, r *http.Request, sn *session) error {
	var b struct {
		Duration int64 `json:"duration"`
	}
	if err := read(r, &b); err != nil {
		return err
	}
	if _, err := s.alive(sn); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	most := s.opts.MaxTimeout.Milliseconds()
	if b.Duration < 1000 || sn.timeout+b.Duration > most {
		return badRequest("Invalid request: `duration` should be at least 1000, and the timeout at most " + strconv.FormatInt(most, 10)) // [S], [I]
	}
	s.retime(sn, sn.timeout+b.Duration)
	answer(w, http.StatusOK, map[string]any{"session": sn.wire()})
	return nil
}

func (s *Simulator) listSessions(w http.ResponseWriter, r *http.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	listOf(w, r, "sessions", s.sessions, (*session).wire, func(sn *session) (string, time.Time) { return sn.sandbox.name, sn.created })
	return nil
}
