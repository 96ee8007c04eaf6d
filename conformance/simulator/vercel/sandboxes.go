package vercel

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/guest"
)

// sandbox is a named record. Simulator.mu guards it.
type sandbox struct {
	name            string
	persistent      bool
	region          string
	failover        []string
	vcpus           int64
	runtime, image  string
	timeout         int64
	policy          json.RawMessage
	tags, env       map[string]string
	ports           []int
	created         time.Time
	updated         time.Time
	statusUpdated   time.Time
	seq             int64
	session         *session
	currentSnapshot *snapshot
	// disk is what the last session of a persistent sandbox left.
	disk *snapshot
}

const (
	// homeDir is where commands start [S, M].
	homeDir = "/vercel/sandbox"
	// memoryPerCPU is MiB [D].
	memoryPerCPU = 2048
	// defaultVCPUs and defaultTimeout [M].
	defaultVCPUs, defaultTimeout = 2, 300_000
	// maxTags [D]; that a value may have 256 characters is [I].
	maxTags, maxTagValue = 5, 256
	// maxPorts [D].
	maxPorts = 15
)

var (
	// validName [D, GET /v2/sandboxes/{name}].
	validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
	// runtimes and managed images [S, images/].
	runtimes = []string{"node26", "node24", "node22", "python3.13"}
	images   = []string{"universal", "node:22", "node:24", "node:26", "python:3.14", "ubuntu", "arch"}
	// regions are the vendor's, of which iad1 is the default [D].
	regions = []string{
		"arn1", "bom1", "cdg1", "cle1", "cpt1", "dub1", "dxb1", "fra1", "gru1", "hkg1", "hnd1", "iad1", "icn1", "kix1", "lhr1", "pdx1", "sfo1",
		"sin1", "syd1",
	}
)

// createBody is what create takes, and fork and update as far as they do [S].
type createBody struct {
	ProjectID       *string           `json:"projectId"`
	Name            string            `json:"name"`
	Ports           []int             `json:"ports"`
	Timeout         *int64            `json:"timeout"`
	Resources       *wireResources    `json:"resources"`
	Runtime         string            `json:"runtime"`
	Image           string            `json:"image"`
	Persistent      *bool             `json:"persistent"`
	NetworkPolicy   json.RawMessage   `json:"networkPolicy"`
	Env             map[string]string `json:"env"`
	Tags            map[string]string `json:"tags"`
	Region          string            `json:"region"`
	FailoverRegions []string          `json:"failoverRegions"`
	Source          *struct {
		Type       string `json:"type"`
		SnapshotID string `json:"snapshotId"`
	} `json:"source"`
}

type wireResources struct {
	VCPUs *int64 `json:"vcpus"`
}

// read decodes a body; none is an empty one [M].
func read(r *http.Request, into any) error {
	const most = 4 << 20
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, most))
	if err := dec.Decode(into); err != nil && r.ContentLength != 0 {
		return badRequest("Invalid request: the body is not the JSON that is expected: " + err.Error())
	}
	return nil
}

// apply checks a body and changes a sandbox accordingly.
func (s *Simulator) apply(b *createBody, sb *sandbox) error {
	if b.Timeout != nil {
		if *b.Timeout < 1000 || *b.Timeout > s.opts.MaxTimeout.Milliseconds() {
			return badRequest("Invalid request: `timeout` should be between 1000 and " + strconv.FormatInt(s.opts.MaxTimeout.Milliseconds(), 10)) // [I]
		}
		sb.timeout = *b.Timeout
	}
	if b.Resources != nil && b.Resources.VCPUs != nil {
		if n := *b.Resources.VCPUs; n != 1 && (n < 2 || n%2 != 0) {
			return badRequest("Invalid request: `vcpus` should be 1 or an even number") // [S, D]
		}
		sb.vcpus = *b.Resources.VCPUs
	}
	if b.Region != "" {
		if !slices.Contains(regions, b.Region) {
			return badRequest("Invalid request: unknown region " + b.Region) // [I]
		}
		sb.region = b.Region
	}
	if b.FailoverRegions != nil {
		sb.failover = b.FailoverRegions
	}
	if slices.Contains(sb.failover, sb.region) {
		return badRequest("failoverRegions must not include the sandbox region: " + sb.region) // [M]
	}
	if b.Tags != nil {
		if len(b.Tags) > maxTags {
			return badRequest("Invalid request: at most 5 tags")
		}
		for key, value := range b.Tags {
			if key == "" || len(value) > maxTagValue {
				return badRequest("Invalid request: tag " + key + " should have at most 256 characters")
			}
		}
		sb.tags = b.Tags
	}
	if err := checkPorts(b.Ports); err != nil {
		return err
	}
	if b.Ports != nil {
		sb.ports = b.Ports
	}
	if b.NetworkPolicy != nil {
		if err := checkPolicy(b.NetworkPolicy); err != nil {
			return err
		}
		sb.policy = b.NetworkPolicy
	}
	if b.Persistent != nil {
		sb.persistent = *b.Persistent
	}
	if b.Env != nil {
		sb.env = b.Env
	}
	return nil
}

