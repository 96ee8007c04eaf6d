package local

import (
	"sync"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/plugins/local/shim"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// connections are open connections to shims by sandbox id. A connection is only
// a cache: whether a shim lives is never concluded from it.
type connections struct {
	mu   sync.Mutex
	open map[string]*grpc.ClientConn
}

// has says whether there is a connection to the shim of a sandbox.
func (c *connections) has(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open[id] != nil
}

// client returns a client of the shim in dir.
func (c *connections) client(id, dir string) (providerv1.ProviderServiceClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.open[id]; conn != nil {
		return providerv1.NewProviderServiceClient(conn), nil
	}
	conn, err := shim.NewConn(dir)
	if err != nil {
		return nil, err
	}
	if c.open == nil {
		c.open = map[string]*grpc.ClientConn{}
	}
	c.open[id] = conn
	return providerv1.NewProviderServiceClient(conn), nil
}

// drop closes the connection of a shim that ends.
func (c *connections) drop(id string) {
	c.mu.Lock()
	conn := c.open[id]
	delete(c.open, id)
	c.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
	}
}

func (c *connections) closeAll() {
	c.mu.Lock()
	open := c.open
	c.open = nil
	c.mu.Unlock()
	for _, conn := range open {
		_ = conn.Close()
	}
}
