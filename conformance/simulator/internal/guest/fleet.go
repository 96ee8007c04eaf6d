package guest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	// longCall bounds making, keeping and restoring a guest.
	longCall = 2 * time.Minute
	// shortCall bounds everything else that is one call.
	shortCall = 30 * time.Second
	// insurance ends guests of a simulator that was killed. It is longer than any
	// vendor lets a sandbox live.
	insurance = 26 * time.Hour
	// frame is the most that one message of a stream carries.
	frame = 32 << 10
)

// Fleet makes guests.
type Fleet struct {
	client providerv1.ProviderServiceClient
	owner  string
	caps   map[string]bool
}

// NewFleet returns a fleet whose guests the provider behind client makes. The
// provider is configured already.
func NewFleet(ctx context.Context, client providerv1.ProviderServiceClient, name string) (*Fleet, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	d, err := client.Describe(ctx, &providerv1.DescribeRequest{})
	if err != nil {
		return nil, fmt.Errorf("describe the guests' provider: %w", err)
	}
	f := &Fleet{client: client, owner: "simulator-" + name + "-" + strings.ToLower(rand.Text()), caps: map[string]bool{}}
	for _, c := range d.GetCapabilities() {
		f.caps[c.GetId()] = c.GetState() == providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED
	}
	for _, id := range []string{"egress.deny", "archive.upload", "fs.read", "fs.write"} {
		if !f.caps[id] {
			return nil, fmt.Errorf("provider %q cannot give guests: it lacks %s", d.GetName(), id)
		}
	}
	return f, nil
}

// Has reports whether guests have a capability of our contract.
func (f *Fleet) Has(capability string) bool { return f.caps[capability] }

// Spec is what a guest should be. Limits that the guests' provider does not have are
// left out: it is a simulator's machine, and not a vendor's promise.
type Spec struct {
	Env         map[string]string
	CPUMillis   int64
	MemoryBytes int64
}

// Guest is one sandbox.
type Guest struct {
	fleet *Fleet
	ref   *providerv1.SandboxRef
}

func newID(prefix string) string { return prefix + "_" + strings.ToLower(rand.Text()) }

func operation() *providerv1.Operation {
	key := rand.Text()
	digest := sha256.Sum256([]byte(key))
	return &providerv1.Operation{IdempotencyKey: key, RequestDigest: digest[:]}
}

func (f *Fleet) identity() *providerv1.Identity {
	return &providerv1.Identity{SandboxId: newID("sbx"), Owner: f.owner}
}

// Create makes a guest, from which nothing leaves. When it fails nothing is left.
func (f *Fleet) Create(ctx context.Context, spec Spec) (*Guest, error) {
	ctx, cancel := context.WithTimeout(ctx, longCall)
	defer cancel()
	req := &providerv1.CreateSandboxRequest{Operation: operation(), Identity: f.identity(), Spec: &providerv1.SandboxSpec{Env: spec.Env}}
	limits := &providerv1.Resources{}
	if f.caps["compute.cpu"] {
		limits.CpuMillis = spec.CPUMillis
	}
	if f.caps["compute.memory"] {
		limits.MemoryBytes = spec.MemoryBytes
	}
	req.Spec.Resources = limits
	if f.caps["lifetime.native"] {
		req.Spec.Lifetime = durationpb.New(insurance)
	}
	resp, err := f.client.CreateSandbox(ctx, req)
	if err != nil {
		return nil, f.clean(ctx, req.GetIdentity(), fmt.Errorf("make a guest: %w", err))
	}
	return f.running(ctx, resp.GetSandbox())
}

// Restore makes a guest from a snapshot.
func (f *Fleet) Restore(ctx context.Context, s *Snapshot) (*Guest, error) {
	ctx, cancel := context.WithTimeout(ctx, longCall)
	defer cancel()
	req := &providerv1.RestoreSnapshotRequest{
		Operation: operation(), Identity: f.identity(), SnapshotId: s.id, Handle: s.handle, Minimum: &providerv1.Keeps{Disk: true},
	}
	if f.caps["lifetime.native"] {
		req.Lifetime = durationpb.New(insurance)
	}
	resp, err := f.client.RestoreSnapshot(ctx, req)
	if err != nil {
		return nil, f.clean(ctx, req.GetIdentity(), fmt.Errorf("restore a guest: %w", err))
	}
	return f.running(ctx, resp.GetSandbox())
}

// running waits until a guest is made.
func (f *Fleet) running(ctx context.Context, sb *providerv1.Sandbox) (*Guest, error) {
	const often = 50 * time.Millisecond
	g := &Guest{fleet: f, ref: &providerv1.SandboxRef{SandboxId: sb.GetIdentity().GetSandboxId(), Handle: sb.GetHandle()}}
	for sb.GetState() == providerv1.SandboxState_SANDBOX_STATE_CREATING {
		timer := time.NewTimer(often)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, errors.Join(ctx.Err(), g.Delete(ctx))
		}
		resp, err := f.client.GetSandbox(ctx, &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: g.ref}})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("look at a guest: %w", err), g.Delete(ctx))
		}
		sb = resp.GetSandbox()
	}
	if sb.GetState() != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		return nil, errors.Join(fmt.Errorf("the guest is %s: %s", sb.GetState(), sb.GetStatusReason()), g.Delete(ctx))
	}
	return g, nil
}

