package fake

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// cloud is the vendor side: what a real vendor would hold in its own data
// centre. The driver has no memory beside it.
type cloud struct {
	log *slog.Logger
	now func() time.Time

	mu    sync.Mutex
	store *store
	seq   uint64
	boxes map[string]*box
	// owners lists the sandboxes of each owner by seq.
	owners    map[string][]*box
	keys      map[string]usedKey
	snapshots map[string]*savedTree
	volumes   map[volumeKey]*volume
	watchers  map[*watcher]struct{}
	// flows wait, by id, for flowWatchers to decide.
	flows        map[string]*flow
	flowWatchers map[*flowWatcher]struct{}
	// lag is how far listings are behind; ghosts are the deleted sandboxes that they
	// still show.
	lag    time.Duration
	ghosts []ghost
}

// usedKey remembers an idempotency key beyond the life of what it made.
type usedKey struct {
	// objects has more than one id for a fork, in the order of the request.
	objects []string
	digest  []byte
	// denied: somebody was told that it made nothing, and so it never will.
	denied bool
}

type volumeKey struct{ owner, name string }

// box is one sandbox, as the vendor stores it.
type box struct {
	Seq       uint64
	VendorID  string
	Identity  identity
	Operation operation
	State     string
	Reason    string
	CreatedAt time.Time
	ExpiresAt time.Time
	// Active is the time spent running before Since; Since is zero while paused.
	Active time.Duration
	Since  time.Time
	Kept   keeps
	// Spec is the request's.
	Spec stored[providerv1.SandboxSpec, *providerv1.SandboxSpec]
	// Base is what the sandbox started with; Root is what it has, nil while it is
	// the same.
	Base *node
	Root *node
	// Overlays are the copies of volumes that are mounted with mode OVERLAY.
	Overlays map[string]*node

	// live is what a restart of the plugin loses.
	live live
}

// live is the running part of a sandbox.
type live struct {
	procs   map[*process]struct{}
	lastPID int
	// memory is what the processes took of the sandbox's memory.
	memory int64
	ports  map[uint32]*listener
	expiry *time.Timer
	// volley is held while one signal goes to several processes. Who forks or
	// ends passes it, so that nobody escapes, and nobody sees one of them dead
	// before all have been hit. It comes before the cloud's mutex.
	volley sync.RWMutex
}

type identity struct {
	ID     string
	Owner  string
	Labels map[string]string
}

type operation struct {
	Key    string
	Digest []byte
}

type keeps struct {
	Disk      bool
	Memory    bool
	Processes bool
}

func (k keeps) proto() *providerv1.Keeps {
	return &providerv1.Keeps{Disk: k.Disk, Memory: k.Memory, Processes: k.Processes}
}

const (
	running = "RUNNING"
	paused  = "PAUSED"
)

// savedTree is a snapshot.
type savedTree struct {
	ID        string
	Owner     string
	Sandbox   string
	Operation operation
	CreatedAt time.Time
	Labels    map[string]string
	Spec      stored[providerv1.SandboxSpec, *providerv1.SandboxSpec]
	Root      *node
}

type volume struct {
	Owner     string
	Name      string
	CreatedAt time.Time
	Labels    map[string]string
	Root      *node
}

// stored keeps a message inside a stored object.
type stored[T any, P interface {
	*T
	proto.Message
}] struct{ M P }

// GobEncode implements gob.GobEncoder.
func (s stored[T, P]) GobEncode() ([]byte, error) { return proto.Marshal(s.M) }

// GobDecode implements gob.GobDecoder.
func (s *stored[T, P]) GobDecode(data []byte) error {
	s.M = P(new(T))
	return proto.Unmarshal(data, s.M)
}

