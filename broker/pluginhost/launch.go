package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	goplugin "github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// launcher starts processes of one plugin. Nothing of go-plugin is used twice:
// its configuration, its client and its command are good for one launch each.
type launcher struct {
	cfg  Config
	opts *Options
	log  *slog.Logger
	host identity
}

// hopelessError marks a failure that trying again cannot mend.
type hopelessError struct{ error }

func (e hopelessError) Unwrap() error { return e.error }

// launch starts a process and makes it usable. connected is called after the
// handshake. The caller owns the instance; after an error there is nothing left
// to clean up. When ctx ends, the launch is called off and the process killed.
func (l *launcher) launch(ctx context.Context, gen uint64, connected func()) (_ worker, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.opts.StartBudget,
		fmt.Errorf("it was not ready within %s", l.opts.StartBudget))
	defer cancel()

	binary, err := find(l.opts.Dirs, l.cfg)
	if err != nil {
		return nil, hopelessError{err}
	}
	program, digest, err := binary.open(l.opts.LockFile)
	if err != nil {
		return nil, hopelessError{err}
	}
	defer func() {
		if program != nil {
			_ = program.Close() // only read from, and executed by now
		}
	}()

	in, err := l.prepare(binary, digest, gen)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			in.kill() //nolint:contextcheck // cleaning up goes on when ctx has ended
			err = in.explain(ctx, err)
		}
	}()
	if err := in.connect(ctx, program); err != nil {
		return nil, err
	}
	connected()
	if err := l.configure(ctx, in); err != nil {
		return nil, err
	}
	if digest != "" {
		close(in.hashed)
		return in, nil
	}
	in.hash(program)
	program = nil // hash closes it
	return in, nil
}

// prepare makes all that a launch needs and starts nothing.
func (l *launcher) prepare(binary Binary, digest string, gen uint64) (*instance, error) {
	dir, err := newLaunchDir(l.opts.RuntimeDir, l.cfg.Name, l.host)
	if err != nil {
		return nil, err
	}
	in := &instance{
		name: l.cfg.Name, gen: gen, binary: binary, digest: digest, dir: dir,
		grace: l.opts.DrainGrace, log: l.log, words: &lastWords{}, born: time.Now(), hashed: make(chan struct{}),
	}
	out := &lineLogger{log: func(line string) {
		l.log.Warn("the plugin printed to standard output", "line", line)
	}}
	in.tls, in.clientCert, err = ephemeralTLS()
	if err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	in.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion: handshake.ProtocolMajor, MagicCookieKey: handshake.CookieKey, MagicCookieValue: handshake.CookieValue,
		},
		VersionedPlugins: map[int]plugin.PluginSet{handshake.ProtocolMajor: {handshake.PluginName: dispenser{}}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Logger:           newHCLogger(l.log),
		Stderr:           in.words,
		SyncStdout:       out,
		SyncStderr:       out,
		StartTimeout:     l.opts.StartBudget,
		SkipHostEnv:      true,
		TLSConfig:        in.tls,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: dir.path},
		GRPCDialOptions:  append(in.dialOptions(), l.opts.DialOptions...),
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, _ string) (goplugin.Runner, error) {
			in.runner.env = l.environment(spec.Env, in)
			return in.runner, nil
		},
	})
	in.runner = runner{
		process:   newProcess(binary.Path, l.cfg.Args, nil, func(pid int) { in.noteStart(pid) }),
		diagnosis: in.words.report,
	}
	return in, nil
}

