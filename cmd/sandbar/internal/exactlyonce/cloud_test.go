package exactlyonce_test

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// cloud is a vendor that is nobody's process: the fake, served to the plugins of all
// brokers. It lives while they are killed.
type cloud struct {
	t      *testing.T
	socket string
	client providerv1.ProviderServiceClient
}

func newCloud(t *testing.T, faults ...string) *cloud {
	t.Helper()
	driver := fake.New(fake.Options{})
	server, err := sdk.NewServer(driver, sdk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := &cloud{t: t, socket: filepath.Join(dir, "c")}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", c.socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(sdk.ServerOptions()...)
	server.Register(g)
	served := make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	conn, err := grpc.NewClient("unix:"+c.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close() // only says that it was closed before
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		server.Close()
		driver.Close()
	})
	c.client = providerv1.NewProviderServiceClient(conn)
	var list []any
	for _, f := range faults {
		list = append(list, f)
	}
	settings, err := structpb.NewStruct(map[string]any{"faults": list, "regions": []any{"fake-east"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.client.Configure(ctx, &providerv1.ConfigureRequest{Owner: "brk_cloud", Settings: settings}); err != nil {
		t.Fatal(err)
	}
	return c
}

// listing asks the cloud what a broker's owner has there.
func (c *cloud) listing(owner string) []string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	var out []string
	for token := ""; ; {
		resp, err := c.client.ListSandboxes(ctx, &providerv1.ListSandboxesRequest{Owner: owner, PageSize: 100, PageToken: token})
		if err != nil {
			c.t.Fatal(err)
		}
		for _, sb := range resp.GetSandboxes() {
			out = append(out, sb.GetIdentity().GetSandboxId())
		}
		if token = resp.GetNextPageToken(); token == "" {
			slices.Sort(out)
			return out
		}
	}
}
