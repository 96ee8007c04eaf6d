package daytona_test

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/plugins/daytona"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
)

// binaryName is what this test binary is linked as to be a plugin.
const binaryName = "sandbar-provider-daytona"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == binaryName {
		sdk.Serve(daytona.New(daytona.Options{Version: "0.0.0-test"}), sdk.Options{})
	}
	goleak.VerifyTestMain(m)
}
