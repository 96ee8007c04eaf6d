// Command sandbar-provider-daytona is the provider that runs sandboxes at Daytona.
package main

import (
	"log/slog"
	"os"

	"github.com/sandbar-dev/sandbar/plugins/daytona"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/tracing"
)

// version is set by the build.
var version = "0.0.0-dev"

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	sdk.Serve(daytona.New(daytona.Options{Version: version, Log: log}), sdk.Options{
		Logger: log, Tracing: tracing.ForPlugin(os.LookupEnv, "sandbar-provider-daytona", version),
	})
}
