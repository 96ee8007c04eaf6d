package sdk

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
)

// Options of Serve and NewServer. Zero values mean the defaults.
type Options struct {
	// Exec configures the SDK's exec machinery: retained output, drain time and
	// how long ended commands are kept.
	Exec exec.Options
	// Table replaces the exec table that NewServer would make from Exec. The
	// caller closes it. A shim that checkpoints its sandbox needs it for Freeze
	// and Export.
	Table *exec.Table
	// Configured serves calls without a Configure first: for servers that are not
	// a plugin, such as the local provider's shim.
	Configured bool
	// Logger receives what no caller can be told. Default: discard for NewServer,
	// JSON lines on standard error for Serve.
	Logger *slog.Logger
	// Tracing makes spans of the calls that Serve serves; nil: nobody does. A
	// *tracing.Tracer of package proto/tracing is one. The SDK itself links no
	// tracing, which would be a seventh of a plugin's size.
	Tracing Tracing
	// ShutdownGrace is how long Serve lets calls in flight finish after SIGTERM or
	// the host's death: 3 s.
	ShutdownGrace time.Duration
}

// Tracing is what Options.Tracing does.
type Tracing interface {
	// ServerOptions intercept the calls. The context that a driver gets is the one
	// that the interceptors made.
	ServerOptions() []grpc.ServerOption
	// Shutdown is called when the last call has ended; what it does not finish until
	// ctx ends is lost.
	Shutdown(ctx context.Context) error
}

type untraced struct{}

func (untraced) ServerOptions() []grpc.ServerOption { return nil }

func (untraced) Shutdown(context.Context) error { return nil }

const defaultShutdownGrace = 3 * time.Second

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Exec.Logger == nil {
		o.Exec.Logger = o.Logger
	}
	if o.Tracing == nil {
		o.Tracing = untraced{}
	}
	if o.ShutdownGrace <= 0 {
		o.ShutdownGrace = defaultShutdownGrace
	}
	return o
}
