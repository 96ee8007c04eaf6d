package fake

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Options of a Driver. Zero values mean the defaults.
type Options struct {
	// Version is what Describe says; default "0.0.0-dev".
	Version string
	// Logger receives what no caller can be told; default: discard.
	Logger *slog.Logger
	// Now is the vendor's clock; default time.Now.
	Now func() time.Time
}

// Driver is the fake provider. The caller calls Close when it is not served any
// more.
type Driver struct {
	opts Options

	mu       sync.RWMutex
	cloud    *cloud
	dir      string
	settings settings
	faults   *faults

	// late are calls that happen after their answer was lost.
	late    sync.WaitGroup
	closed  chan struct{}
	closing sync.Once
}

// settings are the checked values of Configure.
type settings struct {
	latency time.Duration
	// lag is how far a listing is behind.
	lag      time.Duration
	regions  []string
	maxBoxes int
	// disable are capabilities that are switched off, with all that need them.
	disable []string
}

var defaultRegions = []string{"fake-east", "fake-west"}

// New returns a driver with an empty vendor.
func New(opts Options) *Driver {
	if opts.Version == "" {
		opts.Version = "0.0.0-dev"
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	d := &Driver{opts: opts, settings: settings{regions: defaultRegions}, faults: &faults{}, closed: make(chan struct{})}
	d.cloud, _ = newCloud("", opts.Logger, opts.Now) // without a folder there is nothing to fail
	return d
}

// Close ends all programs. What is stored stays.
func (d *Driver) Close() {
	d.closing.Do(func() { close(d.closed) })
	d.late.Wait()
	d.vendor().close()
}

func (d *Driver) vendor() *cloud {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.cloud
}

// capabilities are those that an in-memory vendor can truly have.
var capabilities = []string{
	"archive.download", "archive.upload",
	"compute.cpu", "compute.disk", "compute.memory", "compute.pids",
	"egress.capture", "egress.deny", "egress.update",
	"exec.list", "exec.pty", "exec.signal", "exec.stdin", "exec.user",
	"fork", "fork.disk",
	"fs.diff", "fs.owner", "fs.read", "fs.write", "fs.write.partial",
	"image.oci", "image.template",
	"lifetime.extend", "lifetime.native",
	"mount.overlay", "mount.volume",
	"pause", "pause.disk", "pause.memory", "pause.processes",
	"placement.region",
	"port.declare", "port.list", "port.tunnel",
	"sandbox.hostname",
	"snapshot", "snapshot.disk",
	"usage", "volume", "watch",
}

// Describe implements sdk.Driver.
func (d *Driver) Describe(context.Context) (*providerv1.DescribeResponse, error) {
	return &providerv1.DescribeResponse{
		Name: "fake", Vendor: "Sandbar", Version: d.opts.Version,
		Capabilities: declared(d.config().disable),
		Settings: []*providerv1.Setting{
			{Name: "latency", Type: providerv1.SettingType_SETTING_TYPE_DURATION, Description: "How long every call takes at least; default 0s."},
			{Name: "listing_lag", Type: providerv1.SettingType_SETTING_TYPE_DURATION, Description: "How long a listing does not show a new sandbox and still shows a deleted one; default 0s."},
			{Name: "faults", Type: providerv1.SettingType_SETTING_TYPE_STRING_LIST, Description: "Faults to inject, such as CreateSandbox:lost_answer:2; default none."},
			{Name: "regions", Type: providerv1.SettingType_SETTING_TYPE_STRING_LIST, Description: "Regions a sandbox may ask for; default fake-east and fake-west."},
			{Name: "max_sandboxes", Type: providerv1.SettingType_SETTING_TYPE_INTEGER, Description: "Sandboxes alive at once, above which QUOTA_EXCEEDED is answered; default 0, no limit."},
			{Name: "disable", Type: providerv1.SettingType_SETTING_TYPE_STRING_LIST, Description: "Capabilities to switch off, with those that need them; default none."},
			{Name: "api_token", Type: providerv1.SettingType_SETTING_TYPE_STRING, Secret: true, Description: "Checked by Configure if given: \"invalid\" is refused; default none."},
		},
	}, nil
}

// Configure implements sdk.Driver. Another state_dir is another vendor; the same
// one keeps it.
func (d *Driver) Configure(_ context.Context, req *providerv1.ConfigureRequest) error {
	fields := req.GetSettings().GetFields()
	next := settings{regions: defaultRegions, maxBoxes: int(fields["max_sandboxes"].GetNumberValue())}
	for name, to := range map[string]*time.Duration{"latency": &next.latency, "listing_lag": &next.lag} {
		text := fields[name].GetStringValue()
		if text == "" {
			continue
		}
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return fault.Field("settings."+name, text, "want a duration of 0s or more")
		}
		*to = d
	}
	if list := texts(fields["regions"]); len(list) > 0 {
		next.regions = list
	}
	next.disable = texts(fields["disable"])
	for i, id := range next.disable {
		if !slices.Contains(capabilities, id) {
			return fault.Field("settings.disable["+strconv.Itoa(i)+"]", id, "want a capability that the fake has")
		}
	}
	injected, err := parseFaults(texts(fields["faults"]))
	if err != nil {
		return err
	}
	if string(req.GetSecrets()["api_token"]) == "invalid" {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID, "the fake vendor refused api_token")
	}
	if next.maxBoxes < 0 {
		return fault.Field("settings.max_sandboxes", strconv.Itoa(next.maxBoxes), "want 0 or more")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if dir := req.GetStateDir(); dir != d.dir {
		c, err := newCloud(dir, d.opts.Logger, d.opts.Now)
		if err != nil {
			return fault.Field("state_dir", dir, "want a folder the plugin can read and write: "+err.Error())
		}
		d.cloud.close()
		d.cloud, d.dir = c, dir
	}
	if d.dir != "" {
		if err := injected.resume(d.cloud.store); err != nil {
			return fault.Field("state_dir", d.dir, "want a folder the plugin can read and write: "+err.Error())
		}
	}
	d.cloud.setLag(next.lag)
	d.settings, d.faults = next, injected
	return nil
}

