package daytona

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/guest"
)

// States of a sandbox, as far as there are any of them here [S].
const (
	creating   = "creating"
	started    = "started"
	stopping   = "stopping"
	stopped    = "stopped"
	destroying = "destroying"
	destroyed  = "destroyed"
	failed     = "error"
)

const (
	// homeDir is where commands start, and whose user they are of [O, images/].
	homeDir, user = "/home/daytona", "daytona"
	// defaultAutoStop and defaultAutoArchive are minutes [O].
	defaultAutoStop, defaultAutoArchive = 15, 7 * 24 * 60
	// startWait is for how long an answer to create is held back [O].
	startWait = 30 * time.Second
)

// size is what a snapshot gives, in cores and GiB.
type size struct{ cpu, memory, disk int64 }

var (
	// snapshots are those that every organization has [D]; the first is the default.
	snapshots = map[string]size{"daytona-small": {1, 1, 3}, "daytona-medium": {2, 4, 8}, "daytona-large": {4, 8, 10}}
	// regions [D].
	regions = []string{"us", "eu"}
)

const defaultSnapshot = "daytona-small"

// sandbox is one, in a guest while it is started. Simulator.mu guards it.
type sandbox struct {
	id, name, snapshot, target string
	// token opens previews.
	token              string
	size               size
	env, labels        map[string]string
	public, blocked    bool
	allowList, domains string
	state, desired     string
	errorReason        string
	// pending says that a change of state is under way.
	pending                           bool
	autoStop, autoArchive, autoDelete int64
	destroyAt                         time.Time
	created, updated, active          time.Time
	seq                               int64

	guest *guest.Guest
	// disk is what one that was stopped left.
	disk     *guest.Snapshot
	sessions map[string]*session
	// idle stops it, ttl destroys it.
	idle, ttl *time.Timer
	// life ends when it is not started any more, booted when creating has ended.
	life   context.Context //nolint:containedctx // commands outlive the requests that start them
	end    context.CancelFunc
	booted chan struct{}
}

// touch counts activity, without which a sandbox is stopped [D]. The caller holds mu.
func (s *Simulator) touch(sb *sandbox) {
	sb.active = time.Now()
	if sb.idle != nil {
		sb.idle.Stop()
	}
	if sb.autoStop > 0 && !s.closed {
		sb.idle = time.AfterFunc(time.Duration(sb.autoStop)*s.opts.Minute, func() { s.spawn(func() { s.tryStop(sb) }) })
	}
}

func (sb *sandbox) stopTimers() {
	for _, timer := range []*time.Timer{sb.idle, sb.ttl} {
		if timer != nil {
			timer.Stop()
		}
	}
}

// halt ends what runs in a sandbox, and returns its guest, which the caller deletes
// after giving back mu, which it holds.
func (s *Simulator) halt(sb *sandbox, state string) *guest.Guest {
	sb.state, sb.updated, sb.sessions = state, time.Now(), map[string]*session{}
	if sb.idle != nil {
		sb.idle.Stop()
	}
	if sb.end != nil {
		sb.end()
	}
	g := sb.guest
	sb.guest = nil
	return g
}

// show answers with a sandbox as it is, or was.
func (s *Simulator) show(w http.ResponseWriter, sb *sandbox, shown wireSandbox) {
	if !sb.blocked {
		w.Header().Set("X-Simulator-Network", "closed")
	}
	answer(w, http.StatusOK, shown)
}

// wire is a sandbox as it is shown. The caller holds mu.
func (s *Simulator) wire(r *http.Request, sb *sandbox) wireSandbox {
	out := wireSandbox{
		ID: sb.id, OrganizationID: s.org, Name: sb.name, Snapshot: sb.snapshot, User: user, Env: notNil(sb.env), Labels: notNil(sb.labels),
		Public: sb.public, NetworkBlockAll: sb.blocked, NetworkAllowList: sb.allowList, DomainAllowList: sb.domains, Target: sb.target,
		CPU: sb.size.cpu, Memory: sb.size.memory, Disk: sb.size.disk, State: sb.state, DesiredState: sb.desired, ErrorReason: sb.errorReason,
		BackupState: "None", AutoStopInterval: sb.autoStop, AutoArchiveInterval: sb.autoArchive, AutoDeleteInterval: sb.autoDelete,
		CreatedAt: sb.created.UTC(), UpdatedAt: sb.updated.UTC(), LastActivityAt: sb.active.UTC(), SandboxClass: "container",
		ToolboxProxyURL: "http://" + r.Host + "/toolbox",
	}
	if !sb.destroyAt.IsZero() {
		at := sb.destroyAt.UTC()
		out.AutoDestroyAt = &at
	}
	return out
}

func notNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// find returns one by id or name, unless it is destroyed [O]. The caller holds mu.
func (s *Simulator) find(idOrName string) *sandbox {
	if sb := s.sandboxes[idOrName]; sb != nil {
		return sb
	}
	for _, sb := range s.sandboxes {
		if sb.name == idOrName {
			return sb
		}
	}
	return nil
}