// clean removes what a call that failed may have made.
func (f *Fleet) clean(ctx context.Context, id *providerv1.Identity, cause error) error {
	g := &Guest{fleet: f, ref: &providerv1.SandboxRef{SandboxId: id.GetSandboxId()}}
	return errors.Join(cause, g.Delete(ctx))
}

// Delete ends a guest and all that runs in it. It does so although ctx has ended.
func (g *Guest) Delete(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), longCall)
	defer cancel()
	if _, err := g.fleet.client.DeleteSandbox(ctx, &providerv1.DeleteSandboxRequest{Sandbox: g.ref}); err != nil {
		return fmt.Errorf("delete a guest: %w", err)
	}
	return nil
}

// Close deletes all guests and snapshots of the fleet.
func (f *Fleet) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), longCall)
	defer cancel()
	var errs []error
	for {
		page, err := f.client.ListSandboxes(ctx, &providerv1.ListSandboxesRequest{Owner: f.owner})
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("list the guests: %w", err))...)
		}
		for _, sb := range page.GetSandboxes() {
			g := &Guest{fleet: f, ref: &providerv1.SandboxRef{SandboxId: sb.GetIdentity().GetSandboxId(), Handle: sb.GetHandle()}}
			errs = append(errs, g.Delete(ctx))
		}
		if len(page.GetSandboxes()) == 0 || errors.Join(errs...) != nil {
			break
		}
	}
	if f.caps["snapshot"] {
		page, err := f.client.ListSnapshots(ctx, &providerv1.ListSnapshotsRequest{Owner: f.owner})
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("list the guests' snapshots: %w", err))...)
		}
		for _, s := range page.GetSnapshots() {
			errs = append(errs, f.Forget(ctx, &Snapshot{id: s.GetSnapshotId(), handle: s.GetHandle()}))
		}
	}
	return errors.Join(errs...)
}

// Snapshot is the files of a guest at one moment.
type Snapshot struct {
	id     string
	handle *providerv1.Handle
	// Bytes is how much it takes; 0 where nobody says.
	Bytes int64
}

// Snapshot keeps the files of a guest, which goes on.
func (g *Guest) Snapshot(ctx context.Context) (*Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, longCall)
	defer cancel()
	resp, err := g.fleet.client.CreateSnapshot(ctx, &providerv1.CreateSnapshotRequest{
		Sandbox: g.ref, Operation: operation(), SnapshotId: newID("snp"), Minimum: &providerv1.Keeps{Disk: true},
	})
	if err != nil {
		return nil, fmt.Errorf("keep a guest: %w", err)
	}
	s := resp.GetSnapshot()
	return &Snapshot{id: s.GetSnapshotId(), handle: s.GetHandle(), Bytes: s.GetSizeBytes()}, nil
}

// Forget deletes a snapshot.
func (f *Fleet) Forget(ctx context.Context, s *Snapshot) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), longCall)
	defer cancel()
	if _, err := f.client.DeleteSnapshot(ctx, &providerv1.DeleteSnapshotRequest{SnapshotId: s.id, Handle: s.handle}); err != nil {
		return fmt.Errorf("delete a guest's snapshot: %w", err)
	}
	return nil
}

// MakeDirectory makes a folder; with parents, those that are missing too, and one
// that exists is right.
func (g *Guest) MakeDirectory(ctx context.Context, path string, parents bool) error {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	_, err := g.fleet.client.MakeDirectory(ctx, &providerv1.MakeDirectoryRequest{Sandbox: g.ref, Path: path, Parents: parents})
	return err
}

// Unpack unpacks a tar into a folder.
func (g *Guest) Unpack(ctx context.Context, dir string, content io.Reader) error {
	ctx, cancel := context.WithTimeout(ctx, longCall)
	defer cancel()
	stream, err := g.fleet.client.UploadArchive(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&providerv1.UploadArchiveRequest{Frame: &providerv1.UploadArchiveRequest_Open{
		Open: &providerv1.UploadArchiveOpen{Sandbox: g.ref, Path: dir},
	}})
	buf := make([]byte, frame)
	for err == nil {
		var n int
		n, err = content.Read(buf)
		if n > 0 {
			if sent := stream.Send(&providerv1.UploadArchiveRequest{Frame: &providerv1.UploadArchiveRequest_Data{Data: buf[:n]}}); sent != nil {
				err = io.EOF // why is what the answer says
			}
		}
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the archive: %w", err)
	}
	_, err = stream.CloseAndRecv()
	return err
}

// ReadFile writes a file's content, after it called found. An error before that
// says that there is no such file, or why not.
func (g *Guest) ReadFile(ctx context.Context, path string, found func(), to io.Writer) error {
	stream, err := g.fleet.client.ReadFile(ctx, &providerv1.ReadFileRequest{Sandbox: g.ref, Path: path})
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if first {
			found()
		}
		if _, err := to.Write(part.GetData()); err != nil {
			return fmt.Errorf("pass the file on: %w", err)
		}
	}
}

// Reason is why a guest refused something.
func Reason(err error) providerv1.ErrorReason {
	if err == nil {
		return providerv1.ErrorReason_ERROR_REASON_UNSPECIFIED
	}
	return fault.From(err).Reason
}

// Message is what a guest said.
func Message(err error) string { return fault.From(err).Message }
