package local_test

import (
	"testing"

	"github.com/sandbar-dev/sandbar/plugins/local/record"
	"github.com/sandbar-dev/sandbar/plugins/local/shim"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// interrupted makes two copies and leaves what a plugin leaves that is killed
// between them: one that runs, a trace of the other, and an open key.
func (p *plugin) interrupted() *providerv1.ForkSandboxRequest {
	p.t.Helper()
	req := &providerv1.ForkSandboxRequest{
		Sandbox: p.create(nil), Operation: operation(), Identities: []*providerv1.Identity{identity(), identity()},
		Minimum: &providerv1.Keeps{Disk: true, Memory: true, Processes: true},
	}
	if _, err := p.client.ForkSandbox(p.ctx(), req); err != nil {
		p.t.Fatal(err)
	}
	p.stop()
	store, err := record.Open(p.ctx(), p.state)
	if err != nil {
		p.t.Fatal(err)
	}
	ids := []string{req.GetIdentities()[0].GetSandboxId(), req.GetIdentities()[1].GetSandboxId()}
	rec, err := store.Sandbox(ids[1])
	if err != nil {
		p.t.Fatal(err)
	}
	rec.Sandbox.State = providerv1.SandboxState_SANDBOX_STATE_CREATING
	key := req.GetOperation().GetIdempotencyKey()
	if err := shim.Kill(p.ctx(), store.SandboxDir(ids[1])); err != nil {
		p.t.Fatal(err)
	}
	if err := store.PutSandbox(rec); err != nil {
		p.t.Fatal(err)
	}
	if err := store.Forget(key); err != nil {
		p.t.Fatal(err)
	}
	if _, fresh, err := store.SpendOpen(req.GetOperation(), ids); err != nil || !fresh {
		p.t.Fatalf("SpendOpen: fresh=%v, %v", fresh, err)
	}
	if err := store.Close(); err != nil {
		p.t.Fatal(err)
	}
	p.run()
	return req
}

// TestForkThatDiedIsRepeated: all copies are there, once.
func TestForkThatDiedIsRepeated(t *testing.T) {
	p := start(t)
	req := p.interrupted()
	p.list() // a look at the half copy changes nothing
	for range 2 {
		resp, err := p.client.ForkSandbox(p.ctx(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, sb := range resp.GetSandboxes() {
			if got := p.sh(ref(sb), "echo copy"); got.stdout != "copy\n" {
				t.Errorf("%v: %+v", sb.GetIdentity(), got)
			}
		}
	}
	if n := len(p.list()); n != 3 {
		t.Errorf("%d sandboxes, want 3", n)
	}
	// The copies are told apart from now on: the end of one is not that of all.
	p.delete(&providerv1.SandboxRef{SandboxId: req.GetIdentities()[0].GetSandboxId()})
	resp, err := p.client.GetSandbox(p.ctx(), byKey(req.GetOperation()))
	if err != nil || resp.GetSandbox().GetIdentity().GetSandboxId() != req.GetIdentities()[1].GetSandboxId() {
		t.Errorf("by key: %v, %v, want the copy that is left", resp.GetSandbox(), err)
	}
}

// TestForkThatDiedIsSettled: once it was said that there are no copies, there are
// none, and none will be.
func TestForkThatDiedIsSettled(t *testing.T) {
	p := start(t)
	req := p.interrupted()
	for range 2 {
		_, err := p.client.GetSandbox(p.ctx(), byKey(req.GetOperation()))
		if !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
			t.Errorf("by key: %v, want SANDBOX_NOT_FOUND", err)
		}
	}
	if n := len(p.list()); n != 1 {
		t.Errorf("%d sandboxes, want the original", n)
	}
	_, err := p.client.ForkSandbox(p.ctx(), req)
	if !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED) {
		t.Errorf("a fork after that: %v, want IDEMPOTENCY_KEY_REUSED", err)
	}
}

func byKey(op *providerv1.Operation) *providerv1.GetSandboxRequest {
	return &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_IdempotencyKey{IdempotencyKey: op.GetIdempotencyKey()}}
}
