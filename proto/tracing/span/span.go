// Package span is what is in the spans of Sandbar, and how their context travels.
// It knows the interfaces of OpenTelemetry only.
package span

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// The attributes of spans; those that OpenTelemetry has a convention for are named
// by it.
const (
	// Sandbox is a sandbox's id.
	Sandbox = attribute.Key("sandbar.sandbox_id")
	// Provider is a provider's name.
	Provider = attribute.Key("sandbar.provider")

	attrSystem = attribute.Key("rpc.system.name")
	attrMethod = attribute.Key("rpc.method")
	attrError  = attribute.Key("error.type")
)

// End ends a span with what became of it: the reason of an error, and nothing of
// its message.
func End(s trace.Span, err error) {
	if err != nil {
		f := fault.From(err)
		name := "UNKNOWN"
		if fault.InfoOf(f.Reason) != nil {
			name = fault.Name(f.Reason)
		}
		s.SetAttributes(attrError.String(name))
		if f.Reason != providerv1.ErrorReason_ERROR_REASON_CANCELED { // whoever left did not fail
			s.SetStatus(codes.Error, name)
		}
	}
	s.End()
}

// About returns which sandbox a request of the contract is about, if it says so by
// an id.
func About(msg any) []attribute.KeyValue {
	var id string
	switch m := msg.(type) {
	case interface {
		GetSandbox() *providerv1.SandboxRef
	}:
		id = m.GetSandbox().GetSandboxId()
	case interface{ GetIdentity() *providerv1.Identity }:
		id = m.GetIdentity().GetSandboxId()
	}
	if id == "" {
		return nil
	}
	return []attribute.KeyValue{Sandbox.String(id)}
}

// RPC are the attributes of a call.
func RPC(system, method string) trace.SpanStartEventOption {
	return trace.WithAttributes(attrSystem.String(system), attrMethod.String(method))
}

// ErrAbandoned is how a call ends whose handler panicked.
var ErrAbandoned = errors.New("abandoned")

// Carrier is where the context of a trace travels: http.Header by
// propagation.HeaderCarrier, or gRPC's metadata.
type Carrier = propagation.TextMapCarrier

var propagator propagation.TraceContext

// Inject writes the context of a trace, if there is one, for the other side.
func Inject(ctx context.Context, c Carrier) { propagator.Inject(ctx, c) }

// Extract reads what the other side wrote.
func Extract(ctx context.Context, c Carrier) context.Context { return propagator.Extract(ctx, c) }
