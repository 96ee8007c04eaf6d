// The command vendor is the fake provider under the name that its file has, so
// that a broker can have several.
package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

type named struct {
	*fake.Driver
	name string
}

// Describe implements sdk.Driver.
func (n named) Describe(ctx context.Context) (*providerv1.DescribeResponse, error) {
	d, err := n.Driver.Describe(ctx)
	if err == nil {
		d.Name = n.name
	}
	return d, err
}

func main() {
	name := strings.TrimPrefix(filepath.Base(os.Args[0]), "sandbar-provider-")
	sdk.Serve(named{fake.New(fake.Options{Version: "1.0.0"}), name}, sdk.Options{})
}
