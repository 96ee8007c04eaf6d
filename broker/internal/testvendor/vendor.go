package testvendor

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Capabilities is what a Vendor declares unless it is told otherwise.
var Capabilities = []string{
	"archive.download", "archive.upload", "egress.deny", "exec.list", "exec.signal", "exec.stdin", "fork", "fork.disk",
	"fork.memory", "fork.processes", "fs.diff", "fs.read", "fs.write", "image.host", "lifetime.extend", "lifetime.native", "pause",
	"pause.disk", "pause.memory", "pause.processes", "port.list", "port.tunnel", "snapshot", "snapshot.disk", "snapshot.memory",
	"snapshot.processes", "usage", "volume",
}

// Hook is called before and after the effect of a call, with the method's short
// name. An error it returns is the call's; after the effect that is a lost
// answer. It may block. For a fork it is also called as ForkCopy before each copy
// but the first: an error then leaves the fork half-way.
type Hook func(ctx context.Context, method string, after bool) error

// Vendor is the provider. The zero value is not ready; New makes one.
type Vendor struct {
	providerv1.UnimplementedProviderServiceServer

	mu           sync.Mutex
	capabilities []string
	limits       map[string]map[string]int64
	hook         Hook
	sandboxes    map[string]*providerv1.Sandbox
	keys         map[string][]string // idempotency key to sandbox ids
	halves       map[string]bool     // keys of forks that stopped half-way
	fenced       map[string]bool     // keys that were denied, and are honoured no more
	made         int
	execs        map[string]*command
	snapshots    map[string]*providerv1.Snapshot
	volumes      map[string]*providerv1.Volume
	files        map[string][]byte
	changed      chan struct{} // closed at each change
	calls        map[string]int
}

// New returns a vendor that has nothing.
func New() *Vendor {
	return &Vendor{
		capabilities: Capabilities, sandboxes: map[string]*providerv1.Sandbox{},
		keys: map[string][]string{}, halves: map[string]bool{}, fenced: map[string]bool{},
		execs: map[string]*command{}, snapshots: map[string]*providerv1.Snapshot{}, volumes: map[string]*providerv1.Volume{},
		files: map[string][]byte{}, changed: make(chan struct{}), calls: map[string]int{},
	}
}

// Declare replaces the declared capabilities. Call it before the vendor is used.
func (v *Vendor) Declare(ids ...string) { v.capabilities = ids }

// Limit declares a limit of a capability; nothing enforces it. Call it before the
// vendor is used.
func (v *Vendor) Limit(capability, name string, most int64) {
	if v.limits == nil {
		v.limits = make(map[string]map[string]int64)
	}
	v.limits[capability] = map[string]int64{name: most}
}

// SetHook replaces the hook; nil removes it.
func (v *Vendor) SetHook(h Hook) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hook = h
}

func (v *Vendor) run(ctx context.Context, method string, after bool) error {
	v.mu.Lock()
	h := v.hook
	if !after {
		v.calls[method]++
	}
	v.mu.Unlock()
	if h == nil {
		return nil
	}
	return h(ctx, method, after)
}

// Calls returns how often a method was called.
func (v *Vendor) Calls(method string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.calls[method]
}

// Made returns how many sandboxes were ever made.
func (v *Vendor) Made() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.made
}

// Snapshots returns how many there are.
func (v *Vendor) Snapshots() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.snapshots)
}

// Sandboxes returns a copy of what there is, by id.
func (v *Vendor) Sandboxes() map[string]*providerv1.Sandbox {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make(map[string]*providerv1.Sandbox, len(v.sandboxes))
	for id, sb := range v.sandboxes {
		out[id] = proto.CloneOf(sb)
	}
	return out
}

