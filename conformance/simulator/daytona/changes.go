package daytona

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// callSandbox is the changes of state.
func (s *Simulator) callSandbox(w http.ResponseWriter, r *http.Request) error {
	switch r.PathValue("call") {
	case "start":
		return s.startSandbox(w, r)
	case "stop":
		return s.stopSandbox(w, r)
	case "pause":
		return refuse(http.StatusUnprocessableEntity, "Pausing is not supported for this sandbox") // [O], for class container
	case "fork":
		return refuse(http.StatusUnprocessableEntity, "Forking is not supported for this sandbox") // [O], likewise
	}
	return notSimulated(r.Method + " " + r.URL.Path)
}

// found returns a sandbox that nothing is under way with. The caller holds mu.
func (s *Simulator) found(r *http.Request) (*sandbox, error) {
	sb := s.find(r.PathValue("id"))
	switch {
	case sb == nil:
		return nil, noSandbox(r.PathValue("id"))
	case sb.pending:
		return nil, inProgress()
	}
	return sb, nil
}

// stopSandbox answers before it is done. Files stay, processes do not [D].
func (s *Simulator) stopSandbox(w http.ResponseWriter, r *http.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sb, err := s.found(r)
	if err != nil {
		return err
	}
	if sb.state != started {
		return badRequest("Sandbox is not in a stoppable state")
	}
	if sb.autoDelete != 0 && !s.fleet.Has("snapshot.disk") {
		return notSimulated("stopping, with guests that cannot be kept")
	}
	shown := s.stopLocked(r, sb)
	answer(w, http.StatusOK, shown)
	return nil
}

func (s *Simulator) stopLocked(r *http.Request, sb *sandbox) wireSandbox {
	sb.state, sb.desired, sb.pending = stopping, stopped, true
	var shown wireSandbox
	if r != nil {
		shown = s.wire(r, sb)
	}
	if !s.closed {
		s.work.Go(func() { s.finishStop(sb) })
	}
	return shown
}

// tryStop stops a sandbox that nobody has used.
func (s *Simulator) tryStop(sb *sandbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sb.state == started && !sb.pending {
		s.stopLocked(nil, sb)
	}
}

// finishStop keeps the files of a sandbox, or destroys an ephemeral one [O].
func (s *Simulator) finishStop(sb *sandbox) {
	s.mu.Lock()
	g, ephemeral := sb.guest, sb.autoDelete == 0
	s.mu.Unlock()
	if ephemeral {
		s.mu.Lock()
		g = s.condemn(sb)
		s.mu.Unlock()
		s.destroy(sb, g)
		return
	}
	disk, err := g.Snapshot(s.life)
	s.mu.Lock()
	if sb.desired == destroyed { // its time to live was over meanwhile
		s.mu.Unlock()
		return
	}
	old := sb.disk
	s.halt(sb, stopped)
	sb.pending = false
	if err != nil {
		sb.state, sb.errorReason = failed, err.Error()
	} else {
		sb.disk = disk
	}
	if sb.autoDelete > 0 {
		minutes := time.Duration(sb.autoDelete) * s.opts.Minute
		sb.idle = time.AfterFunc(minutes, func() { s.spawn(func() { s.expireStopped(sb) }) })
	}
	s.mu.Unlock()
	if err := g.Delete(s.life); err != nil {
		s.opts.Log.Error("a guest could not be deleted", "sandbox_id", sb.id, "error", err)
	}
	if old != nil && err == nil {
		if err := s.fleet.Forget(s.life, old); err != nil {
			s.opts.Log.Error("an earlier disk could not be removed", "sandbox_id", sb.id, "error", err)
		}
	}
}

// expireStopped destroys a sandbox that has been stopped for as long as it may.
func (s *Simulator) expireStopped(sb *sandbox) {
	s.mu.Lock()
	still := sb.state == stopped
	s.mu.Unlock()
	if still {
		s.expire(sb)
	}
}

// startSandbox answers before it is done.
func (s *Simulator) startSandbox(w http.ResponseWriter, r *http.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sb, err := s.found(r)
	if err != nil {
		return err
	}
	if sb.state != started { // one that is started stays so [O]
		if sb.state != stopped {
			return badRequest("Sandbox is not in valid state")
		}
		if sb.idle != nil {
			sb.idle.Stop()
		}
		sb.state, sb.desired, sb.pending, sb.booted = "starting", started, true, make(chan struct{})
		if booted := sb.booted; !s.closed {
			s.work.Go(func() { s.boot(sb, booted) })
		}
	}
	answer(w, http.StatusOK, s.wire(r, sb))
	return nil
}

// setSandbox is the settings that are a part of the path [S].
func (s *Simulator) setSandbox(w http.ResponseWriter, r *http.Request) error {
	call, text := r.PathValue("call"), r.PathValue("n")
	n, err := strconv.ParseInt(text, 10, 64)
	if call != "public" && err != nil {
		return badRequest("Validation failed (numeric string is expected)")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sb := s.find(r.PathValue("id"))
	if sb == nil {
		return noSandbox(r.PathValue("id"))
	}
	switch {
	case call == "public":
		sb.public = text == "true"
	case call == "autodelete":
		sb.autoDelete = n
	case n < 0:
		return badRequest("the interval must be non-negative")
	case call == "autostop":
		sb.autoStop = n
		if sb.state == started {
			s.touch(sb)
		}
	case call == "autoarchive":
		sb.autoArchive = n
	case call == "ttl":
		s.setTTL(sb, n)
	default:
		return notSimulated(r.Method + " " + r.URL.Path)
	}
	sb.updated = time.Now()
	answer(w, http.StatusOK, s.wire(r, sb))
	return nil
}

// putLabels replaces all labels [O].
func (s *Simulator) putLabels(w http.ResponseWriter, r *http.Request) error {
	var b struct {
		Labels map[string]string `json:"labels"`
	}
	if err := read(r, &b); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sb := s.find(r.PathValue("id"))
	if sb == nil {
		return noSandbox(r.PathValue("id"))
	}
	sb.labels = b.Labels
	answer(w, http.StatusOK, map[string]any{"labels": notNil(b.Labels)})
	return nil
}

// alive returns the life of a sandbox whose toolbox can be spoken to, and counts the
// activity.
func (s *Simulator) alive(id string) (*sandbox, context.Context, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sb := s.sandboxes[id]
	if sb == nil {
		return nil, nil, refuse(http.StatusNotFound, "Sandbox "+id+" not found") // [I]
	}
	if sb.state != started {
		return nil, nil, badRequest("Sandbox is not running") // [I]
	}
	s.touch(sb)
	return sb, sb.life, nil
}
