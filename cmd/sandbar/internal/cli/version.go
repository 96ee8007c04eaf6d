package cli

import (
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
)

// version is the module version the binary was built as: a tag, a
// pseudo-version with the commit, or (devel).
var version = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
})

type versionCmd struct{}

// Run prints the version. It talks to nobody.
func (*versionCmd) Run(a *app) error {
	if a.JSON {
		return render.Value(a.stdout, map[string]string{
			"version": version(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
		})
	}
	return a.out("sandbar %s %s/%s %s", version(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}