func (s *Simulator) getSandbox(w http.ResponseWriter, r *http.Request) error {
	s.mu.Lock()
	sb := s.find(r.PathValue("id"))
	if sb == nil {
		s.mu.Unlock()
		return noSandbox(r.PathValue("id"))
	}
	shown := s.wire(r, sb)
	s.mu.Unlock()
	s.show(w, sb, shown)
	return nil
}

// deleteSandbox frees the name at once, and answers before it is done [O].
func (s *Simulator) deleteSandbox(w http.ResponseWriter, r *http.Request) error {
	s.mu.Lock()
	sb := s.find(r.PathValue("id"))
	switch {
	case sb == nil:
		s.mu.Unlock()
		return noSandbox(r.PathValue("id"))
	case sb.pending:
		s.mu.Unlock()
		return inProgress()
	}
	g := s.condemn(sb)
	shown := s.wire(r, sb)
	s.mu.Unlock()
	s.spawn(func() { s.destroy(sb, g) })
	s.show(w, sb, shown)
	return nil
}

// condemn begins to destroy one. The caller holds mu.
func (s *Simulator) condemn(sb *sandbox) *guest.Guest {
	sb.stopTimers()
	sb.name = "DESTROYED_" + sb.name + "_" + strconv.FormatInt(time.Now().UnixMilli(), 10)
	sb.desired, sb.pending = destroyed, true
	return s.halt(sb, destroying)
}

func (s *Simulator) destroy(sb *sandbox, g *guest.Guest) {
	if g != nil {
		if err := g.Delete(s.life); err != nil {
			s.opts.Log.Error("a guest could not be deleted", "sandbox_id", sb.id, "error", err)
		}
	}
	if sb.disk != nil {
		if err := s.fleet.Forget(s.life, sb.disk); err != nil {
			s.opts.Log.Error("a disk could not be removed", "sandbox_id", sb.id, "error", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sandboxes, sb.id)
}

// expire destroys a sandbox whose time to live is over, whatever it is at [S].
func (s *Simulator) expire(sb *sandbox) {
	s.mu.Lock()
	booted := sb.booted
	s.mu.Unlock()
	select {
	case <-booted:
	case <-s.life.Done():
		return
	}
	s.mu.Lock()
	if s.sandboxes[sb.id] != sb || sb.desired == destroyed {
		s.mu.Unlock()
		return
	}
	g := s.condemn(sb)
	s.mu.Unlock()
	s.destroy(sb, g)
}

// matches reports whether a sandbox has all of the labels, the beginning of a name,
// and one of the states that a query asks for.
func (sb *sandbox) matches(labels map[string]string, name string, states []string) bool {
	for key, want := range labels {
		if got, ok := sb.labels[key]; !ok || got != want {
			return false
		}
	}
	if !strings.HasPrefix(strings.ToLower(sb.name), strings.ToLower(name)) {
		return false
	}
	return len(states) == 0 || slices.Contains(states, sb.state)
}

// listSandboxes is by cursor, newest first unless it is asked otherwise [S]. What is
// being destroyed is listed, too [O].
func (s *Simulator) listSandboxes(w http.ResponseWriter, r *http.Request) error {
	const most, usual = 200, 100
	q := r.URL.Query()
	limit, err := strconv.Atoi(cmp.Or(q.Get("limit"), strconv.Itoa(usual)))
	if err != nil || limit < 1 || limit > most {
		return badRequest("limit must not be greater than 200")
	}
	var labels map[string]string
	if text := q.Get("labels"); text != "" && json.Unmarshal([]byte(text), &labels) != nil {
		return badRequest("Invalid labels JSON format")
	}
	var after int64
	if text := q.Get("cursor"); text != "" {
		if after, err = strconv.ParseInt(text, 36, 64); err != nil {
			return badRequest("Invalid cursor")
		}
	}
	ascending := q.Get("order") == "asc"
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*sandbox
	for _, sb := range s.sandboxes {
		if sb.matches(labels, q.Get("name"), q["states"]) && (after == 0 || (sb.seq > after) == ascending && sb.seq != after) {
			found = append(found, sb)
		}
	}
	slices.SortFunc(found, func(a, b *sandbox) int {
		if ascending {
			return cmp.Compare(a.seq, b.seq)
		}
		return cmp.Compare(b.seq, a.seq)
	})
	body := struct {
		Items      []wireSandbox `json:"items"`
		NextCursor *string       `json:"nextCursor"`
	}{Items: []wireSandbox{}}
	if len(found) > limit {
		found = found[:limit]
		next := strconv.FormatInt(found[limit-1].seq, 36)
		body.NextCursor = &next
	}
	for _, sb := range found {
		body.Items = append(body.Items, s.wire(r, sb))
	}
	answer(w, http.StatusOK, body)
	return nil
}
