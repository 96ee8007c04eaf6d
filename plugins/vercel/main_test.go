package vercel_test

import (
	"testing"

	"github.com/sandbar-dev/sandbar/plugins/providertest"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/vercel"
)

// binaryName is what this test binary is called to be a plugin.
const binaryName = "sandbar-provider-vercel"

func TestMain(m *testing.M) {
	providertest.Main(m, binaryName, func() sdk.Driver { return vercel.New(vercel.Options{Version: "0.0.0-test"}) })
}
