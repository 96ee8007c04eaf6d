package vercel_test

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/vercel"
)

// binaryName is what this test binary is linked as to be a plugin.
const binaryName = "sandbar-provider-vercel"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == binaryName {
		sdk.Serve(vercel.New(vercel.Options{Version: "0.0.0-test"}), sdk.Options{})
	}
	goleak.VerifyTestMain(m)
}
