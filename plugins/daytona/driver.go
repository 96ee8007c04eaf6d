package daytona

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/daytona/api"
	"github.com/sandbar-dev/sandbar/plugins/internal/runner"
	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// API is what the driver needs of the vendor. *api.Client is one; an SDK of the
// vendor's could be another.
type API interface {
	CreateSandbox(context.Context, api.CreateRequest) (*api.Sandbox, error)
	Sandbox(ctx context.Context, idOrName string) (*api.Sandbox, error)
	Sandboxes(context.Context, api.ListQuery) (*api.Page, error)
	DeleteSandbox(ctx context.Context, id string) error
	Preview(ctx context.Context, id string, port uint32) (*api.Preview, error)

	CreateSession(ctx context.Context, at api.Place, session string) error
	DeleteSession(ctx context.Context, at api.Place, session string) error
	Run(ctx context.Context, at api.Place, session, line string) (string, error)
	Command(ctx context.Context, at api.Place, session, command string) (*api.Command, error)
	Logs(ctx context.Context, at api.Place, session, command string) (*api.Logs, error)
	Execute(ctx context.Context, at api.Place, line string, timeout time.Duration) (*api.Result, error)
	Download(ctx context.Context, at api.Place, name string) (io.ReadCloser, error)
	Upload(ctx context.Context, at api.Place, name string, content []byte) error
	Close()
}

const (
	effectNone    = providerv1.Effect_EFFECT_NONE
	effectUnknown = providerv1.Effect_EFFECT_UNKNOWN
)

// Options of a driver.
type Options struct {
	// Version of the plugin; default 0.0.0-dev.
	Version string
	// Log receives what no caller can be told; default: discard.
	Log *slog.Logger
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Driver is an sdk.Driver. Close it.
type Driver struct {
	fileCalls
	opts Options
	keys upstream.Flights
	// known remembers where sandboxes are that this process has seen.
	known    upstream.Places[handle]
	commands *runner.Pool

	mu   sync.RWMutex
	conf *configuration
}

// configuration is what Configure made.
type configuration struct {
	settings settings
	vendor   API
	ledger   *upstream.Ledger
}

// New returns a driver that is to be configured.
func New(opts Options) *Driver {
	if opts.Version == "" {
		opts.Version = "0.0.0-dev"
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	d := &Driver{opts: opts, commands: runner.NewPool(opts.Log)}
	d.fileCalls = d.findFiles
	return d
}

// Close ends what the driver follows. Sandboxes and commands go on at the vendor.
func (d *Driver) Close() {
	d.commands.Close()
	if c := d.config(); c != nil {
		c.vendor.Close()
	}
}

func (d *Driver) config() *configuration {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.conf
}

// capabilities are those that the vendor has and that this plugin keeps to.
var capabilities = []string{
	"archive.download", "archive.upload", "egress.deny", "exec.signal", "exec.stdin", "fs.read", "fs.write", "fs.write.partial", "image.template",
	"placement.region", "port.tunnel", "port.url",
}

// Describe implements sdk.Driver.
func (d *Driver) Describe(context.Context) (*providerv1.DescribeResponse, error) {
	return &providerv1.DescribeResponse{
		Name: "daytona", Vendor: "Daytona", Version: d.opts.Version, Capabilities: sdk.Supported(capabilities...),
		Settings: declaredSettings(), EgressHosts: []string{"app.daytona.io", "proxy.app.daytona.io"},
	}, nil
}

// Configure implements sdk.Driver. It asks the vendor nothing: that is for Probe.
func (d *Driver) Configure(_ context.Context, req *providerv1.ConfigureRequest) error {
	s, err := readSettings(req)
	if err != nil {
		return err
	}
	l, err := upstream.OpenLedger(req.GetStateDir(), s.settleAfter, d.opts.Now)
	if err != nil {
		return fault.Field("state_dir", req.GetStateDir(), "want a folder the plugin can read and write: "+err.Error())
	}
	vendor := api.New(api.Options{BaseURL: s.baseURL, Key: s.key, UserAgent: "sandbar-provider-daytona/" + d.opts.Version})
	d.mu.Lock()
	before := d.conf
	d.conf = &configuration{settings: s, vendor: vendor, ledger: l}
	d.mu.Unlock()
	d.known.ForgetAll() // it may be another organization
	if before != nil {
		before.vendor.Close() // what is under way ends by itself
	}
	return nil
}

// Probe implements sdk.Driver: it lists one sandbox. What else the key may do, the
// vendor does not tell without doing it.
func (d *Driver) Probe(ctx context.Context) (*providerv1.ProbeResponse, error) {
	c := d.config()
	_, err := c.vendor.Sandboxes(ctx, api.ListQuery{Limit: 1})
	check := &providerv1.ProbeCheck{Name: "vendor", Status: providerv1.ProbeStatus_PROBE_STATUS_OK, Detail: "the vendor lists the organization's sandboxes"}
	if err == nil {
		return &providerv1.ProbeResponse{Ready: true, Checks: []*providerv1.ProbeCheck{check}}, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	check.Status, check.Detail = providerv1.ProbeStatus_PROBE_STATUS_FAILED, err.Error()
	var refused *upstream.Error
	switch {
	case !errors.As(err, &refused):
		check.Remedy = "see that " + c.settings.baseURL + " can be reached from this machine"
	case refused.Status == http.StatusUnauthorized:
		check.Remedy = "give a key that is valid: make one in the dashboard of the vendor, and configure it as secret api_key"
	case refused.Status == http.StatusForbidden:
		check.Remedy = "give the key the rights to write and to delete sandboxes, and see that the organization is not suspended"
	case refused.Status == http.StatusNotFound:
		check.Remedy = "see that setting base_url is where the API is, such as " + api.DefaultBaseURL
	default:
		check.Remedy = "wait, and see the vendor's status page"
	}
	return &providerv1.ProbeResponse{Checks: []*providerv1.ProbeCheck{check}}, nil
}
