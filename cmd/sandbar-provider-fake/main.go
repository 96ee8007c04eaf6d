// Command sandbar-provider-fake serves the in-memory reference provider.
package main

import (
	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
)

// version is set by the linker.
var version = "0.0.0-dev"

func main() {
	sdk.Serve(fake.New(fake.Options{Version: version}), sdk.Options{})
}
