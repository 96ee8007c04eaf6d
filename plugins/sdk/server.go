package sdk

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
	"github.com/sandbar-dev/sandbar/proto/relay"
)

// Server serves a Driver under the contract. It does not depend on go-plugin:
// register it with any *grpc.Server made with ServerOptions. It is safe for
// concurrent use.
type Server struct {
	driver Driver
	opts   Options
	log    *slog.Logger
	execs  *exec.Table

	// described is what Describe answers and the gate enforces.
	described atomic.Pointer[description]
	// configure serialises Configure; configured says that one was accepted.
	configure  sync.Mutex
	configured atomic.Bool
	secrets    atomic.Pointer[redactor]

	inflight inflight
	denied   denied
	// streams is the parent of every stream's context; its end tells streams to
	// end.
	streams    context.Context //nolint:containedctx // lives as long as the server
	endStreams context.CancelCauseFunc
	// watches is the same for streams that never end by themselves; Drain ends
	// them at once.
	watches    context.Context //nolint:containedctx // lives as long as the server
	endWatches context.CancelCauseFunc
	// foreign is the same for streams of other services on a plugin's server.
	foreign    context.Context //nolint:containedctx // lives as long as the server
	endForeign context.CancelFunc
	wg         sync.WaitGroup
}

// NewServer checks that what the driver declares and what it implements agree,
// and returns a server for it. The caller calls Close.
func NewServer(driver Driver, opts Options) (*Server, error) {
	opts = opts.withDefaults()
	s := &Server{driver: driver, opts: opts, log: opts.Logger, execs: opts.Table}
	if s.execs == nil {
		s.execs = exec.NewTable(opts.Exec)
	}
	d, err := s.describe(context.Background(), 0)
	if err != nil {
		return nil, err
	}
	s.described.Store(d)
	s.configured.Store(opts.Configured)
	s.streams, s.endStreams = context.WithCancelCause(context.Background())
	s.watches, s.endWatches = context.WithCancelCause(s.streams)
	s.foreign, s.endForeign = context.WithCancel(context.Background())
	s.inflight.init()
	s.denied.init()
	return s, nil
}

// ServerOptions returns the limits and keepalive settings that the contract
// demands of a server (REQ-PROC-005, REQ-PROC-006), and the codec by which a
// driver may pass frames on as they are.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(handshake.MaxMessageBytes),
		grpc.MaxSendMsgSize(handshake.MaxMessageBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: handshake.KeepaliveMinTime, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: handshake.KeepaliveTime, Timeout: handshake.KeepaliveTimeout}),
		grpc.InitialWindowSize(handshake.StreamWindowBytes),
		grpc.InitialConnWindowSize(handshake.ConnWindowBytes),
		grpc.WriteBufferSize(handshake.SocketBufferBytes),
		grpc.ReadBufferSize(handshake.SocketBufferBytes),
		grpc.ForceServerCodecV2(relay.Codec()),
	}
}

// Register adds the service to r. The gate, validation, deadlines and the panic
// guard are part of the registered handlers, so that no way of serving them
// leaves one out; interceptors of r itself run around them.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	desc := providerv1.ProviderService_ServiceDesc
	desc.Methods = nil
	for _, m := range providerv1.ProviderService_ServiceDesc.Methods {
		desc.Methods = append(desc.Methods, grpc.MethodDesc{MethodName: m.MethodName, Handler: s.wrapUnary(m.Handler)})
	}
	desc.Streams = nil
	for _, d := range providerv1.ProviderService_ServiceDesc.Streams {
		d.Handler = s.wrapStream(fullMethod(d.StreamName), d.Handler)
		desc.Streams = append(desc.Streams, d)
	}
	r.RegisterService(&desc, &service{s: s})
}

func fullMethod(name string) string {
	return "/" + providerv1.ProviderService_ServiceDesc.ServiceName + "/" + name
}

func (s *Server) wrapUnary(h grpc.MethodHandler) grpc.MethodHandler {
	return func(srv any, ctx context.Context, dec func(any) error, outer grpc.UnaryServerInterceptor) (any, error) {
		inner := s.unary
		if outer != nil {
			inner = func(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
				return outer(ctx, req, info, func(ctx context.Context, req any) (any, error) {
					return s.unary(ctx, req, info, h)
				})
			}
		}
		return h(srv, ctx, dec, inner)
	}
}

func (s *Server) wrapStream(method string, h grpc.StreamHandler) grpc.StreamHandler {
	return func(srv any, stream grpc.ServerStream) error { return s.stream(srv, method, stream, h) }
}

// Execs returns the exec table.
func (s *Server) Execs() *exec.Table { return s.execs }

// Close ends all streams, gives up all execs without killing anything, and waits
// for everything the server started. Stop the *grpc.Server first.
func (s *Server) Close() {
	s.inflight.drain()
	s.endStreams(errDraining())
	s.endForeign()
	if s.opts.Table == nil {
		s.execs.Close()
	}
	s.wg.Wait()
}

func errDraining() *fault.Error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_DRAINING, "the provider is draining and takes no new work")
}
