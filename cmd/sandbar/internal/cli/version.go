package cli

import (
	"runtime"
	"runtime/debug"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
)

// buildVersion is the module version the binary was built as: a tag, a
// pseudo-version with the commit, or (devel).
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

type versionCmd struct{}

// Run prints the version. It talks to nobody.
func (*versionCmd) Run(a *app) error {
	if a.JSON {
		return render.Value(a.stdout, map[string]string{
			"version": a.version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
		})
	}
	return a.out("sandbar %s %s/%s %s", a.version, runtime.GOOS, runtime.GOARCH, runtime.Version())
}
