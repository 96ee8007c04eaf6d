package broker

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/broker/telemetry"
	"github.com/sandbar-dev/sandbar/proto/tracing/span"
)

// about says in the span of a call which sandbox it is about, once that is known.
func about(ctx context.Context, sb *state.Sandbox) {
	if s := trace.SpanFromContext(ctx); s.IsRecording() {
		s.SetAttributes(span.Sandbox.String(sb.ID()), span.Provider.String(sb.Body.GetProvider()))
	}
}

// Observe returns what metrics tell of this moment, all that can be told of it
// beside an error.
func (s *Service) Observe(ctx context.Context) (telemetry.Observation, error) {
	due, err := s.store.CountDue(ctx, time.Now())
	states, serr := s.store.CountStates(ctx)
	return telemetry.Observation{
		Sandboxes: states, Circuits: s.measures.circuits(s.providers.Names(), s.opts.Clock()),
		Queues: map[string]int{"due": due, "recheck": s.recheck.length(), "snapshots": s.unsettled.length()},
	}, errors.Join(err, serr)
}