// checkImage: an image that is not there is refused with 404 [I].
func checkImage(b *createBody) error {
	switch {
	case b.Runtime != "" && b.Image != "":
		return badRequest("`runtime` and `image` cannot be used together.") // [S]
	case b.Runtime != "" && !slices.Contains(runtimes, b.Runtime):
		return badRequest("Invalid request: unknown runtime " + b.Runtime)
	}
	name := strings.TrimSuffix(strings.TrimPrefix(b.Image, "vercel/sandbox/"), ":latest")
	if b.Image != "" && !slices.Contains(images, name) {
		return notFound("Image not found: " + b.Image)
	}
	return nil
}

func (s *Simulator) createSandbox(w http.ResponseWriter, r *http.Request) error {
	var b createBody
	if err := read(r, &b); err != nil {
		return err
	}
	if b.ProjectID == nil || *b.ProjectID != s.opts.Project {
		return notFound("Project not found")
	}
	// Sandboxes keep their files unless they are not to [D, concepts/persistent-sandboxes].
	sb := &sandbox{name: cmp.Or(b.Name, newID("sandbox-")), persistent: true, region: "iad1", vcpus: defaultVCPUs, timeout: defaultTimeout}
	if !validName.MatchString(sb.name) {
		return badRequest("Invalid request: `name` should match pattern \"^[a-zA-Z0-9_-]+$\"")
	}
	if err := checkImage(&b); err != nil {
		return err
	}
	sb.runtime, sb.image = b.Runtime, b.Image
	if err := s.apply(&b, sb); err != nil {
		return err
	}
	var from *snapshot
	if b.Source != nil {
		if b.Source.Type != "snapshot" {
			return notSimulated("source of type " + b.Source.Type)
		}
		if from = s.findSnapshot(b.Source.SnapshotID); from == nil {
			return refuse(http.StatusGone, "snapshot_not_found", "Snapshot not found: "+b.Source.SnapshotID) // [M]
		}
	}
	return s.add(w, r, sb, from)
}

// add makes a sandbox and its first session. The vendor goes on when its client
// leaves; so does this.
func (s *Simulator) add(w http.ResponseWriter, r *http.Request, sb *sandbox, from *snapshot) error {
	now := time.Now()
	sn := s.newSession(sb, from, now)
	sb.created, sb.updated, sb.statusUpdated, sb.session = now, now, now, sn
	s.mu.Lock()
	if s.sandboxes[sb.name] != nil {
		s.mu.Unlock()
		// Names are unique in a project [D]; how that is said is [I].
		return refuse(http.StatusConflict, "conflict", "A sandbox named "+sb.name+" already exists.")
	}
	s.seq++
	sb.seq = s.seq
	s.sandboxes[sb.name], s.sessions[sn.id] = sb, sn
	s.mu.Unlock()
	if err := s.boot(context.WithoutCancel(r.Context()), sb, sn, from); err != nil {
		s.mu.Lock()
		if s.sandboxes[sb.name] == sb {
			delete(s.sandboxes, sb.name)
		}
		delete(s.sessions, sn.id)
		s.mu.Unlock()
		return err
	}
	s.describe(w, r, sb, false)
	return nil
}

// describe answers with a sandbox, its session and its routes.
func (s *Simulator) describe(w http.ResponseWriter, _ *http.Request, sb *sandbox, resumed bool) {
	s.mu.Lock()
	body := map[string]any{"sandbox": sb.wire(), "session": sb.session.wire(), "routes": sb.routes(), "resumed": resumed}
	open := !denies(sb.policy)
	s.mu.Unlock()
	if open {
		w.Header().Set("X-Simulator-Network", "closed")
	}
	answer(w, http.StatusOK, body)
}

