package stage

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Box is a sandbox of a case.
type Box struct {
	t      *engine.T
	client providerv1.ProviderServiceClient
	// Ref addresses it; Sandbox is what creating it answered.
	Ref     *providerv1.SandboxRef
	Sandbox *providerv1.Sandbox
	// Took is how long creating it took, until it ran; 0 for one that was found.
	Took time.Duration
}

// insurance ends a sandbox that a suite which was killed left at a vendor.
const insurance = 15 * time.Minute

// poll is how often something is asked for that cannot be waited for.
const poll = 20 * time.Millisecond

// NewID returns a fresh id with a prefix such as sbx.
func NewID(prefix string) string { return prefix + "_" + strings.ToLower(rand.Text()) }

// NewOperation returns a fresh key, with a digest of its own.
func NewOperation() *providerv1.Operation {
	key := provider.NewKey()
	digest := sha256.Sum256([]byte(key))
	return &providerv1.Operation{IdempotencyKey: key, RequestDigest: digest[:]}
}

// NewIdentity returns a fresh identity of the case's owner.
func NewIdentity(t *engine.T) *providerv1.Identity {
	return &providerv1.Identity{SandboxId: NewID("sbx"), Owner: t.Owner()}
}

// NewRequest returns a request that makes the plainest sandbox there is: the
// operator's image or the default, and an end of life where the provider knows
// one, so that nothing is left to be paid if the suite is killed.
func NewRequest(t *engine.T) *providerv1.CreateSandboxRequest {
	req := &providerv1.CreateSandboxRequest{Operation: NewOperation(), Identity: NewIdentity(t), Spec: &providerv1.SandboxSpec{}}
	if image := t.InputOr("image", ""); image != "" {
		req.Spec.Image = &providerv1.Image{Source: &providerv1.Image_Oci{Oci: image}}
	} else if template := t.InputOr("template", ""); template != "" {
		req.Spec.Image = &providerv1.Image{Source: &providerv1.Image_Template{Template: template}}
	}
	if t.Has("lifetime.native") {
		req.Spec.Lifetime = durationpb.New(insurance)
	}
	req.Spec.Egress = plainEgress(t)
	return req
}

// plainEgress is what a plain sandbox asks for: nothing, which means that nothing
// leaves, or what there is at a provider that cannot hold that.
func plainEgress(t *engine.T) *providerv1.Egress {
	if t.Has("egress.deny") {
		return nil
	}
	for _, other := range []struct {
		capability string
		mode       providerv1.EgressMode
	}{
		{"egress.native", providerv1.EgressMode_EGRESS_MODE_NATIVE},
		{"egress.capture", providerv1.EgressMode_EGRESS_MODE_CAPTURE},
		{"egress.open", providerv1.EgressMode_EGRESS_MODE_OPEN},
	} {
		if t.Has(other.capability) {
			return &providerv1.Egress{Mode: other.mode}
		}
	}
	return nil
}

// Create makes a sandbox that runs. change may alter the request.
func Create(t *engine.T, change ...func(*providerv1.CreateSandboxRequest)) *Box {
	return CreateWith(t, t.Client(), change...)
}

// CreateWith is Create through a given client.
func CreateWith(t *engine.T, client providerv1.ProviderServiceClient, change ...func(*providerv1.CreateSandboxRequest)) *Box {
	req := NewRequest(t)
	for _, c := range change {
		c(req)
	}
	t.Step("create sandbox %s", req.GetIdentity().GetSandboxId())
	start := time.Now()
	resp, err := client.CreateSandbox(t.Context(), req)
	if err != nil {
		t.Fatalf("CreateSandbox: %s: want a sandbox", subject.Describe(err))
	}
	b := Found(t, client, resp.GetSandbox())
	b.AwaitRunning()
	b.Took = time.Since(start)
	t.Measure("create", b.Took)
	return b
}

// Found is a sandbox that the case got in some other way.
func Found(t *engine.T, client providerv1.ProviderServiceClient, sb *providerv1.Sandbox) *Box {
	id := sb.GetIdentity().GetSandboxId()
	if id == "" {
		t.Fatalf("the answer has no identity.sandbox_id")
	}
	return &Box{t: t, client: client, Sandbox: sb, Ref: &providerv1.SandboxRef{SandboxId: id, Handle: sb.GetHandle()}}
}

