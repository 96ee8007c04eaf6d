package providertest

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
)

// Main is a TestMain: the binary is a plugin where it is called name, and tests
// otherwise, which leave nothing behind.
func Main(m *testing.M, name string, driver func() sdk.Driver) {
	if filepath.Base(os.Args[0]) == name {
		sdk.Serve(driver(), sdk.Options{})
	}
	goleak.VerifyTestMain(m)
}

// Binary is this binary under the name of a plugin.
func Binary(t *testing.T, name string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }() // it was only read
	path := filepath.Join(t.TempDir(), name)
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}