// Await returns when ok is true of the sandboxes, or ctx ends; it reports which.
func (v *Vendor) Await(ctx context.Context, ok func(map[string]*providerv1.Sandbox) bool) bool {
	for {
		v.mu.Lock()
		changed := v.changed
		v.mu.Unlock()
		if ok(v.Sandboxes()) {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// Kill makes a sandbox vanish, as a machine that dies.
func (v *Vendor) Kill(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.sandboxes, id)
	v.note()
}

// Plant puts in a sandbox that no broker asked for.
func (v *Vendor) Plant(sb *providerv1.Sandbox) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sandboxes[sb.GetIdentity().GetSandboxId()] = sb
	v.note()
}

// note tells waiters of a change; v.mu is held.
func (v *Vendor) note() {
	close(v.changed)
	v.changed = make(chan struct{})
}

func reason(r providerv1.ErrorReason, format string, args ...any) error {
	return fault.New(r, format, args...)
}

func missing(id string) error {
	return reason(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "sandbox %q does not exist", id)
}

// Describe declares the capabilities.
func (v *Vendor) Describe(context.Context, *providerv1.DescribeRequest) (*providerv1.DescribeResponse, error) {
	d := &providerv1.DescribeResponse{Name: "test", Vendor: "test", Version: "1.0.0"}
	for _, id := range slices.Sorted(slices.Values(v.capabilities)) {
		d.Capabilities = append(d.Capabilities, &providerv1.Capability{Id: id, State: providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED, Limits: v.limits[id]})
	}
	return d, nil
}

// Probe says that all is well.
func (v *Vendor) Probe(context.Context, *providerv1.ProbeRequest) (*providerv1.ProbeResponse, error) {
	return &providerv1.ProbeResponse{Ready: true}, nil
}

// known returns the sandbox a key made, if the digest fits; v.mu is held.
func (v *Vendor) known(op *providerv1.Operation) (*providerv1.Sandbox, error) {
	if v.fenced[op.GetIdempotencyKey()] {
		return nil, reason(providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED, "key %q was settled as unused", op.GetIdempotencyKey())
	}
	sb := v.madeWith(op.GetIdempotencyKey())
	if sb == nil {
		return nil, nil
	}
	if !bytes.Equal(sb.GetOperation().GetRequestDigest(), op.GetRequestDigest()) {
		return nil, reason(providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED, "key %q was used for another request", op.GetIdempotencyKey())
	}
	return proto.CloneOf(sb), nil
}

// madeWith returns a sandbox that a key made and that still exists; v.mu is held.
func (v *Vendor) madeWith(key string) *providerv1.Sandbox {
	for _, id := range v.keys[key] {
		if sb := v.sandboxes[id]; sb != nil {
			return sb
		}
	}
	return nil
}

// undo takes back what a fork made that stopped half-way; v.mu is held.
func (v *Vendor) undo(key string) {
	if !v.halves[key] {
		return
	}
	for _, id := range v.keys[key] {
		delete(v.sandboxes, id)
	}
	delete(v.keys, key)
	delete(v.halves, key)
	v.note()
}

// put makes a sandbox; v.mu is held.
func (v *Vendor) put(id *providerv1.Identity, op *providerv1.Operation, expires *timestamppb.Timestamp) *providerv1.Sandbox {
	sb := &providerv1.Sandbox{
		Identity: id, Operation: op, State: providerv1.SandboxState_SANDBOX_STATE_RUNNING, VendorId: "v-" + id.GetSandboxId(),
		CreatedAt: timestamppb.Now(), ExpiresAt: expires,
		Handle: &providerv1.Handle{Version: 1, Data: []byte(id.GetSandboxId())},
	}
	v.sandboxes[id.GetSandboxId()] = sb
	v.keys[op.GetIdempotencyKey()] = append(v.keys[op.GetIdempotencyKey()], id.GetSandboxId())
	v.made++
	v.note()
	return proto.CloneOf(sb)
}

// CreateSandbox makes a sandbox.
func (v *Vendor) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.CreateSandboxResponse, error) {
	if err := v.run(ctx, "CreateSandbox", false); err != nil {
		return nil, err
	}
	v.mu.Lock()
	sb, err := v.known(req.GetOperation())
	if sb == nil && err == nil {
		var expires *timestamppb.Timestamp
		if l := req.GetSpec().GetLifetime(); l != nil {
			expires = timestamppb.New(time.Now().Add(l.AsDuration()))
		}
		sb = v.put(req.GetIdentity(), req.GetOperation(), expires)
	}
	v.mu.Unlock()
	if err == nil {
		err = v.run(ctx, "CreateSandbox", true)
	}
	return &providerv1.CreateSandboxResponse{Sandbox: sb}, err
}

// GetSandbox returns one by reference or key.
func (v *Vendor) GetSandbox(ctx context.Context, req *providerv1.GetSandboxRequest) (*providerv1.GetSandboxResponse, error) {
	if err := v.run(ctx, "GetSandbox", false); err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	id := req.GetSandbox().GetSandboxId()
	sb := v.sandboxes[id]
	if key := req.GetIdempotencyKey(); key != "" {
		v.undo(key)
		if sb = v.madeWith(key); sb == nil {
			v.fenced[key] = true
		}
	}
	if sb == nil {
		return nil, missing(id)
	}
	return &providerv1.GetSandboxResponse{Sandbox: proto.CloneOf(sb)}, nil
}

// ListSandboxes returns all of an owner on one page.
func (v *Vendor) ListSandboxes(ctx context.Context, req *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error) {
	if err := v.run(ctx, "ListSandboxes", false); err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	out := &providerv1.ListSandboxesResponse{}
	for _, id := range slices.Sorted(maps.Keys(v.sandboxes)) {
		if sb := v.sandboxes[id]; sb.GetIdentity().GetOwner() == req.GetOwner() {
			out.Sandboxes = append(out.Sandboxes, proto.CloneOf(sb))
		}
	}
	return out, nil
}

// DeleteSandbox ends one.
func (v *Vendor) DeleteSandbox(ctx context.Context, req *providerv1.DeleteSandboxRequest) (*providerv1.DeleteSandboxResponse, error) {
	if err := v.run(ctx, "DeleteSandbox", false); err != nil {
		return nil, err
	}
	v.mu.Lock()
	_, had := v.sandboxes[req.GetSandbox().GetSandboxId()]
	delete(v.sandboxes, req.GetSandbox().GetSandboxId())
	v.note()
	v.mu.Unlock()
	return &providerv1.DeleteSandboxResponse{AlreadyAbsent: !had}, v.run(ctx, "DeleteSandbox", true)
}

// Recover answers from memory, which a vendor never loses.
func (v *Vendor) Recover(ctx context.Context, req *providerv1.RecoverRequest) (*providerv1.RecoverResponse, error) {
	if err := v.run(ctx, "Recover", false); err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	out := &providerv1.RecoverResponse{}
	for _, ref := range req.GetSandboxes() {
		r := &providerv1.Recovery{SandboxId: ref.GetSandboxId(), Outcome: providerv1.RecoveryOutcome_RECOVERY_OUTCOME_GONE}
		if sb := v.sandboxes[ref.GetSandboxId()]; sb != nil {
			r.Outcome, r.Sandbox = providerv1.RecoveryOutcome_RECOVERY_OUTCOME_RECOVERED, proto.CloneOf(sb)
		}
		out.Recoveries = append(out.Recoveries, r)
	}
	return out, nil
}
