package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sandbar-dev/sandbar/broker/pluginhost"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

type pluginCmd struct {
	Config string `short:"c" help:"Configuration file of the broker." type:"path" env:"SANDBAR_CONFIG" placeholder:"FILE"`

	Ls      pluginLsCmd      `cmd:"" aliases:"list" help:"List the plugins that were found, and how far each is trusted."`
	Inspect pluginInspectCmd `cmd:"" help:"Show what a plugin says about itself."`
	Verify  pluginVerifyCmd  `cmd:"" help:"Compare plugins with the lock file."`
	Lock    pluginLockCmd    `cmd:"" help:"Accept plugins as they are now."`
}

// Help is shown below the flags.
func (*pluginCmd) Help() string {
	return "Looks where a broker with the same configuration looks. Plugins beside the sandbar executable need no lock: whoever can " +
		"write there can replace sandbar itself."
}

// findPlugins returns the places that a broker with the same configuration uses.
func (a *app) findPlugins() (pluginhost.Options, error) {
	b, err := a.withBroker()
	if err != nil {
		return pluginhost.Options{}, err
	}
	return b.Plugins(a.brokerCall(a.Plugin.Config))
}

// plugins lists what was found, or the named of it.
func (a *app) plugins(names []string) (lockFile string, found []pluginhost.Binary, err error) {
	places, err := a.findPlugins()
	if err != nil {
		return "", nil, err
	}
	all, err := pluginhost.Discover(places.Dirs, places.Plugins...)
	if err != nil || len(names) == 0 {
		return places.LockFile, all, err
	}
	for _, name := range names {
		i := slices.IndexFunc(all, func(b pluginhost.Binary) bool { return b.Name == name })
		if i < 0 {
			return "", nil, noPlugin(name, places.Dirs)
		}
		found = append(found, all[i])
	}
	return places.LockFile, found, nil
}

func noPlugin(name string, searched []pluginhost.Dir) error {
	var dirs []string
	for _, d := range searched {
		dirs = append(dirs, d.Path)
	}
	return fmt.Errorf("there is no plugin %q: no executable %s%s in %s", name, handshake.BinaryPrefix, name, strings.Join(dirs, " or "))
}

// pluginReport is the form of a plugin under --json.
type pluginReport struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	Trust  string `json:"trust"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	// Refused says why it would not be run; empty if it would.
	Refused string `json:"refused"`
}

var trustNames = map[pluginhost.Trust]string{
	pluginhost.TrustLock: "lock", pluginhost.TrustFirstUse: "first-use", pluginhost.TrustLocation: "location",
}

func (a *app) printVerdicts(verdicts []pluginhost.Verdict) error {
	reports := make([]pluginReport, 0, len(verdicts))
	rows := make([][]string, 0, len(verdicts))
	for _, v := range verdicts {
		r := pluginReport{
			Name: v.Binary.Name, Path: v.Binary.Path, Trust: trustNames[v.Binary.Trust], SHA256: v.Pin.SHA256, Size: v.Pin.Size,
		}
		runs := "runs"
		if v.Err != nil {
			r.Refused, runs = v.Err.Error(), "refused"
		}
		reports = append(reports, r)
		rows = append(rows, []string{r.Name, r.Trust, runs, r.SHA256[:min(12, len(r.SHA256))], r.Path})
	}
	if a.JSON {
		return render.Value(a.stdout, reports)
	}
	return render.Table(a.stdout, []string{"NAME", "TRUST", "STATUS", "SHA256", "PATH"}, rows)
}

type pluginLsCmd struct{}

// Run lists what was found. It runs none of it.
func (c *pluginLsCmd) Run(a *app) error {
	lockFile, binaries, err := a.plugins(nil)
	if err != nil {
		return err
	}
	verdicts, err := pluginhost.Verify(lockFile, binaries)
	if err != nil {
		return err
	}
	return a.printVerdicts(verdicts)
}

type pluginVerifyCmd struct {
	Name []string `arg:"" optional:"" help:"Plugins; default: all that were found."`
}

// Run fails if a plugin would not be run as it is now.
func (c *pluginVerifyCmd) Run(a *app) error {
	lockFile, binaries, err := a.plugins(c.Name)
	if err != nil {
		return err
	}
	verdicts, err := pluginhost.Verify(lockFile, binaries)
	if err != nil {
		return err
	}
	if err := a.printVerdicts(verdicts); err != nil {
		return err
	}
	var errs []error
	for _, v := range verdicts {
		errs = append(errs, v.Err)
	}
	return errors.Join(errs...)
}

type pluginLockCmd struct {
	Name []string `arg:"" help:"Plugins to accept."`
}

// Run records the digests of plugins as they are now.
func (c *pluginLockCmd) Run(ctx context.Context, a *app) error {
	lockFile, binaries, err := a.plugins(c.Name)
	if err != nil {
		return err
	}
	locked, err := pluginhost.LockIn(ctx, lockFile, binaries)
	if err != nil {
		return err
	}
	for _, i := range locked {
		if err := a.out("%s %s sha256:%s", i.Binary.Name, i.Pin.Version, i.Pin.SHA256); err != nil {
			return err
		}
	}
	return nil
}

type pluginInspectCmd struct {
	Name string `arg:"" help:"Plugin."`
}

// Run shows the manifest that the binary prints.
func (c *pluginInspectCmd) Run(ctx context.Context, a *app) error {
	_, binaries, err := a.plugins([]string{c.Name})
	if err != nil {
		return err
	}
	i, err := pluginhost.Inspect(ctx, binaries[0])
	if err != nil {
		return err
	}
	if a.JSON {
		raw, err := i.Manifest.Encode()
		if err != nil {
			return err
		}
		_, err = a.stdout.Write(raw)
		return err
	}
	d := i.Manifest.Describe
	rows := [][]string{
		{"vendor", d.GetVendor()},
		{"version", d.GetVersion()},
		{"path", i.Binary.Path},
		{"sha256", i.Pin.SHA256},
		{"protocol", fmt.Sprintf("major %v, minor %d", i.Manifest.ProtocolMajors, d.GetProtocolMinor())},
		{"reaches", strings.Join(d.GetEgressHosts(), ", ")},
	}
	for _, s := range d.GetSettings() {
		kind := render.Enum(s.GetType(), "SETTING_TYPE_")
		if s.GetSecret() {
			kind += ", secret"
		}
		if s.GetRequired() {
			kind += ", required"
		}
		rows = append(rows, []string{"setting " + s.GetName(), kind + ": " + s.GetDescription()})
	}
	for _, capability := range d.GetCapabilities() {
		rows = append(rows, []string{"can " + capability.GetId(), render.Enum(capability.GetState(), "CAPABILITY_STATE_")})
	}
	return render.Table(a.stdout, []string{"name", d.GetName()}, rows)
}
