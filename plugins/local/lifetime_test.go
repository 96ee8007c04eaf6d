package local_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func (p *plugin) extend(r *providerv1.SandboxRef, end time.Time) error {
	p.t.Helper()
	resp, err := p.client.ExtendLifetime(p.ctx(), &providerv1.ExtendLifetimeRequest{Sandbox: r, ExpiresAt: timestamppb.New(end)})
	if err != nil {
		return err
	}
	if got := resp.GetSandbox().GetExpiresAt().AsTime(); !got.Equal(end) {
		p.t.Errorf("extended to %v, want %v", got, end)
	}
	return nil
}

func (p *plugin) wantEnd(r *providerv1.SandboxRef, end time.Time) *providerv1.Sandbox {
	p.t.Helper()
	sb, err := p.get(r)
	if got := sb.GetExpiresAt().AsTime(); err != nil || !got.Equal(end) {
		p.t.Errorf("ends at %v %v, want %v", got, err, end)
	}
	return sb
}

// TestExtendedLifetime: a sandbox outlives its first end, also one that came
// while it was paused and after the plugin was replaced, and ends at the last one
// although there is no plugin.
func TestExtendedLifetime(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	first := time.Now().Add(10 * time.Second)
	second := first.Add(time.Hour)
	for _, end := range []time.Time{first, second} {
		if err := p.extend(sb, end); err != nil {
			t.Fatal(err)
		}
	}
	p.restart()
	<-time.After(time.Until(first))
	if s := p.wantEnd(sb, second).GetState(); s != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		t.Errorf("after its first end it is %v", s)
	}
	p.pause(sb)
	third := second.Add(time.Hour)
	if err := p.extend(sb, third); err != nil {
		t.Fatal(err)
	}
	for _, early := range []time.Time{third.Add(-time.Minute), time.Now().Add(-time.Minute)} {
		if err := p.extend(sb, early); !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID) {
			t.Errorf("paused, back to %v: %v", early, err)
		}
	}
	p.wantEnd(sb, third)
	p.resume(sb)
	p.wantEnd(sb, third)
	if err := p.extend(sb, third.Add(-time.Minute)); !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID) {
		t.Errorf("back: %v", err)
	}
	if err := p.extend(sb, third); err != nil {
		t.Errorf("repeated: %v", err)
	}
	if got := p.sh(sb, "echo alive"); got.stdout != "alive\n" {
		t.Errorf("%+v", got)
	}
}

// TestExtendedLifetimeEnds: a new end is kept as one from the beginning is.
func TestExtendedLifetimeEnds(t *testing.T) {
	p := start(t)
	sb := p.create(&providerv1.SandboxSpec{Lifetime: durationpb.New(time.Minute)})
	created, err := p.get(sb)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.extend(sb, time.Now().Add(time.Second)); !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID) {
		t.Errorf("back: %v", err)
	}
	p.wantEnd(sb, created.GetExpiresAt().AsTime())
	endless := p.create(nil)
	p.delete(sb)
	end := time.Now().Add(5 * time.Second)
	if err := p.extend(endless, end); err != nil {
		t.Fatal(err)
	}
	p.stop()
	p.awaitExpiry(endless)
	if early := time.Until(end); early > 0 {
		t.Errorf("it ended %v early", early)
	}
	p.run()
	if err := p.extend(endless, end.Add(time.Hour)); !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) {
		t.Errorf("after its end: %v", err)
	}
}
