package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sandbar-dev/sandbar/plugins/sdk/internal/logring"
	"github.com/sandbar-dev/sandbar/plugins/sdk/internal/stdoutguard"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// Each step of stopping is bounded, because a driver that is stuck must not keep
// the process from ending within handshake.OrphanExit: a poll of the parent, the
// grace, stopping and closing add up to 8 s at most.
const (
	// maxShutdownGrace caps Options.ShutdownGrace.
	maxShutdownGrace = 5 * time.Second
	// stopTimeout is for stopping the gRPC server, beyond the grace.
	stopTimeout = time.Second
	// flushStreams is the part of stopTimeout in which the last frames and
	// statuses of calls leave.
	flushStreams = stopTimeout / 2
	// closeTimeout is for what the server started.
	closeTimeout = time.Second
	// traceTimeout is for the last spans.
	traceTimeout = 500 * time.Millisecond
	// flushTimeout is for the last log lines.
	flushTimeout = 200 * time.Millisecond
)

// bounded runs f and waits for it for at most limit. The process ends next, and
// with it an f that is stuck.
func bounded(limit time.Duration, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// Serve is the main function of a plugin binary. It serves driver to the host
// that started the process and does not return: the process exits 0 when the
// host ends it or dies, and 1 when it cannot serve.
//
// With the argument --describe it prints the manifest and exits 0. Run by a
// person, it says what it is and exits 1.
//
// Serve owns the process: SIGPIPE and SIGINT do nothing to it, though they do to
// the processes that it starts, SIGTERM drains it, and standard output is for the
// handshake alone.
func Serve(driver Driver, opts Options) {
	os.Exit(serve(driver, opts))
}

func serve(driver Driver, opts Options) int {
	// A host that died leaves a broken pipe behind; a log line must not kill us.
	// Taking the signals, unlike ignoring them, is not handed down to children: a
	// command whose reader has gone must die of it. Nobody has to read the channel.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE, syscall.SIGINT)
	ring := logring.New(os.Stderr, logBytes, droppedLine)
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		_ = ring.Flush(ctx) // a reader that is stuck has had its chance
	}()
	if opts.Logger == nil {
		opts.Logger = newLogger(ring)
	}
	server, err := NewServer(driver, opts)
	if err != nil {
		// For a person or a host's crash report, not for the log: one sentence.
		_, _ = fmt.Fprintf(ring, "sandbar plugin cannot start: %v\n", err)
		return 1
	}
	defer server.endTracing()
	defer bounded(closeTimeout, server.Close)
	if slices.Contains(os.Args[1:], handshake.DescribeFlag) {
		stdoutguard.Handshake()
		return printManifest(os.Stdout, ring, server) //nolint:forbidigo // the one thing a plugin prints
	}
	if os.Getenv(handshake.CookieKey) != handshake.CookieValue { //nolint:forbidigo // the handshake is an environment protocol
		name := server.described.Load().answer.GetName()
		_, _ = fmt.Fprintf(ring, "%s%s is a plugin of Sandbar and is started by it. List it under providers in the "+
			"configuration, or run it with %s to see what it can do.\n", handshake.BinaryPrefix, name, handshake.DescribeFlag)
		return 1
	}
	return server.plugin(ring)
}

func (s *Server) endTracing() {
	ctx, cancel := context.WithTimeout(context.Background(), traceTimeout)
	defer cancel()
	if err := s.opts.Tracing.Shutdown(ctx); err != nil {
		s.log.Debug("the last spans are lost", "error", err)
	}
}

func printManifest(w, errs io.Writer, s *Server) int {
	m := handshake.Manifest{ProtocolMajors: []int{handshake.ProtocolMajor}, Describe: s.described.Load().answer}
	data, err := m.Encode()
	if err == nil {
		_, err = w.Write(data)
	}
	if err != nil {
		_, _ = fmt.Fprintf(errs, "cannot print the manifest: %v\n", err)
		return 1
	}
	return 0
}

// plugin serves over go-plugin until the host says to stop, dies, or SIGTERM.
func (s *Server) plugin(logs io.Writer) int {
	stop, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	defer signal.Stop(term)
	watch := watchParent(hostPID())
	defer watch.Close()

	servers := make(chan *grpc.Server, 1)
	finished := make(chan struct{})
	go func() { // go-plugin's Serve returns when the server has stopped
		defer close(finished)
		stdoutguard.Handshake()
		plugin.Serve(s.serveConfig(logs, servers))
	}()
	select {
	case <-finished:
		return 0
	case <-term:
		cancel(errors.New("SIGTERM"))
	case <-watch.Orphaned():
		cancel(errors.New("the host died"))
	}
	s.opts.Logger.Info("plugin is stopping", "cause", context.Cause(stop).Error())
	grace := min(s.opts.ShutdownGrace, maxShutdownGrace)
	bounded(grace+stopTimeout, func() {
		ctx, done := context.WithTimeout(context.Background(), grace+stopTimeout)
		defer done()
		if unfinished, err := s.Drain(ctx, grace); err != nil || unfinished > 0 {
			s.opts.Logger.Warn("plugin stops with calls in flight", "unfinished", unfinished, "error", err)
		}
		select {
		case g := <-servers:
			// A handler returns before its status is on the wire. What never ends by
			// itself must not hold this up.
			s.endForeign()
			bounded(flushStreams, g.GracefulStop)
			g.Stop()
			<-finished
		default: // it never got as far as serving
		}
	})
	return 0
}

func (s *Server) serveConfig(logs io.Writer, servers chan<- *grpc.Server) *plugin.ServeConfig {
	return &plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			MagicCookieKey: handshake.CookieKey, MagicCookieValue: handshake.CookieValue,
			ProtocolVersion: handshake.ProtocolMajor,
		},
		VersionedPlugins: map[int]plugin.PluginSet{
			handshake.ProtocolMajor: {handshake.PluginName: &grpcPlugin{server: s}},
		},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			opts = append(append(opts, ServerOptions()...), s.opts.Tracing.ServerOptions()...)
			g := grpc.NewServer(append(opts, grpc.ChainStreamInterceptor(s.foreignStream))...)
			servers <- g
			return g
		},
		Logger: hclog.New(&hclog.LoggerOptions{Name: "go-plugin", Level: hclog.Warn, Output: logs, JSONFormat: true}),
	}
}

// foreignStream ends streams of services that are not ours, go-plugin's own among
// them, when the server stops: their handlers wait for the client's end of the
// connection.
func (s *Server) foreignStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if strings.HasPrefix(info.FullMethod, fullMethod("")) {
		return handler(srv, ss)
	}
	ended := make(chan error, 1)
	s.wg.Go(func() { ended <- handler(srv, ss) }) // its calls fail as soon as this returns
	select {
	case err := <-ended:
		return err
	case <-s.foreign.Done():
		return status.Error(codes.Unavailable, "the plugin is stopping")
	}
}

// grpcPlugin is go-plugin's view of the server.
type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	server *Server
}

// GRPCServer registers the service.
func (p *grpcPlugin) GRPCServer(_ *plugin.GRPCBroker, g *grpc.Server) error {
	p.server.Register(g)
	return nil
}

// GRPCClient is the host's side, which the SDK does not have.
func (*grpcPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("the SDK serves plugins and does not call them")
}

// Logger returns the logger of a served plugin, for drivers that log before they
// are asked anything.
func (s *Server) Logger() *slog.Logger { return s.log }
