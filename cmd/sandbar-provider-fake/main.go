// Command sandbar-provider-fake serves the in-memory reference provider.
package main

import (
	"os"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/tracing"
)

// version is set by the linker.
var version = "0.0.0-dev"

func main() {
	sdk.Serve(fake.New(fake.Options{Version: version}), sdk.Options{
		Tracing: tracing.ForPlugin(os.LookupEnv, "sandbar-provider-fake", version),
	})
}