// newCloud returns the vendor side kept in dir, or in memory alone if dir is
// empty.
func newCloud(dir string, log *slog.Logger, now func() time.Time) (*cloud, error) {
	c := &cloud{
		log: log, now: now, store: &store{dir: dir},
		boxes: map[string]*box{}, owners: map[string][]*box{}, keys: map[string]usedKey{},
		snapshots: map[string]*savedTree{}, volumes: map[volumeKey]*volume{}, watchers: map[*watcher]struct{}{},
		flows: map[string]*flow{}, flowWatchers: map[*flowWatcher]struct{}{},
	}
	if dir == "" {
		return c, nil
	}
	c.mu.Lock() // a lifetime may end while the rest is read
	defer c.mu.Unlock()
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("read the fake vendor's state in %q: %w", dir, err)
	}
	return c, nil
}

// close ends what runs and leaves what is stored.
func (c *cloud) close() {
	c.mu.Lock()
	var procs []*process
	for _, b := range c.boxes {
		if b.live.expiry != nil {
			b.live.expiry.Stop()
		}
		for p := range b.live.procs {
			procs = append(procs, p)
		}
	}
	c.mu.Unlock()
	endAll(procs)
}

// add stores a new sandbox and starts its life. The caller holds mu.
func (c *cloud) add(b *box) error {
	c.seq++
	b.Seq = c.seq
	b.VendorID = fmt.Sprintf("fake-%06d", b.Seq)
	if err := c.save(b); err != nil {
		return err
	}
	c.index(b)
	c.notify(b)
	return nil
}

func (c *cloud) index(b *box) {
	b.live.procs, b.live.ports, b.live.lastPID = map[*process]struct{}{}, map[uint32]*listener{}, 1
	c.boxes[b.Identity.ID] = b
	c.owners[b.Identity.Owner] = append(c.owners[b.Identity.Owner], b)
	c.spend(b.Operation, b.Identity.ID)
	c.schedule(b)
}

// schedule lets a lifetime end. A sandbox also ends, in every answer, by the
// clock alone.
func (c *cloud) schedule(b *box) {
	if b.live.expiry != nil {
		b.live.expiry.Stop()
	}
	if b.ExpiresAt.IsZero() {
		return
	}
	b.live.expiry = time.AfterFunc(b.ExpiresAt.Sub(c.now()), func() { c.remove(b.Identity.ID) })
}

// remove ends a sandbox and all it holds; false: there was none.
func (c *cloud) remove(id string) bool {
	c.mu.Lock()
	b := c.boxes[id]
	if b == nil {
		c.mu.Unlock()
		return false
	}
	delete(c.boxes, id)
	list := c.owners[b.Identity.Owner]
	if i, ok := slices.BinarySearchFunc(list, b.Seq, func(b *box, seq uint64) int { return int(int64(b.Seq) - int64(seq)) }); ok {
		c.owners[b.Identity.Owner] = slices.Delete(list, i, i+1)
	}
	if b.live.expiry != nil {
		b.live.expiry.Stop()
	}
	if err := c.store.remove("sandboxes", id); err != nil {
		c.log.Error("removing a stored sandbox failed", "sandbox_id", id, "error", err)
	}
	c.notify(b)
	c.haunt(b)
	procs := make([]*process, 0, len(b.live.procs))
	for p := range b.live.procs {
		procs = append(procs, p)
	}
	c.mu.Unlock()
	endAll(procs)
	return true
}

func (c *cloud) save(b *box) error { return c.store.write("sandboxes", b.Identity.ID, b) }

// find returns a sandbox that is alive by the clock. The caller holds mu.
func (c *cloud) find(id string) (*box, error) {
	b := c.boxes[id]
	if b == nil || (!b.ExpiresAt.IsZero() && !c.now().Before(b.ExpiresAt)) {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "sandbox %q does not exist", id).With("sandbox_id", id)
	}
	return b, nil
}

// findRunning is find for calls that need the sandbox running.
func (c *cloud) findRunning(id string) (*box, error) {
	b, err := c.find(id)
	if err != nil {
		return nil, err
	}
	if b.State != running {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING, "sandbox %q is %s", id, strings.ToLower(b.State)).
			With("sandbox_id", id).With("state", b.State)
	}
	return b, nil
}

// spend notes what a key made. The caller holds mu.
func (c *cloud) spend(op operation, object string) {
	c.keys[op.Key] = usedKey{objects: append(c.keys[op.Key].objects, object), digest: op.Digest}
}

