package shim

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// ExtendLifetime implements sdk.LifetimeExtender. The end is in the record, and
// this process keeps to it, so that neither needs a plugin.
func (g *guest) ExtendLifetime(_ context.Context, req *providerv1.ExtendLifetimeRequest) (*providerv1.Sandbox, error) {
	if err := g.life.extend(req.GetExpiresAt()); err != nil {
		return nil, err
	}
	return g.life.sandbox(), nil
}

// extend moves the end of the lifetime, unless that has come.
func (l *life) extend(end *timestamppb.Timestamp) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.expired {
		id := l.rec.Sandbox.GetIdentity().GetSandboxId()
		return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "the lifetime of sandbox %q is over", id).
			With("sandbox_id", id).WithEffect(providerv1.Effect_EFFECT_NONE)
	}
	if err := CheckExtension(l.rec.Sandbox, end); err != nil {
		return err
	}
	if err := l.writeLocked(nil, func(s *providerv1.Sandbox) { s.ExpiresAt = end }); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	select {
	case l.extended <- struct{}{}:
	default: // watch has yet to hear of the last one
	}
	return nil
}

// CheckExtension refuses an end of life that is not a later one. The present one
// is none, so that a call can be repeated.
func CheckExtension(sb *providerv1.Sandbox, end *timestamppb.Timestamp) error {
	text := ""
	if end.CheckValid() == nil {
		text = end.AsTime().UTC().Format(time.RFC3339Nano)
	}
	switch at := sb.GetExpiresAt(); {
	case text == "":
		return fault.Field("expires_at", text, "want a time")
	case at != nil && end.AsTime().Before(at.AsTime()):
		return fault.Field("expires_at", text, "want a time after the present end of life, "+at.AsTime().UTC().Format(time.RFC3339Nano))
	case !end.AsTime().After(time.Now()):
		return fault.Field("expires_at", text, "want a time to come")
	}
	return nil
}

// timer returns what tells the end of the lifetime; nothing does if there is
// none.
func (l *life) timer() (expires <-chan time.Time, stop func()) {
	at := l.sandbox().GetExpiresAt()
	if at == nil {
		return nil, func() {}
	}
	t := time.NewTimer(time.Until(at.AsTime()))
	return t.C, func() { t.Stop() }
}

// expire ends the lifetime if its end has come, which an extension may just have
// moved.
func (l *life) expire() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expired = !time.Now().Before(l.rec.Sandbox.GetExpiresAt().AsTime())
	return l.expired
}
