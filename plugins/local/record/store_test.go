package record_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sandbar-dev/sandbar/plugins/local/record"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func open(t *testing.T, dir string) *record.Store {
	t.Helper()
	s, err := record.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func sandbox(id string) *record.Sandbox {
	return &record.Sandbox{
		Sandbox: &providerv1.Sandbox{
			Identity: &providerv1.Identity{SandboxId: id, Owner: "own", Labels: map[string]string{"a": "ä\nb"}},
			State:    providerv1.SandboxState_SANDBOX_STATE_RUNNING,
		},
		Spec:  &providerv1.SandboxSpec{Workdir: "/w"},
		Usage: &providerv1.Usage{CpuNanos: proto.Int64(1)},
	}
}

func TestSandboxRecordsSurviveReopening(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	want := sandbox("sbx_1")
	if err := s.PutSandbox(want); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	got, err := open(t, dir).Sandbox("sbx_1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func TestOneProcessServesAFolder(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := record.Open(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("second Open: %v, want a deadline", err)
	}
	_ = first.Close()
	open(t, dir)
}

func TestKeys(t *testing.T) {
	s := open(t, t.TempDir())
	op := &providerv1.Operation{IdempotencyKey: "k1", RequestDigest: []byte{1}}
	var wg sync.WaitGroup
	var mu sync.Mutex
	fresh := 0
	for range 16 {
		wg.Go(func() {
			key, isFresh, err := s.Spend(op, []string{"sbx_1"})
			mu.Lock()
			defer mu.Unlock()
			if err != nil || key.IDs[0] != "sbx_1" {
				t.Errorf("Spend = %v, %v", key, err)
			}
			if isFresh {
				fresh++
			}
		})
	}
	wg.Wait()
	if fresh != 1 {
		t.Errorf("%d callers were told to create, want 1", fresh)
	}
	other := &providerv1.Operation{IdempotencyKey: "k1", RequestDigest: []byte{2}}
	if _, _, err := s.Spend(other, nil); !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED) {
		t.Errorf("other digest: %v", err)
	}
	if key, err := s.Settle("k1"); err != nil || key.Fenced || key.IDs[0] != "sbx_1" {
		t.Errorf("Settle(k1) = %v, %v", key, err)
	}
	if err := s.Forget("k1"); err != nil {
		t.Fatal(err)
	}
	if _, isFresh, err := s.Spend(op, []string{"sbx_2"}); err != nil || !isFresh {
		t.Errorf("Spend after Forget: fresh=%v, %v", isFresh, err)
	}
}

// TestSettlingFencesALateRequest: after "nothing was made" nothing may be made.
func TestSettlingFencesALateRequest(t *testing.T) {
	s := open(t, t.TempDir())
	if key, err := s.Settle("k9"); err != nil || !key.Fenced {
		t.Fatalf("Settle = %v, %v", key, err)
	}
	_, _, err := s.Spend(&providerv1.Operation{IdempotencyKey: "k9", RequestDigest: []byte{1}}, []string{"sbx_9"})
	if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED) {
		t.Errorf("late request: %v, want it refused", err)
	}
}

// TestOpenKeys: a key is open until it is completed, also for a later process.
func TestOpenKeys(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	op := &providerv1.Operation{IdempotencyKey: "k1", RequestDigest: []byte{1}}
	if key, fresh, err := s.SpendOpen(op, []string{"sbx_1", "sbx_2"}); err != nil || !fresh || !key.Open {
		t.Fatalf("SpendOpen = %v, %v, %v", key, fresh, err)
	}
	_ = s.Close()
	s = open(t, dir)
	if key, fresh, err := s.SpendOpen(op, nil); err != nil || fresh || !key.Open || len(key.IDs) != 2 {
		t.Fatalf("SpendOpen again = %v, %v, %v", key, fresh, err)
	}
	if err := s.Complete("k1"); err != nil {
		t.Fatal(err)
	}
	if key, err := s.Settle("k1"); err != nil || key.Open || len(key.IDs) != 2 {
		t.Errorf("Settle after Complete = %v, %v", key, err)
	}
	if err := s.Complete("k2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Complete of no key: %v", err)
	}
}

func TestSweepRemovesOnlyWhatCrashesLeft(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.PutSandbox(sandbox("sbx_live")); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"sbx_half", "sbx_making"} {
		if err := os.MkdirAll(filepath.Join(s.SandboxDir(id), "root", "deep"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-25 * time.Hour)
	for key, ids := range map[string][]string{"kdead": {"sbx_gone"}, "klive": {"sbx_live"}, "knew": {"sbx_gone"}} {
		if _, _, err := s.Spend(&providerv1.Operation{IdempotencyKey: key}, ids); err != nil {
			t.Fatal(err)
		}
		if key != "knew" {
			if err := os.Chtimes(filepath.Join(dir, "keys", key+".json"), old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Sweep(func(id string) bool { return id == "sbx_making" }); err != nil {
		t.Fatal(err)
	}
	ids, err := s.SandboxIDs()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"sbx_live", "sbx_making"}, ids); diff != "" {
		t.Errorf("folders (-want +got):\n%s", diff)
	}
	left, err := filepath.Glob(filepath.Join(dir, "keys", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	if diff := cmp.Diff([]string{"klive.json", "knew.json"}, left); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestVolumes(t *testing.T) {
	for _, owner := range []string{"own", "run/case", "../own", ".hidden", strings.Repeat("o", 255)} {
		dir := t.TempDir()
		s := open(t, dir)
		v := &providerv1.Volume{Owner: owner, Name: "data"}
		if err := s.CreateVolume(v); err != nil {
			t.Fatal(err)
		}
		if err := s.CreateVolume(v); !errors.Is(err, fs.ErrExist) {
			t.Errorf("second CreateVolume: %v", err)
		}
		if names, err := s.VolumeNames(owner); err != nil || len(names) != 1 {
			t.Errorf("VolumeNames = %v, %v", names, err)
		}
		if names, err := s.VolumeNames("other"); err != nil || names != nil {
			t.Errorf("VolumeNames(other) = %v, %v", names, err)
		}
		if err := s.RemoveVolume(owner, "data"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Volume(owner, "data"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Volume after removal: %v", err)
		}
		if left, err := os.ReadDir(filepath.Join(dir, "volumes")); err != nil || len(left) != 0 {
			t.Errorf("of owner %q %v is left (%v)", owner, left, err)
		}
	}
}

func TestIDsCannotLeaveTheFolder(t *testing.T) {
	s := open(t, t.TempDir())
	for _, id := range []string{"", ".", "..", "../x", "a/b", ".hidden", "x\x00"} {
		if _, err := s.Sandbox(id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Sandbox(%q): %v", id, err)
		}
		if _, _, err := s.Spend(&providerv1.Operation{IdempotencyKey: id}, nil); err == nil {
			t.Errorf("Spend(%q) was accepted", id)
		}
	}
}
