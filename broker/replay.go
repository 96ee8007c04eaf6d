package broker

import (
	"bytes"
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/lifecycle"
	"github.com/sandbar-dev/sandbar/broker/provider"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// once returns what an earlier call with the same idempotency key made, or runs
// create, which stores the request it is given.
func (s *Service) once(ctx context.Context, key string, req proto.Message, create func(*state.Request) ([]*state.Sandbox, error)) ([]*state.Sandbox, error) {
	if key == "" {
		return create(nil)
	}
	who, err := s.maker(ctx)
	if err != nil {
		return nil, err
	}
	sum := provider.Digest(req)
	for {
		earlier, err := s.earlier(ctx, who.Acting, key, sum)
		if err != nil {
			return nil, err
		}
		if earlier != nil {
			rows, err := s.replay(ctx, earlier)
			if rows != nil || err != nil {
				return rows, err
			}
		}
		rows, err := create(&state.Request{Tenant: who.Acting, Key: key, Digest: sum, At: time.Now()})
		if !errors.Is(err, state.ErrKeyTaken) {
			return rows, err
		}
	}
}

// earlier returns a tenant's stored request with a key, or nil.
func (s *Service) earlier(ctx context.Context, tenant, key string, sum []byte) (*state.Request, error) {
	r, err := s.store.Request(ctx, tenant, key)
	switch {
	case errors.Is(err, state.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, state.Fault(err)
	case !bytes.Equal(r.Digest, sum):
		return nil, keyReused(key)
	}
	return r, nil
}

// replay returns the sandboxes of an earlier request, settled. It returns none
// if that request came to nothing.
func (s *Service) replay(ctx context.Context, r *state.Request) ([]*state.Sandbox, error) {
	opCtx, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var rows []*state.Sandbox
	missing := ""
	for _, id := range r.IDs {
		sb, err := s.replayOne(ctx, opCtx, id)
		if err != nil {
			return nil, err
		}
		if sb == nil {
			missing = id
			continue
		}
		rows = append(rows, sb)
	}
	if missing != "" && len(rows) > 0 {
		return nil, deleted(missing)
	}
	return rows, nil
}

func deleted(id string) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND,
		"the sandbox %s that this idempotency key made was deleted", id).With("sandbox_id", id)
}

// replayOne returns nil if the sandbox was never made. While that cannot be told
// it returns an error, after which the request can be repeated again.
func (s *Service) replayOne(ctx, opCtx context.Context, id string) (*state.Sandbox, error) {
	unlock, err := s.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	sb, err := s.store.Sandbox(ctx, id)
	switch {
	case errors.Is(err, state.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, state.Fault(err)
	}
	// Somebody of the same tenant, but with another scope, may have used the key.
	if who, err := s.caller(ctx); err != nil || !sees(who, sb) {
		return nil, errors.Join(err, keyReused(sb.RequestKey))
	}
	switch {
	case sb.Status.Gone:
		return nil, deleted(id)
	case sb.Status.Settled(), sb.Status.Pending == lifecycle.Delete:
		return sb, nil
	}
	truth := s.look(opCtx, sb)
	if _, err := s.applySettlement(opCtx, sb, truth); err != nil {
		return nil, err
	}
	switch {
	case truth.Outcome == provider.Unknown:
		return nil, withID(truth.Cause.WithEffect(providerv1.Effect_EFFECT_UNKNOWN), id)
	case sb.Status.Gone:
		return nil, nil
	default:
		return sb, s.awaitCreated(ctx, opCtx, sb)
	}
}
