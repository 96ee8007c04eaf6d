package subject

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Object is something that was asked for, whether or not the answer came.
type Object struct {
	Kind ObjectKind
	// ID is the sandbox's or the snapshot's id, or the volume's name.
	ID string
	// Owner is empty for snapshots, which belong to their sandbox's.
	Owner string
}

// ObjectKind says what an Object is.
type ObjectKind string

// The kinds.
const (
	SandboxObject  ObjectKind = "sandbox"
	SnapshotObject ObjectKind = "snapshot"
	VolumeObject   ObjectKind = "volume"
)

// Ledger knows what was asked for in a whole run. It is safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex
	objects []Object
}

// NewLedger returns an empty one.
func NewLedger() *Ledger { return &Ledger{} }

// Owners returns every owner that something was made for, sorted.
func (l *Ledger) Owners() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, o := range l.objects {
		if o.Owner != "" {
			out = append(out, o.Owner)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Count is how many objects were asked for.
func (l *Ledger) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.objects)
}

func (l *Ledger) add(objects ...Object) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.objects = append(l.objects, objects...)
}

// asked lists what a request would make.
func asked(request any) []Object {
	switch m := request.(type) {
	case *providerv1.CreateSandboxRequest:
		return sandboxes(m.GetIdentity())
	case *providerv1.RestoreSnapshotRequest:
		return sandboxes(m.GetIdentity())
	case *providerv1.ForkSandboxRequest:
		return sandboxes(m.GetIdentities()...)
	case *providerv1.CreateSnapshotRequest:
		if m.GetSnapshotId() != "" {
			return []Object{{Kind: SnapshotObject, ID: m.GetSnapshotId()}}
		}
	case *providerv1.CreateVolumeRequest:
		if m.GetName() != "" {
			return []Object{{Kind: VolumeObject, ID: m.GetName(), Owner: m.GetOwner()}}
		}
	}
	return nil
}

func sandboxes(identities ...*providerv1.Identity) []Object {
	var out []Object
	for _, id := range identities {
		if id.GetSandboxId() != "" {
			out = append(out, Object{Kind: SandboxObject, ID: id.GetSandboxId(), Owner: id.GetOwner()})
		}
	}
	return out
}

// remove deletes an object; what is not there, or was never made, is as good.
func (o Object) remove(ctx context.Context, client providerv1.ProviderServiceClient) error {
	var err error
	switch o.Kind {
	case SandboxObject:
		_, err = client.DeleteSandbox(ctx, &providerv1.DeleteSandboxRequest{Sandbox: &providerv1.SandboxRef{SandboxId: o.ID}})
	case SnapshotObject:
		_, err = client.DeleteSnapshot(ctx, &providerv1.DeleteSnapshotRequest{SnapshotId: o.ID})
	case VolumeObject:
		_, err = client.DeleteVolume(ctx, &providerv1.DeleteVolumeRequest{Owner: o.Owner, Name: o.ID})
	}
	if err == nil || absent(err) {
		return nil
	}
	return fmt.Errorf("%s %s: %w", o.Kind, o.ID, fault.From(err))
}

// absent is true of answers that say that there is nothing to remove: a refusal
// of what the plugin does not do, or of a request that could make nothing.
func absent(err error) bool {
	for _, reason := range []providerv1.ErrorReason{
		providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, providerv1.ErrorReason_ERROR_REASON_SNAPSHOT_NOT_FOUND,
		providerv1.ErrorReason_ERROR_REASON_VOLUME_NOT_FOUND, providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED,
		providerv1.ErrorReason_ERROR_REASON_CAPABILITY_DISABLED, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID,
		providerv1.ErrorReason_ERROR_REASON_NOT_CONFIGURED,
	} {
		if fault.Has(fault.From(err), reason) {
			return true
		}
	}
	return false
}

// RemoveAll removes everything that was asked for through this recorder:
// sandboxes first, because they may use the rest.
func (r *Recorder) RemoveAll(ctx context.Context) error {
	r.shared.mu.Lock()
	objects := slices.Clone(r.shared.objects)
	r.shared.objects = nil
	r.shared.mu.Unlock()
	client := providerv1.NewProviderServiceClient(r)
	var errs []error
	for _, kind := range []ObjectKind{SandboxObject, SnapshotObject, VolumeObject} {
		for _, o := range slices.Backward(objects) {
			if o.Kind == kind {
				errs = append(errs, o.remove(ctx, client))
			}
		}
	}
	return errors.Join(errs...)
}

// redacted is a copy of a message without what must not be shown.
func redacted(m proto.Message) proto.Message {
	switch req := m.(type) {
	case *providerv1.ConfigureRequest:
		out, ok := proto.Clone(req).(*providerv1.ConfigureRequest)
		if !ok {
			return nil
		}
		for name := range out.GetSecrets() {
			out.Secrets[name] = []byte("…")
		}
		return out
	case *providerv1.GetPortURLResponse:
		out, ok := proto.Clone(req).(*providerv1.GetPortURLResponse)
		if !ok {
			return nil
		}
		for name := range out.GetHeaders() {
			out.Headers[name] = "…"
		}
		return out
	}
	return m
}
