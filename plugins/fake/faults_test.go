package fake_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func faulty(t *testing.T, dir string, settings map[string]any) *providerv1.ConfigureRequest {
	t.Helper()
	s, err := structpb.NewStruct(settings)
	if err != nil {
		t.Fatal(err)
	}
	return &providerv1.ConfigureRequest{Owner: "brk_1", StateDir: dir, Settings: s}
}

func (r *rig) tryCreate(id string, within time.Duration) *fault.Error {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, within)
	defer cancel()
	_, err := r.CreateSandbox(ctx, &providerv1.CreateSandboxRequest{Operation: op(id), Identity: identity(id)})
	return fault.From(err)
}

func (r *rig) listed() int {
	r.t.Helper()
	resp, err := r.ListSandboxes(r.ctx, &providerv1.ListSandboxesRequest{Owner: "brk_1", PageSize: 100})
	if err != nil {
		r.t.Fatal(err)
	}
	return len(resp.GetSandboxes())
}

// until waits for a condition.
func (r *rig) eventually(what string, met func() bool) {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			r.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestUncertainCreates: whatever the caller is told, the effect is what the kind
// of fault says.
func TestUncertainCreates(t *testing.T) {
	for _, tc := range []struct {
		kind   string
		within time.Duration
		made   int
	}{
		{"lost_request", 20 * time.Second, 0},
		{"lost_answer", 20 * time.Second, 1},
		{"late", 20 * time.Second, 1},
		{"slow", 300 * time.Millisecond, 1},
		{"hang", 300 * time.Millisecond, 0},
		{"hang_after", 300 * time.Millisecond, 1},
	} {
		t.Run(tc.kind, func(t *testing.T) {
			t.Parallel()
			r := serve(t, faulty(t, "", map[string]any{"faults": []any{"CreateSandbox:" + tc.kind + ":1"}}))
			if f := r.tryCreate("sbx_1", tc.within); f == nil || f.Effect != providerv1.Effect_EFFECT_UNKNOWN {
				t.Fatalf("the first answer is %v, want an unknown effect", f)
			}
			if tc.made == 0 {
				r.absent(op("sbx_1"))
			}
			r.eventually("the effect", func() bool { return r.listed() == tc.made })
			if f := r.tryCreate("sbx_2", 20*time.Second); f != nil {
				t.Errorf("the second create: %v", f)
			}
			if n := r.listed(); n != tc.made+1 {
				t.Errorf("%d sandboxes, want %d", n, tc.made+1)
			}
		})
	}
}

// TestDeniedKeyFencesALateEffect: what comes after its key was settled makes
// nothing.
func TestDeniedKeyFencesALateEffect(t *testing.T) {
	r := serve(t, faulty(t, "", map[string]any{"faults": []any{"CreateSandbox:late:1", "CreateSandbox:late:1"}}))
	if f := r.tryCreate("sbx_1", 20*time.Second); f == nil {
		t.Fatal("the answer was not lost")
	}
	r.absent(op("sbx_1"))
	// A later late effect happens after the first one would have.
	if f := r.tryCreate("sbx_2", 20*time.Second); f == nil {
		t.Fatal("the answer was not lost")
	}
	r.eventually("the second effect", func() bool { return r.listed() > 0 })
	r.absent(op("sbx_1"))
	if n := r.listed(); n != 1 {
		t.Errorf("%d sandboxes, want 1", n)
	}
}

// TestFaultsCountOverRestarts: a fault that is to happen once happens once, also
// if it ends the plugin.
func TestFaultsCountOverRestarts(t *testing.T) {
	conf := faulty(t, t.TempDir(), map[string]any{"faults": []any{"CreateSandbox:quota:2"}})
	var refused []bool
	for range 3 {
		r := serve(t, conf)
		refused = append(refused, r.tryCreate("sbx_1", 20*time.Second) != nil)
	}
	if want := [3]bool{true, true, false}; [3]bool(refused) != want {
		t.Errorf("refused: %v, want %v", refused, want)
	}
}

// TestListingLag: a listing is behind, a question about one sandbox is not.
func TestListingLag(t *testing.T) {
	r := serve(t, faulty(t, "", map[string]any{"listing_lag": "400ms"}))
	r.create("sbx_1", nil)
	if n := r.listed(); n != 0 {
		t.Errorf("%d sandboxes are listed at once", n)
	}
	if _, err := r.GetSandbox(r.ctx, byKey(op("sbx_1"))); err != nil {
		t.Error(err)
	}
	r.eventually("the listing to catch up", func() bool { return r.listed() == 1 })
	if _, err := r.DeleteSandbox(r.ctx, &providerv1.DeleteSandboxRequest{Sandbox: ref("sbx_1")}); err != nil {
		t.Fatal(err)
	}
	if n := r.listed(); n != 1 {
		t.Errorf("the deleted sandbox left the listing at once")
	}
	r.absent(op("sbx_1"))
	r.eventually("the listing to forget", func() bool { return r.listed() == 0 })
}
