package api

import (
	"log/slog"
	"net/http"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/broker"
	"github.com/sandbar-dev/sandbar/broker/api/batch"
	"github.com/sandbar-dev/sandbar/broker/telemetry"
	"github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1/brokerv1connect"
	"github.com/sandbar-dev/sandbar/proto/handshake"
	"github.com/sandbar-dev/sandbar/proto/tracing"
)

// Options of a handler.
type Options struct {
	// Auth says who calls. Nil: whoever can connect is the local user.
	Auth Authenticator
	// Access serves AccessService, and ends calls whose credential ends. Nil: there
	// is no such service, and none but the default tenant.
	Access Access
	// Webhooks serves WebhookService. Nil: there is no such service.
	Webhooks Webhooks
	// Log takes panics. Nil: nothing is logged.
	Log *slog.Logger
	// Metrics count calls. Nil: nobody counts.
	Metrics *telemetry.Metrics
	// Tracer makes a span of each call. Nil: nobody does.
	Tracer *tracing.Tracer
}

// New returns the handler of the whole API.
func New(s *broker.Service, a Admin, opts Options) http.Handler {
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	metrics := opts.Metrics
	if metrics == nil {
		metrics = telemetry.Discard()
	}
	options := []connect.HandlerOption{
		connect.WithInterceptors(interceptor{log}, observer{metrics, opts.Tracer}),
		// The plugins' limit holds for clients too, so that what got in fits on.
		connect.WithReadMaxBytes(handshake.MaxMessageBytes),
		connect.WithCodec(codec{}),
	}
	mux := http.NewServeMux()
	mux.Handle(brokerv1connect.NewSandboxServiceHandler(sandboxes{s}, options...))
	mux.Handle(brokerv1connect.NewAdminServiceHandler(admin{a}, options...))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if opts.Access != nil {
		mux.Handle(brokerv1connect.NewAccessServiceHandler(access{opts.Access}, options...))
	}
	if opts.Webhooks != nil {
		mux.Handle(brokerv1connect.NewWebhookServiceHandler(webhooks{opts.Webhooks}, options...))
	}
	gate := gate{auth: opts.Auth, access: opts.Access, log: log}
	return withController(gate.guard(batch.Handler(mux)))
}
