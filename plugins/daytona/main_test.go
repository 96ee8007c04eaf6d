package daytona_test

import (
	"testing"

	"github.com/sandbar-dev/sandbar/plugins/daytona"
	"github.com/sandbar-dev/sandbar/plugins/providertest"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
)

// binaryName is what this test binary is called to be a plugin.
const binaryName = "sandbar-provider-daytona"

func TestMain(m *testing.M) {
	providertest.Main(m, binaryName, func() sdk.Driver { return daytona.New(daytona.Options{Version: "0.0.0-test"}) })
}
