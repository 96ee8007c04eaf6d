// Package tracing makes spans of calls and sends them to a collector, by OTLP over
// HTTP. It is what both sides of the plugin border, and the CLI before them, need
// to be one trace:
//
//	tracer, err := tracing.New(ctx, tracing.Options{Service: "sandbar-provider-x", Endpoint: endpoint})
//	grpc.NewServer(tracer.ServerOptions()...)
//
// The context of a trace goes over the wire as W3C Trace Context has it, in the
// field traceparent of gRPC's metadata and of HTTP's header.
//
// A span says which call it was, how it ended, and which sandbox it was about by
// its id. It says nothing else of a request: arguments, environments, paths and
// the messages of errors, which quote those, are never in a span. That is why
// these interceptors are ours: OpenTelemetry's own for gRPC put the message of an
// error into the span.
//
// Whoever links this package links the SDK of OpenTelemetry. Packages that only
// pass a context on need not.
package tracing
