package daytona

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/guest"
)

// createBody is what create takes [S].
type createBody struct {
	Name                string            `json:"name"`
	Snapshot            string            `json:"snapshot"`
	User                string            `json:"user"`
	Env                 map[string]string `json:"env"`
	Labels              map[string]string `json:"labels"`
	Public              bool              `json:"public"`
	NetworkBlockAll     bool              `json:"networkBlockAll"`
	NetworkAllowList    string            `json:"networkAllowList"`
	DomainAllowList     string            `json:"domainAllowList"`
	Target              string            `json:"target"`
	CPU                 int64             `json:"cpu"`
	GPU                 int64             `json:"gpu"`
	Memory              int64             `json:"memory"`
	Disk                int64             `json:"disk"`
	AutoStopInterval    *int64            `json:"autoStopInterval"`
	AutoPauseInterval   int64             `json:"autoPauseInterval"`
	AutoArchiveInterval *int64            `json:"autoArchiveInterval"`
	AutoDeleteInterval  *int64            `json:"autoDeleteInterval"`
	TTLMinutes          int64             `json:"ttlMinutes"`
	Volumes             []json.RawMessage `json:"volumes"`
	BuildInfo           json.RawMessage   `json:"buildInfo"`
	LinkedSandbox       string            `json:"linkedSandbox"`
	Secrets             []json.RawMessage `json:"secrets"`
}

// check refuses what the vendor would [O, where nothing else is said], and what this
// does not have.
func (b *createBody) check() error {
	switch {
	case b.BuildInfo != nil:
		return notSimulated("images to be built")
	case len(b.Volumes) > 0 || len(b.Secrets) > 0 || b.LinkedSandbox != "":
		return notSimulated("volumes, secrets and linked sandboxes")
	case b.User != "" && b.User != user:
		return notSimulated("other users")
	case b.CPU > 0 || b.GPU > 0 || b.Memory > 0 || b.Disk > 0:
		return badRequest("Cannot specify Sandbox resources when using a snapshot")
	case b.AutoPauseInterval > 0:
		return refuse(http.StatusUnprocessableEntity, "Pausing is not supported for this sandbox") // [S, I]
	case b.TTLMinutes < 0 || b.AutoStopInterval != nil && *b.AutoStopInterval < 0:
		return badRequest("Auto-stop interval must be non-negative")
	}
	if _, ok := snapshots[b.Snapshot]; !ok {
		return badRequest("Snapshot " + b.Snapshot + " not found. Did you add it through the Daytona Dashboard?")
	}
	if !slices.Contains(regions, b.Target) {
		return refuse(http.StatusNotFound, "Region not found")
	}
	return checkAllowList(b.NetworkAllowList)
}

func checkAllowList(list string) error {
	const most = 10 // [O]
	if list == "" {
		return nil
	}
	all := strings.Split(list, ",")
	if len(all) > most {
		return badRequest("Network allow list cannot contain more than 10 networks")
	}
	for _, one := range all {
		if _, err := netip.ParsePrefix(strings.TrimSpace(one)); err != nil {
			return badRequest("Invalid CIDR: " + one)
		}
	}
	return nil
}

func value(given *int64, otherwise int64) int64 {
	if given == nil {
		return otherwise
	}
	return *given
}

// createSandbox answers when the sandbox has started, or half a minute has passed,
// with what it was in the beginning [O].
func (s *Simulator) createSandbox(w http.ResponseWriter, r *http.Request) error {
	if err := s.admitCreate(w); err != nil {
		return err
	}
	var b createBody
	if err := read(r, &b); err != nil {
		return err
	}
	b.Snapshot, b.Target = cmp.Or(b.Snapshot, defaultSnapshot), cmp.Or(b.Target, regions[0])
	if err := b.check(); err != nil {
		return err
	}
	now := time.Now()
	sb := &sandbox{
		id: newID(), token: strings.ToLower(rand.Text()), name: b.Name, snapshot: b.Snapshot, target: b.Target, size: snapshots[b.Snapshot], env: b.Env, labels: b.Labels,
		public: b.Public, blocked: b.NetworkBlockAll, allowList: b.NetworkAllowList, domains: b.DomainAllowList,
		state: creating, desired: started, pending: true, autoStop: value(b.AutoStopInterval, defaultAutoStop),
		autoArchive: value(b.AutoArchiveInterval, defaultAutoArchive), autoDelete: value(b.AutoDeleteInterval, -1),
		created: now, updated: now, active: now, sessions: map[string]*session{}, booted: make(chan struct{}),
	}
	sb.name = cmp.Or(sb.name, sb.id)
	shown, err := s.insert(r, sb, b.TTLMinutes)
	if err != nil {
		return err
	}
	booted := sb.booted // another may follow
	s.spawn(func() { s.boot(sb, booted) })
	timer := time.NewTimer(startWait)
	defer timer.Stop()
	select {
	case <-booted:
	case <-timer.C:
	case <-s.life.Done():
	}
	s.mu.Lock()
	why := sb.errorReason
	s.mu.Unlock()
	if why != "" {
		return badRequest("Sandbox failed to start: " + why)
	}
	s.show(w, sb, shown)
	return nil
}

// insert adds a sandbox, whose name must be free.
func (s *Simulator) insert(r *http.Request, sb *sandbox, ttl int64) (wireSandbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range s.sandboxes {
		if other.name == sb.name {
			return wireSandbox{}, refuse(http.StatusConflict, "Sandbox with name "+sb.name+" already exists")
		}
	}
	if s.opts.Quota > 0 && len(s.sandboxes) >= s.opts.Quota {
		return wireSandbox{}, badRequest("Total CPU limit exceeded. Maximum allowed: " + strconv.Itoa(s.opts.Quota) + ".")
	}
	s.seq++
	sb.seq = s.seq
	s.sandboxes[sb.id] = sb
	s.setTTL(sb, ttl)
	return s.wire(r, sb), nil
}

// setTTL destroys a sandbox in so many minutes; 0: never [S]. The caller holds mu.
func (s *Simulator) setTTL(sb *sandbox, minutes int64) {
	if sb.ttl != nil {
		sb.ttl.Stop()
	}
	sb.destroyAt = time.Time{}
	if minutes == 0 {
		return
	}
	after := time.Duration(minutes) * s.opts.Minute
	sb.destroyAt = time.Now().Add(after)
	sb.ttl = time.AfterFunc(after, func() { s.spawn(func() { s.expire(sb) }) })
}

// boot makes the guest of a sandbox.
func (s *Simulator) boot(sb *sandbox, booted chan struct{}) {
	defer close(booted)
	s.mu.Lock()
	disk, spec := sb.disk, guest.Spec{Env: sb.env, CPUMillis: sb.size.cpu * 1000, MemoryBytes: sb.size.memory << 30}
	s.mu.Unlock()
	g, err := s.makeGuest(disk, spec)
	s.mu.Lock()
	defer s.mu.Unlock()
	sb.pending, sb.updated = false, time.Now()
	if err != nil {
		sb.state, sb.errorReason = failed, err.Error()
		return
	}
	sb.state, sb.guest = started, g
	sb.life, sb.end = context.WithCancel(s.life)
	s.touch(sb)
}

func (s *Simulator) makeGuest(disk *guest.Snapshot, spec guest.Spec) (*guest.Guest, error) {
	if disk != nil {
		return s.fleet.Restore(s.life, disk)
	}
	g, err := s.fleet.Create(s.life, spec)
	if err != nil {
		return nil, err
	}
	return g, g.MakeDirectory(s.life, homeDir, true)
}
