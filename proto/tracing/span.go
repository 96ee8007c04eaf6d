package tracing

import (
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// The attributes of spans; those that OpenTelemetry has a convention for are named
// by it.
const (
	// AttrSandbox is a sandbox's id.
	AttrSandbox = attribute.Key("sandbar.sandbox_id")
	// AttrProvider is a provider's name.
	AttrProvider = attribute.Key("sandbar.provider")

	attrSystem = attribute.Key("rpc.system.name")
	attrMethod = attribute.Key("rpc.method")
	attrError  = attribute.Key("error.type")
)

// End ends a span with what became of it: the reason of an error, and nothing of
// its message.
func End(span trace.Span, err error) {
	if err != nil {
		f := fault.From(err)
		name := "UNKNOWN"
		if fault.InfoOf(f.Reason) != nil {
			name = fault.Name(f.Reason)
		}
		span.SetAttributes(attrError.String(name))
		if f.Reason != providerv1.ErrorReason_ERROR_REASON_CANCELED { // whoever left did not fail
			span.SetStatus(codes.Error, name)
		}
	}
	span.End()
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
	return []attribute.KeyValue{AttrSandbox.String(id)}
}

// RPC are the attributes of a call.
func RPC(system, method string) trace.SpanStartEventOption {
	return trace.WithAttributes(attrSystem.String(system), attrMethod.String(method))
}

var errAbandoned = errors.New("abandoned")