// replay returns what an operation with this key made before: objects, or
// nothing, or the refusal of a key that was used otherwise or denied. The caller
// holds mu.
func (c *cloud) replay(op *providerv1.Operation) (objects []string, err error) {
	used, ok := c.keys[op.GetIdempotencyKey()]
	why := "was used with another request"
	switch {
	case !ok:
		return nil, nil
	case used.denied:
		why = "was settled as unused before this request came"
	case bytes.Equal(used.digest, op.GetRequestDigest()):
		return used.objects, nil
	}
	return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED,
		"idempotency key %q %s", op.GetIdempotencyKey(), why).With("idempotency_key", op.GetIdempotencyKey())
}

// settle returns what a key made and is still there. A key that made nothing will
// make nothing any more. The caller holds mu.
func (c *cloud) settle(key string) (*box, error) {
	used, ok := c.keys[key]
	if !ok {
		c.keys[key] = usedKey{denied: true}
	}
	for _, id := range used.objects {
		if b, err := c.find(id); err == nil {
			return b, nil
		}
	}
	return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND,
		"no sandbox was made with idempotency key %q", key).With("idempotency_key", key)
}

// proto returns the contract's view of a sandbox, of which nothing is the vendor's
// own: who gets it may change it. The caller holds mu.
func (c *cloud) proto(b *box) *providerv1.Sandbox {
	out := &providerv1.Sandbox{
		Identity: &providerv1.Identity{SandboxId: b.Identity.ID, Owner: b.Identity.Owner, Labels: maps.Clone(b.Identity.Labels)},
		Handle:   &providerv1.Handle{Version: 1, Data: []byte(b.VendorID)},
		State:    providerv1.SandboxState(providerv1.SandboxState_value["SANDBOX_STATE_"+b.State]), StatusReason: b.Reason,
		VendorId: b.VendorID, CreatedAt: timestamppb.New(b.CreatedAt), Region: b.Spec.M.GetRegion(),
		Resources: proto.CloneOf(b.Spec.M.GetResources()), EgressStrength: providerv1.EgressStrength_EGRESS_STRENGTH_ENFORCED,
		Operation: &providerv1.Operation{IdempotencyKey: b.Operation.Key, RequestDigest: bytes.Clone(b.Operation.Digest)},
	}
	if !b.ExpiresAt.IsZero() {
		out.ExpiresAt = timestamppb.New(b.ExpiresAt)
	}
	if b.State == paused {
		out.Kept = b.Kept.proto()
	}
	return out
}

// view returns the files of a sandbox for reading. The caller holds mu.
func (c *cloud) view(b *box) *view {
	v := &view{root: b.Root, mounts: map[string]*node{"/dev": devices()}, readOnly: map[string]bool{"/dev": true}}
	if v.root == nil {
		v.root = b.Base
	}
	for _, m := range b.Spec.M.GetMounts() {
		target := cleanPath(m.GetTarget())
		if copied := b.Overlays[target]; copied != nil {
			v.mounts[target] = copied
			continue
		}
		if vol := c.volumes[volumeKey{b.Identity.Owner, m.GetVolume()}]; vol != nil {
			v.mounts[target] = vol.Root
			v.readOnly[target] = m.GetMode() == providerv1.MountMode_MOUNT_MODE_RO
		}
	}
	return v
}

// edit returns the files of a sandbox for writing; the caller calls saveFiles
// after it wrote.
func (c *cloud) edit(b *box) *view {
	if b.Root == nil {
		b.Root = b.Base.clone()
	}
	return c.view(b)
}

// saveFiles stores a sandbox and the volumes that it can write to.
func (c *cloud) saveFiles(b *box) error {
	for _, m := range b.Spec.M.GetMounts() {
		if vol := c.volumes[volumeKey{b.Identity.Owner, m.GetVolume()}]; vol != nil && m.GetMode() == providerv1.MountMode_MOUNT_MODE_RW {
			if err := c.store.write("volumes", vol.fileName(), vol); err != nil {
				return err
			}
		}
	}
	return c.save(b)
}
