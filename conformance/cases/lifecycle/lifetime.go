package lifecycle

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func lifetime() []engine.Case {
	return []engine.Case{
		{
			ID: "lifetime/expires", Title: "A sandbox is gone within ten seconds after its lifetime, and lives until then.",
			Profile: engine.Core, Requirements: []string{"REQ-TTL-001"}, Needs: []string{"lifetime.native"}, Kinds: own, Cost: 15,
			Run: expires,
		},
		{
			ID: "lifetime/extend", Title: "A lifetime that was extended holds: the sandbox outlives its first end.",
			Profile: engine.Core, Requirements: []string{"REQ-TTL-002"}, Needs: []string{"lifetime.extend"}, Kinds: own, Cost: 10,
			Run: extends,
		},
		{
			ID: "lifetime/never-back", Title: "An end of life is never moved back.",
			Profile: engine.Core, Requirements: []string{"REQ-TTL-002"}, Needs: []string{"lifetime.extend"}, Kinds: own, Cost: 5,
			Run: neverBack,
		},
	}
}

// shortLife is long enough for a sandbox to be made and looked at.
const shortLife = 5 * time.Second

func living(t *engine.T, life time.Duration) *stage.Box {
	return stage.Create(t, func(req *providerv1.CreateSandboxRequest) { req.Spec.Lifetime = durationpb.New(life) })
}

func expires(t *engine.T) {
	box := living(t, shortLife)
	if got := box.Sandbox.GetExpiresAt().AsTime().Sub(box.Sandbox.GetCreatedAt().AsTime()).Round(time.Second); got != shortLife {
		t.Errorf("expires_at is %s after created_at: want %s", got, shortLife)
	}
	if sb := box.Get(); sb.GetState() != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		t.Errorf("before its end the sandbox is %s: want RUNNING", stage.StateName(sb.GetState()))
	}
	const grace = 10 * time.Second
	stage.Eventually(t, shortLife+grace, "the sandbox gone 10 s after its lifetime", func(ctx context.Context) bool {
		_, err := box.Client().GetSandbox(ctx, box.ByRef())
		return err != nil && over(fault.From(err).Reason)
	})
	_, err := box.Client().StartExec(t.Context(), box.NewExec(stage.Argv("true")))
	_ = stage.Refused(t, "StartExec after the end of a lifetime", err,
		providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, providerv1.ErrorReason_ERROR_REASON_SANDBOX_EXPIRED)
	stage.Eventually(t, settling, "no sandbox listed after its lifetime", func(context.Context) bool {
		return len(stage.ListAll(t, t.Client(), t.Owner(), 0)) == 0
	})
}

func over(r providerv1.ErrorReason) bool {
	return r == providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND || r == providerv1.ErrorReason_ERROR_REASON_SANDBOX_EXPIRED
}

func extends(t *engine.T) {
	box := living(t, shortLife)
	end := box.Sandbox.GetExpiresAt().AsTime()
	if got := end.Sub(box.Sandbox.GetCreatedAt().AsTime()).Round(time.Second); got != shortLife {
		t.Fatalf("expires_at is %s after created_at: want %s", got, shortLife)
	}
	later := end.Add(5 * time.Minute).Truncate(time.Second)
	resp, err := box.Client().ExtendLifetime(t.Context(), &providerv1.ExtendLifetimeRequest{Sandbox: box.Ref, ExpiresAt: timestamppb.New(later)})
	stage.OK(t, "ExtendLifetime", err)
	for where, sb := range map[string]*providerv1.Sandbox{"its answer": resp.GetSandbox(), "GetSandbox": box.Get()} {
		if got := sb.GetExpiresAt().AsTime(); !got.Equal(later) {
			t.Errorf("after ExtendLifetime expires_at is %s in %s: want %s", got, where, later)
		}
	}
	const sure = 500 * time.Millisecond
	stage.Pause(t, time.Until(end)+sure)
	box.Run("true").Code(0)
}

func neverBack(t *engine.T) {
	const life = 10 * time.Minute
	box := living(t, life)
	end := box.Sandbox.GetExpiresAt().AsTime()
	for what, at := range map[string]time.Time{
		"a minute before the present end": end.Add(-time.Minute), "an hour ago": end.Add(-time.Hour),
	} {
		_, err := box.Client().ExtendLifetime(t.Context(), &providerv1.ExtendLifetimeRequest{Sandbox: box.Ref, ExpiresAt: timestamppb.New(at)})
		what = "ExtendLifetime to " + what
		stage.NoEffect(t, what, stage.Refused(t, what, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID))
	}
	if got := box.Get().GetExpiresAt().AsTime(); !got.Equal(end) {
		t.Errorf("after refused extensions expires_at is %s: want %s as before", got, end)
	}
}