// By is the same sandbox through another client.
func (b *Box) By(client providerv1.ProviderServiceClient) *Box {
	return &Box{t: b.t, client: client, Ref: b.Ref, Sandbox: b.Sandbox, Took: b.Took}
}

// Client is the one the sandbox is spoken to through.
func (b *Box) Client() providerv1.ProviderServiceClient { return b.client }

// ID is its id.
func (b *Box) ID() string { return b.Ref.GetSandboxId() }

// Get asks for it; it must exist.
func (b *Box) Get() *providerv1.Sandbox {
	resp, err := b.client.GetSandbox(b.t.Context(), b.ByRef())
	if err != nil {
		b.t.Fatalf("GetSandbox: %s: want the sandbox", subject.Describe(err))
	}
	return resp.GetSandbox()
}

// ByRef is the request that asks for it.
func (b *Box) ByRef() *providerv1.GetSandboxRequest {
	return &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: b.Ref}}
}

// CPU is the processor time that it used. The case is skipped if the provider does
// not know.
func (b *Box) CPU() time.Duration {
	resp, err := b.client.GetUsage(b.t.Context(), &providerv1.GetUsageRequest{Sandbox: b.Ref})
	OK(b.t, "GetUsage", err)
	if resp.GetUsage().CpuNanos == nil {
		b.t.Skip(engine.Prerequisite, "the provider does not know the processor time")
	}
	return time.Duration(resp.GetUsage().GetCpuNanos())
}

// AwaitRunning waits while it is being made.
func (b *Box) AwaitRunning() {
	for b.Sandbox.GetState() == providerv1.SandboxState_SANDBOX_STATE_CREATING {
		Pause(b.t, poll)
		b.Sandbox = b.Get()
		b.Ref.Handle = b.Sandbox.GetHandle()
	}
	if s := b.Sandbox.GetState(); s != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		b.t.Fatalf("the sandbox is %s (%s): want RUNNING", StateName(s), b.Sandbox.GetStatusReason())
	}
}

// Delete removes it.
func (b *Box) Delete() *providerv1.DeleteSandboxResponse {
	b.t.Step("delete sandbox %s", b.ID())
	resp, err := b.client.DeleteSandbox(b.t.Context(), &providerv1.DeleteSandboxRequest{Sandbox: b.Ref})
	if err != nil {
		b.t.Fatalf("DeleteSandbox: %s: want it deleted", subject.Describe(err))
	}
	return resp
}

// StateName is a state without the enum's prefix.
func StateName(s providerv1.SandboxState) string {
	return strings.TrimPrefix(s.String(), "SANDBOX_STATE_")
}

// Pause lets time pass between two looks at something that cannot be waited for.
// It ends the case if the budget does first.
func Pause(t *engine.T, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Fatalf("the case's budget ended while it waited")
	}
}

// Eventually looks at something again and again until it is true, and fails the
// case with what says it should have been if it is not after a while.
func Eventually(t *engine.T, within time.Duration, what string, is func(context.Context) bool) {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for !is(ctx) {
		if ctx.Err() != nil {
			t.Fatalf("after %s: want %s", within, what)
		}
		Pause(t, poll)
	}
}

// defaultPatience is longer than a vendor that works takes for anything that
// happens at once.
const defaultPatience = "20s"

// Moment is long enough to see that something which should not happen does.
const Moment = 500 * time.Millisecond

// Patience is how long a case waits for something that should happen without
// delay, before it says that it does not happen.
func Patience(t *engine.T) time.Duration {
	text := t.InputOr("patience", defaultPatience)
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		t.Broken("input patience is %q: want a duration such as %s", text, defaultPatience)
	}
	return t.Slowly(d)
}

// BulkMiB is how much a case moves that is about large amounts.
func BulkMiB(t *engine.T) int { return Number(t, "bulk_mib", 64) }

// Number is an input that is a number above 0, with a default.
func Number(t *engine.T, name string, otherwise int) int {
	text := t.InputOr(name, strconv.Itoa(otherwise))
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		t.Broken("input %s is %q: want a number above 0, such as %d", name, text, otherwise)
	}
	return n
}

// Random returns n random bytes of the case.
func Random(t *engine.T, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(t.Rand().Uint32())
	}
	return out
}
