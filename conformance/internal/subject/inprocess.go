package subject

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// DriverOptions describe a driver that is served in this process.
type DriverOptions struct {
	// New returns a driver; each instance has its own. If it has a Close method,
	// that is called when the instance ends.
	New      func() (sdk.Driver, error)
	Settings map[string]any
	Secrets  map[string][]byte
	// Exec are the SDK's options for running commands.
	Exec exec.Options
	// ServerOptions are added to the server's: interceptors that are wrong on
	// purpose, for tests of the suite itself.
	ServerOptions []grpc.ServerOption
}

// inProcess serves a driver over a real socket in this process, so that a
// debugger sees suite and driver at once.
type inProcess struct {
	opts DriverOptions

	mu sync.Mutex
	// dir holds sockets and state of all instances; made when it is first needed.
	dir  string
	next int
}

// NewInProcess returns a target that serves a driver in this process.
func NewInProcess(opts DriverOptions) Target { return &inProcess{opts: opts} }

// folder makes a folder for one instance.
func (p *inProcess) folder() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dir == "" {
		dir, err := os.MkdirTemp("", "sbc")
		if err != nil {
			return "", fmt.Errorf("make a folder for sockets and state: %w", err)
		}
		p.dir = dir
	}
	p.next++
	dir := filepath.Join(p.dir, strconv.Itoa(p.next))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a folder for an instance: %w", err)
	}
	return dir, nil
}

// Kind implements Target.
func (p *inProcess) Kind() Kind { return InProcess }

// Close implements Target.
func (p *inProcess) Close(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := os.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("remove sockets and state: %w", err)
	}
	return nil
}

// About implements Target.
func (p *inProcess) About(ctx context.Context) (About, error) {
	driver, err := p.opts.New()
	if err != nil {
		return About{}, fmt.Errorf("make the driver: %w", err)
	}
	defer closeDriver(driver)
	d, err := driver.Describe(ctx)
	if err != nil {
		return About{}, fmt.Errorf("describe: %w", err)
	}
	return About{Name: d.GetName(), Vendor: d.GetVendor(), Version: d.GetVersion(), Launcher: "in the suite's own process"}, nil
}

// Open implements Target.
func (p *inProcess) Open(ctx context.Context, opts OpenOptions) (*Instance, error) {
	driver, err := p.opts.New()
	if err != nil {
		return nil, fmt.Errorf("make the driver: %w", err)
	}
	server, err := sdk.NewServer(driver, sdk.Options{Exec: p.opts.Exec})
	if err != nil {
		closeDriver(driver)
		return nil, err
	}
	end := &ending{driver: driver, server: server}
	conn, state, err := p.serve(server, opts.StateDir, end)
	if err != nil {
		return nil, errors.Join(err, end.close(ctx))
	}
	inst := NewInstance(conn, nil, nil, state, end.close)
	if err := p.greet(ctx, inst, opts); err != nil {
		return nil, errors.Join(err, end.close(ctx))
	}
	return inst, nil
}

// serve starts a gRPC server for the driver and connects to it.
func (p *inProcess) serve(server *sdk.Server, state string, end *ending) (*grpc.ClientConn, string, error) {
	dir, err := p.folder()
	if err != nil {
		return nil, "", err
	}
	if state == "" {
		state = filepath.Join(dir, "s")
		if err := os.Mkdir(state, 0o700); err != nil {
			return nil, "", fmt.Errorf("make the state folder: %w", err)
		}
	}
	socket := filepath.Join(dir, "p.sock")
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", socket) // lives as long as the instance
	if err != nil {
		return nil, "", fmt.Errorf("listen: %w", err)
	}
	grpcServer := grpc.NewServer(append(sdk.ServerOptions(), p.opts.ServerOptions...)...)
	server.Register(grpcServer)
	end.grpc = grpcServer
	end.served = make(chan struct{})
	go func() {
		defer close(end.served)
		_ = grpcServer.Serve(listener) // ends with Stop
	}()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(handshake.MaxMessageBytes), grpc.MaxCallSendMsgSize(handshake.MaxMessageBytes)))
	if err != nil {
		return nil, "", fmt.Errorf("connect: %w", err)
	}
	end.conn = conn
	return conn, state, nil
}

// greet describes and configures a fresh instance.
func (p *inProcess) greet(ctx context.Context, inst *Instance, opts OpenOptions) error {
	settings := maps.Clone(p.opts.Settings)
	if settings == nil {
		settings = map[string]any{}
	}
	maps.Copy(settings, opts.Settings)
	values, err := structpb.NewStruct(settings)
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	inst.Configuration = &providerv1.ConfigureRequest{Settings: values, Secrets: p.opts.Secrets, StateDir: inst.StateDir, Owner: opts.Owner}
	client := providerv1.NewProviderServiceClient(inst.Conn)
	if !opts.Unconfigured {
		if _, err := client.Configure(ctx, inst.Configuration); err != nil {
			return fmt.Errorf("configure: %s", Describe(err))
		}
	}
	described, err := client.Describe(ctx, &providerv1.DescribeRequest{})
	if err != nil {
		return fmt.Errorf("describe: %s", Describe(err))
	}
	inst.Describe = described
	return nil
}

// ending takes down what Open put up.
type ending struct {
	driver sdk.Driver
	server *sdk.Server
	grpc   *grpc.Server
	served chan struct{}
	conn   *grpc.ClientConn
}

func (e *ending) close(context.Context) error {
	var errs []error
	if e.conn != nil {
		errs = append(errs, e.conn.Close())
	}
	if e.grpc != nil {
		e.grpc.Stop()
		<-e.served
	}
	e.server.Close()
	closeDriver(e.driver)
	return errors.Join(errs...)
}

func closeDriver(d sdk.Driver) {
	switch c := d.(type) {
	case interface{ Close() error }:
		_ = c.Close() // the driver is thrown away
	case interface{ Close() }:
		c.Close()
	}
}