// wire is a sandbox as it is shown. The caller holds mu.
func (sb *sandbox) wire() wireSandbox {
	out := wireSandbox{
		Name: sb.name, Persistent: sb.persistent, Region: sb.region, FailoverRegions: sb.failover, VCPUs: sb.vcpus, Memory: sb.vcpus * memoryPerCPU,
		Runtime: sb.runtime, Image: sb.image, Timeout: sb.timeout, NetworkPolicy: shownPolicy(sb.policy), CreatedAt: millis(sb.created),
		UpdatedAt: millis(sb.updated), CurrentSessionID: sb.session.id, Status: sb.session.status, StatusUpdatedAt: millis(sb.statusUpdated),
		CWD: homeDir, Tags: sb.tags,
	}
	if sb.currentSnapshot != nil {
		out.CurrentSnapshotID = sb.currentSnapshot.id
	}
	return out
}

func (s *Simulator) findSandbox(r *http.Request) (*sandbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sb := s.sandboxes[r.PathValue("name")]; sb != nil {
		return sb, nil
	}
	return nil, notFound("Sandbox not found: " + r.PathValue("name")) // [M]
}

// getSandbox starts a new session of one that has stopped, if it is asked to [S, M].
func (s *Simulator) getSandbox(w http.ResponseWriter, r *http.Request) error {
	sb, err := s.findSandbox(r)
	if err != nil {
		return err
	}
	resumed := false
	if r.URL.Query().Get("resume") == "true" {
		if resumed, err = s.resume(r.Context(), sb); err != nil {
			return err
		}
	}
	s.describe(w, r, sb, resumed)
	return nil
}

// deleteSandbox stops what runs and removes everything [D].
func (s *Simulator) deleteSandbox(w http.ResponseWriter, r *http.Request) error {
	sb, err := s.findSandbox(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.sandboxes[sb.name] != sb {
		s.mu.Unlock()
		return notFound("Sandbox not found: " + sb.name)
	}
	delete(s.sandboxes, sb.name)
	for id, sn := range s.sessions {
		if sn.sandbox == sb {
			delete(s.sessions, id)
		}
	}
	sn := sb.session
	s.halt(sn, stopped)
	body := map[string]any{"sandbox": sb.wire()}
	disk := sb.disk
	s.mu.Unlock()
	if err := s.release(r.Context(), sn); err != nil {
		return err
	}
	if disk != nil {
		if err := s.fleet.Forget(r.Context(), disk.kept); err != nil {
			return err
		}
	}
	answer(w, http.StatusOK, body)
	return nil
}

// updateSandbox changes the record; what is running is changed as far as the mock
// does [M].
func (s *Simulator) updateSandbox(w http.ResponseWriter, r *http.Request) error {
	sb, err := s.findSandbox(r)
	if err != nil {
		return err
	}
	var b createBody
	if err := read(r, &b); err != nil {
		return err
	}
	s.mu.Lock()
	changed := *sb
	if err := s.apply(&b, &changed); err != nil {
		s.mu.Unlock()
		return err
	}
	changed.updated = time.Now()
	*sb = changed
	if b.Timeout != nil && sb.session.status == running && sb.timeout > sb.session.timeout {
		s.retime(sb.session, sb.timeout)
	}
	s.mu.Unlock()
	s.describe(w, r, sb, false)
	return nil
}

func (s *Simulator) callSandbox(w http.ResponseWriter, r *http.Request) error {
	switch {
	case r.PathValue("name") == "drives":
		return notSimulated("drives")
	case r.PathValue("call") == "fork":
		return s.forkSandbox(w, r)
	}
	return notFound("No route for " + r.Method + " " + r.URL.Path)
}

// forkSandbox copies the configuration and the current snapshot [S, M].
func (s *Simulator) forkSandbox(w http.ResponseWriter, r *http.Request) error {
	source, err := s.findSandbox(r)
	if err != nil {
		return err
	}
	var b createBody
	if err := read(r, &b); err != nil {
		return err
	}
	if err := checkImage(&b); err != nil {
		return err
	}
	s.mu.Lock()
	sb := *source
	s.mu.Unlock()
	sb.name, sb.session, sb.disk = cmp.Or(b.Name, newID("sandbox-")), nil, nil
	if !validName.MatchString(sb.name) {
		return badRequest("Invalid request: `name` should match pattern \"^[a-zA-Z0-9_-]+$\"")
	}
	if err := s.apply(&b, &sb); err != nil {
		return err
	}
	return s.add(w, r, &sb, sb.currentSnapshot)
}

// spec is the guest that a session of a sandbox runs in.
func (sb *sandbox) spec() guest.Spec {
	const perCPU, mib = 1000, 1 << 20
	return guest.Spec{Env: sb.env, CPUMillis: sb.vcpus * perCPU, MemoryBytes: sb.vcpus * memoryPerCPU * mib}
}
