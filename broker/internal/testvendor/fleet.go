package testvendor

import (
	"context"
	"net"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/broker/provider"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Serve serves a vendor on a Unix socket until stop is called.
func Serve(v *Vendor, socket string) (stop func(), err error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "unix", socket)
	if err != nil {
		return nil, err
	}
	srv := grpc.NewServer()
	providerv1.RegisterProviderServiceServer(srv, v)
	var done sync.WaitGroup
	done.Go(func() { _ = srv.Serve(l) }) // returns when it is stopped
	return func() { srv.Stop(); done.Wait() }, nil
}

// conn is a provider.Conn without a process to supervise.
type conn struct {
	*grpc.ClientConn

	mu        sync.Mutex
	described *providerv1.DescribeResponse
}

func (c *conn) Descriptor(ctx context.Context) (*providerv1.DescribeResponse, error) {
	if d := c.Described(); d != nil {
		return d, nil
	}
	d, err := providerv1.NewProviderServiceClient(c.ClientConn).Describe(ctx, &providerv1.DescribeRequest{})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.described = d
	return d, nil
}

func (c *conn) Described() *providerv1.DescribeResponse {
	c.mu.Lock()
	defer c.mu.Unlock()
	return proto.CloneOf(c.described)
}

// Fleet is a broker.Providers of vendors on sockets; the first is the default.
type Fleet struct {
	mu        sync.Mutex
	names     []string
	providers map[string]*provider.Provider
	down      map[string]string
	conns     []*conn
}

// Dial adds the vendor on a socket under a name.
func (f *Fleet) Dial(name, socket string) error {
	cc, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.providers == nil {
		f.providers, f.down = make(map[string]*provider.Provider), make(map[string]string)
	}
	c := &conn{ClientConn: cc}
	f.conns = append(f.conns, c)
	f.names = append(f.names, name)
	f.providers[name] = provider.New(name, c, provider.Options{})
	return nil
}

// Close closes the connections.
func (f *Fleet) Close() {
	for _, c := range f.conns {
		_ = c.Close() // closing twice is its only error
	}
}

// SetDown makes a provider unreachable for a reason, or reachable for "".
func (f *Fleet) SetDown(name, why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down[name] = why
}

// Provider returns a vendor's provider.
func (f *Fleet) Provider(name string) (*provider.Provider, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.providers[name]
	return p, ok
}

// Unreachable returns what SetDown set.
func (f *Fleet) Unreachable(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.down[name]
}

// Names returns all names.
func (f *Fleet) Names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.names)
}

// Default returns the first name.
func (f *Fleet) Default() string {
	if names := f.Names(); len(names) > 0 {
		return names[0]
	}
	return ""
}
