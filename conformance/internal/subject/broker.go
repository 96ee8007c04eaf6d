package subject

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// BrokerOptions describe a provider behind a running broker.
type BrokerOptions struct {
	// Address is unix:///path, http://host:port or https://host:port.
	Address string
	// Key is the API key; it is never sent unencrypted to another machine.
	Key string
	// Provider is the provider's name at the broker.
	Provider string
	// TLS may be nil for the system's certificates.
	TLS *tls.Config
}

// brokered reaches a provider through a broker's public API. It speaks gRPC as
// any client in any language could, so that nothing of Sandbar's own client can
// hide what the broker says.
type brokered struct {
	opts  BrokerOptions
	names *names
}

// NewBroker returns a target behind a broker.
func NewBroker(opts BrokerOptions) (Target, error) {
	if opts.Provider == "" {
		return nil, fmt.Errorf("provider is %q: want the name of one that the broker has", opts.Provider)
	}
	b := &brokered{opts: opts, names: newNames()}
	conn, err := b.dial() // connects at the first call
	if err != nil {
		return nil, err
	}
	return b, conn.Close()
}

// Kind implements Target.
func (b *brokered) Kind() Kind { return Broker }

// Close implements Target.
func (b *brokered) Close(context.Context) error { return nil }

// dial makes a connection; it connects at the first call.
func (b *brokered) dial() (*grpc.ClientConn, error) {
	target, transport, err := b.endpoint()
	if err != nil {
		return nil, err
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(handshake.MaxMessageBytes), grpc.MaxCallSendMsgSize(handshake.MaxMessageBytes)),
	}
	if b.opts.Key != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(bearer(b.opts.Key)))
	}
	conn, err := grpc.NewClient(target, opts...)
	if err != nil {
		return nil, fmt.Errorf("broker address is %q: %w", b.opts.Address, err)
	}
	return conn, nil
}

// endpoint is the address as gRPC has it.
func (b *brokered) endpoint() (string, credentials.TransportCredentials, error) {
	if path, ok := strings.CutPrefix(b.opts.Address, "unix://"); ok && strings.HasPrefix(path, "/") {
		return "unix:" + path, insecure.NewCredentials(), nil
	}
	u, err := url.Parse(b.opts.Address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", nil, fmt.Errorf("broker address is %q: want unix:///path, http://host:port or https://host:port", b.opts.Address)
	}
	if u.Scheme == "https" {
		return withPort(u, "443"), credentials.NewTLS(b.opts.TLS), nil
	}
	ip := net.ParseIP(u.Hostname())
	if b.opts.Key != "" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", nil, fmt.Errorf("broker address is %q: want https, because an API key would cross the network in the clear", b.opts.Address)
	}
	return withPort(u, "80"), insecure.NewCredentials(), nil
}

func withPort(u *url.URL, port string) string {
	if u.Port() != "" {
		port = u.Port()
	}
	return "passthrough:///" + net.JoinHostPort(u.Hostname(), port)
}

// bearer is an API key.
type bearer string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (k bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(k)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. Where the
// key may go was decided with the address.
func (k bearer) RequireTransportSecurity() bool { return false }

// About implements Target.
func (b *brokered) About(ctx context.Context) (About, error) {
	conn, err := b.dial()
	if err != nil {
		return About{}, err
	}
	defer func() { _ = conn.Close() }() // nothing is in flight
	p, err := b.provider(ctx, conn)
	if err != nil {
		return About{}, err
	}
	var server brokerv1.GetServerResponse
	if err := conn.Invoke(ctx, adminService+"GetServer", &brokerv1.GetServerRequest{}, &server); err != nil {
		return About{}, fmt.Errorf("ask the broker for its version: %w", fault.From(err))
	}
	return About{
		Name: p.GetName(), Version: p.GetVersion(), SHA256: p.GetSha256(),
		Launcher: "behind a broker of version " + server.GetVersion(),
	}, nil
}

// Open implements Target. All instances are connections to the one broker, which
// has configured the provider long ago.
func (b *brokered) Open(ctx context.Context, _ OpenOptions) (*Instance, error) {
	conn, err := b.dial()
	if err != nil {
		return nil, err
	}
	adapter := &brokerConn{conn: conn, provider: b.opts.Provider, names: b.names, target: b}
	described, err := adapter.describe(ctx)
	if err != nil {
		_ = conn.Close() // the error says more
		return nil, err
	}
	return NewInstance(adapter, described, nil, "", func(context.Context) error { return conn.Close() }), nil
}

// provider asks the broker about the provider, which is started if it has not
// been.
func (b *brokered) provider(ctx context.Context, conn grpc.ClientConnInterface) (*brokerv1.Provider, error) {
	// A probe waits for the plugin's start; what it answers is the cases' matter.
	probe := &brokerv1.ProbeProviderRequest{Name: b.opts.Provider}
	if err := conn.Invoke(ctx, adminService+"ProbeProvider", probe, &brokerv1.ProbeProviderResponse{}); err != nil {
		return nil, fmt.Errorf("ask the broker at %s for provider %q: %w", b.opts.Address, b.opts.Provider, fault.From(err))
	}
	var all brokerv1.ListProvidersResponse
	if err := conn.Invoke(ctx, adminService+"ListProviders", &brokerv1.ListProvidersRequest{}, &all); err != nil {
		return nil, fmt.Errorf("ask the broker at %s for its providers: %w", b.opts.Address, fault.From(err))
	}
	for _, p := range all.GetProviders() {
		if p.GetName() == b.opts.Provider {
			return p, nil
		}
	}
	return nil, fmt.Errorf("the broker at %s has no provider %q", b.opts.Address, b.opts.Provider)
}

// The services of the public API, as the first part of a method's name.
const (
	adminService   = "/sandbar.broker.v1.AdminService/"
	sandboxService = "/sandbar.broker.v1.SandboxService/"
	contract       = "/sandbar.provider.v1.ProviderService/"
)

// describe is what the broker says of the provider: capabilities, and nothing of
// settings and limits, which are between broker and plugin.
func (c *brokerConn) describe(ctx context.Context) (*providerv1.DescribeResponse, error) {
	p, err := c.target.provider(ctx, c.conn)
	if err != nil {
		return nil, err
	}
	return &providerv1.DescribeResponse{Name: p.GetName(), Version: p.GetVersion(), Capabilities: p.GetCapabilities()}, nil
}
