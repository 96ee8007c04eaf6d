package fake_test

import (
	"bytes"
	"encoding/gob"
	"os"
	"path/filepath"
	"testing"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func byKey(op *providerv1.Operation) *providerv1.GetSandboxRequest {
	return &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_IdempotencyKey{IdempotencyKey: op.GetIdempotencyKey()}}
}

func (r *rig) absent(key *providerv1.Operation) {
	r.t.Helper()
	if _, err := r.GetSandbox(r.ctx, byKey(key)); reason(err) != providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND {
		r.t.Errorf("by key: %v, want SANDBOX_NOT_FOUND", err)
	}
}

// TestDeniedKeysMakeNothing: what was said to be absent does not appear later.
func TestDeniedKeysMakeNothing(t *testing.T) {
	r := serve(t, nil)
	r.absent(op("sbx_1"))
	_, err := r.CreateSandbox(r.ctx, &providerv1.CreateSandboxRequest{Operation: op("sbx_1"), Identity: identity("sbx_1")})
	if reason(err) != providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED {
		t.Errorf("a create after that: %v, want IDEMPOTENCY_KEY_REUSED", err)
	}
	r.absent(op("sbx_1"))
}

// TestForkIsSettledAsAWhole: its key stands for every copy.
func TestForkIsSettledAsAWhole(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	req := fork("sbx_2", "sbx_3")
	if _, err := r.ForkSandbox(r.ctx, req); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{"sbx_2", "sbx_3"} {
		got, err := r.GetSandbox(r.ctx, byKey(req.GetOperation()))
		if err != nil || got.GetSandbox().GetIdentity().GetSandboxId() != left {
			t.Errorf("by key: %v, %v, want %s", got, err, left)
		}
		if _, err := r.DeleteSandbox(r.ctx, &providerv1.DeleteSandboxRequest{Sandbox: ref(left)}); err != nil {
			t.Fatal(err)
		}
	}
	r.absent(req.GetOperation())
}

func fork(copies ...string) *providerv1.ForkSandboxRequest {
	req := &providerv1.ForkSandboxRequest{Sandbox: ref("sbx_1"), Operation: op("fork")}
	for _, id := range copies {
		req.Identities = append(req.Identities, identity(id))
	}
	return req
}

// TestForkThatWasCutShortLeavesNothing: a plugin that is killed between two
// copies has made none, for the next one.
func TestForkThatWasCutShortLeavesNothing(t *testing.T) {
	for _, repeated := range []bool{true, false} {
		conf := &providerv1.ConfigureRequest{Owner: "brk_1", StateDir: t.TempDir()}
		first := serve(t, conf)
		first.create("sbx_1", nil)
		req := fork("sbx_2", "sbx_3")
		if _, err := first.ForkSandbox(first.ctx, req); err != nil {
			t.Fatal(err)
		}
		if _, err := first.DeleteSandbox(first.ctx, &providerv1.DeleteSandboxRequest{Sandbox: ref("sbx_3")}); err != nil {
			t.Fatal(err)
		}
		// The kill: one copy is stored, and the intent is.
		var intent bytes.Buffer
		if err := gob.NewEncoder(&intent).Encode([]string{"sbx_2", "sbx_3"}); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(conf.GetStateDir(), "forks", req.GetOperation().GetIdempotencyKey()+".gob")
		if err := os.WriteFile(file, intent.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		second := serve(t, conf)
		want := 1
		if repeated {
			want = 3
			if _, err := second.ForkSandbox(second.ctx, req); err != nil {
				t.Errorf("repeated: %v", err)
			}
		} else {
			second.absent(req.GetOperation())
		}
		third := serve(t, conf) // the intent was acted upon once
		list, err := third.ListSandboxes(third.ctx, &providerv1.ListSandboxesRequest{Owner: "brk_1", PageSize: 9})
		if err != nil || len(list.GetSandboxes()) != want {
			t.Errorf("repeated=%v: %d sandboxes, %v, want %d", repeated, len(list.GetSandboxes()), err, want)
		}
	}
}