func texts(v *structpb.Value) []string {
	var out []string
	for _, e := range v.GetListValue().GetValues() {
		out = append(out, e.GetStringValue())
	}
	return out
}

// Probe implements sdk.Driver.
func (d *Driver) Probe(ctx context.Context) (*providerv1.ProbeResponse, error) {
	return during(ctx, d, "Probe", func(*cloud) (*providerv1.ProbeResponse, error) {
		return &providerv1.ProbeResponse{Ready: true, Checks: []*providerv1.ProbeCheck{
			{Name: "memory", Status: providerv1.ProbeStatus_PROBE_STATUS_OK, Detail: "sandboxes live in the plugin's memory"},
		}}, nil
	})
}

// during runs one call with the configured latency and faults around it.
func during[T any](ctx context.Context, d *Driver, method string, f func(*cloud) (*T, error)) (*T, error) {
	d.mu.RLock()
	c, latency, injected := d.cloud, d.settings.latency, d.faults
	d.mu.RUnlock()
	if err := pauseFor(ctx, latency); err != nil {
		return nil, err
	}
	fired, err := injected.fire(method)
	if err != nil {
		return nil, err
	}
	if err := fired.before(ctx); err != nil {
		return nil, err
	}
	if fired == "late" {
		d.later(lateness, func() { _, _ = f(c) }) // whatever comes of it, its answer is lost
		return nil, fired.after(ctx)
	}
	out, err := f(c)
	if err == nil {
		err = fired.after(ctx)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// later does something after a while, unless the driver is closed before.
func (d *Driver) later(wait time.Duration, do func()) {
	d.late.Go(func() {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
			do()
		case <-d.closed:
		}
	})
}

// pauseFor waits, or returns ctx's error.
func pauseFor(ctx context.Context, wait time.Duration) error {
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Driver) config() settings {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.settings
}

func (s settings) checkRegion(region string) error {
	if region == "" || slices.Contains(s.regions, region) {
		return nil
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE,
		"region %q does not exist: want one of %s", region, strings.Join(s.regions, ", ")).
		With("region", region).With(fault.MetaField, "spec.region")
}