// environment is all that a plugin gets: what go-plugin speaks with it by, where
// its socket goes, and what was configured. Nothing is inherited.
func (l *launcher) environment(spec []string, in *instance) []string {
	env := slices.DeleteFunc(slices.Clone(spec), func(kv string) bool {
		return strings.HasPrefix(kv, plugin.EnvUnixSocketDir+"=")
	})
	env = append(env,
		// One level less than go-plugin's own folder keeps the path short.
		plugin.EnvUnixSocketDir+"="+in.dir.path,
		"PLUGIN_CLIENT_CERT="+in.clientCert,
		handshake.EnvParentPID+"="+strconv.Itoa(l.host.PID),
		"GOTRACEBACK=all",
	)
	for name, value := range l.cfg.Env {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return env
}

// configure takes a connected process to the point where it serves.
func (l *launcher) configure(ctx context.Context, in *instance) error {
	service := providerv1.NewProviderServiceClient(in.conn)
	described, err := service.Describe(ctx, &providerv1.DescribeRequest{})
	if err != nil {
		return fmt.Errorf("describe: %w", err)
	}
	if described.GetName() != l.cfg.Name {
		return hopelessError{fmt.Errorf("%s calls itself %q: want %q, as its file name says", in.binary.Path, described.GetName(), l.cfg.Name)}
	}
	state := filepath.Join(l.opts.StateDir, l.cfg.Name)
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fmt.Errorf("make state folder: %w", err)
	}
	_, err = service.Configure(ctx, &providerv1.ConfigureRequest{
		Settings: l.cfg.Settings, Secrets: l.cfg.Secrets, StateDir: state, Owner: l.opts.Owner,
	})
	if status.Code(err) == codes.InvalidArgument {
		return hopelessError{fmt.Errorf("the configuration was refused: %w", err)}
	}
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	// Configure may have changed what it can do.
	if in.describe, err = service.Describe(ctx, &providerv1.DescribeRequest{}); err != nil {
		return fmt.Errorf("describe: %w", err)
	}
	in.reasons, err = in.probe(ctx)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("probe: %w", err)
	}
	if err != nil { // whatever keeps it from probing, calls will tell more
		in.reasons = []string{"probe: " + err.Error()}
	}
	return nil
}

// dispenser makes go-plugin hand out the bare connection.
type dispenser struct{ plugin.NetRPCUnsupportedPlugin }

// GRPCServer is never called in a host.
func (dispenser) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("a plugin host serves nothing")
}

func (dispenser) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}

// dialOptions bound what a connection may cost. Calls never wait for readiness:
// after a crash they would wait to their deadline.
func (in *instance) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(handshake.MaxMessageBytes),
			grpc.MaxCallSendMsgSize(handshake.MaxMessageBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: handshake.KeepaliveTime, Timeout: handshake.KeepaliveTimeout, PermitWithoutStream: true,
		}),
		grpc.WithIdleTimeout(0), // a plugin takes a lost connection for a lost host
		grpc.WithInitialWindowSize(handshake.StreamWindowBytes),
		grpc.WithInitialConnWindowSize(handshake.ConnWindowBytes),
		grpc.WithReadBufferSize(handshake.SocketBufferBytes),
		grpc.WithWriteBufferSize(handshake.SocketBufferBytes),
		grpc.WithChainStreamInterceptor(in.intercept),
	}
}

// intercept keeps every connection that go-plugin makes, since it drops one
// without closing it when the process dies right after the handshake. It also
// refuses go-plugin's callbacks from plugins into the host: what a plugin has to
// say goes over streams that the host opened.
func (in *instance) intercept(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	streamer grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	in.keep(cc)
	if strings.HasPrefix(method, "/plugin.GRPCBroker/") {
		return nil, status.Error(codes.Unimplemented, "callbacks into the host are not served")
	}
	return streamer(ctx, desc, cc, method, opts...)
}

// connect starts the process and shakes hands.
func (in *instance) connect(ctx context.Context, program *os.File) error {
	in.runner.program = program
	stop := context.AfterFunc(ctx, func() { _ = in.runner.Kill(ctx) })
	defer stop()
	protocol, err := in.client.Client()
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	raw, err := protocol.Dispense(handshake.PluginName)
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	conn, ok := raw.(*grpc.ClientConn)
	if !ok {
		return fmt.Errorf("handshake: go-plugin dispensed %T", raw)
	}
	in.conn, in.health = conn, grpc_health_v1.NewHealthClient(conn)
	return nil
}
