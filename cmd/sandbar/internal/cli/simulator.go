package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/broker/pluginhost"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/daemon"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/conformance/simulator/daytona"
	"github.com/sandbar-dev/sandbar/conformance/simulator/vercel"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

type simulatorCmd struct {
	Daytona simulatorDaytonaCmd `cmd:"" help:"Simulate the sandboxes of Daytona."`
	Vercel  simulatorVercelCmd  `cmd:"" help:"Simulate the sandboxes of Vercel."`
}

// Help is shown below the flags.
func (*simulatorCmd) Help() string {
	return "A simulator speaks a vendor's own API without an account. What it is asked to run is really run, in sandboxes of another provider. " +
		"With a command after --, it is there for as long as that runs, and so is a broker that the command finds, with the vendor's as its only provider."
}

// simulatorFlags are the same for every vendor.
type simulatorFlags struct {
	Listen string `default:"127.0.0.1:0" placeholder:"ADDRESS" help:"Where to serve; port 0 is a free one."`
	Guests string `default:"local" enum:"local,fake" help:"Provider whose sandboxes things run in: ${enum}."`
	Plugin string `type:"path" placeholder:"PATH" help:"Binary of the guests' provider, named sandbar-provider-NAME; default: the one beside this program."`

	Argv []string `arg:"" optional:"" passthrough:"partial" name:"command" help:"Program of this machine to run with the vendor, and its arguments, after --."`
}

// simulated is a vendor that is simulated.
type simulated struct {
	// vendor is the name of its provider, which speaks to it with settings and secrets.
	// Its address is the setting base_url and ends with path.
	vendor, path      string
	settings, secrets map[string]string
	open              func(providerv1.ProviderServiceClient, *slog.Logger) (simulator, error)
}

type simulatorVercelCmd struct {
	simulatorFlags
	Token   string `default:"simulated-token" placeholder:"TOKEN" help:"Token that is accepted. It is no secret."`
	Team    string `default:"team_simulated" placeholder:"ID" help:"Team that is accepted."`
	Project string `default:"prj_simulated" placeholder:"ID" help:"Project that is accepted."`
}

// Run serves until it is interrupted.
func (c *simulatorVercelCmd) Run(ctx context.Context, a *app) error {
	return a.simulate(ctx, c.simulatorFlags, &simulated{
		vendor: "vercel", settings: map[string]string{"team_id": c.Team, "project_id": c.Project}, secrets: map[string]string{"token": c.Token},
		open: func(guests providerv1.ProviderServiceClient, log *slog.Logger) (simulator, error) {
			return vercel.New(ctx, vercel.Options{Guests: guests, Token: c.Token, Team: c.Team, Project: c.Project, Log: log})
		},
	})
}

type simulatorDaytonaCmd struct {
	simulatorFlags
	Key     string `default:"simulated-key" placeholder:"KEY" help:"API key that is accepted. It is no secret."`
	Creates int    `default:"600" placeholder:"N" help:"Sandboxes that may be asked for in a minute, before requests are refused with 429."`
	Quota   int    `default:"0" placeholder:"N" help:"Sandboxes that there may be at once; 0: any number."`
}

// Run serves until it is interrupted.
func (c *simulatorDaytonaCmd) Run(ctx context.Context, a *app) error {
	return a.simulate(ctx, c.simulatorFlags, &simulated{
		vendor: "daytona", path: "/api", settings: map[string]string{}, secrets: map[string]string{"api_key": c.Key},
		open: func(guests providerv1.ProviderServiceClient, log *slog.Logger) (simulator, error) {
			return daytona.New(ctx, daytona.Options{Guests: guests, Key: c.Key, Creates: c.Creates, Quota: c.Quota, Log: log})
		},
	})
}

// simulator is one vendor's.
type simulator interface {
	http.Handler
	Close(context.Context) error
}

const (
	// simulatorGrace is how long requests may take to end.
	simulatorGrace = 2 * time.Second
	// simulatorEnd bounds removing guests and stopping their provider.
	simulatorEnd = time.Minute
	// headerTimeout ends a client that does not say what it wants.
	headerTimeout = 10 * time.Second
)

// simulate starts the guests' provider, as a broker would, and serves: until it is
// interrupted, or the command of flags has ended.
func (a *app) simulate(ctx context.Context, flags simulatorFlags, vendor *simulated) (err error) {
	var argv []string
	if len(flags.Argv) > 0 {
		if argv, err = command(flags.Argv); err != nil {
			return err
		}
	}
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	guests, stop, err := a.guests(ctx, flags, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bounded(ctx, simulatorEnd, stop)) }()
	sim, err := vendor.open(guests, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bounded(ctx, simulatorEnd, sim.Close)) }()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", flags.Listen)
	if err != nil {
		return badFlag("listen", flags.Listen, "cannot be listened on: "+err.Error())
	}
	server := &http.Server{Handler: sim, ReadHeaderTimeout: headerTimeout, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	vendor.settings["base_url"] = "http://" + listener.Addr().String() + vendor.path
	if len(argv) > 0 {
		err = a.withSimulated(ctx, vendor, argv)
	} else if err = a.announceSimulator(vendor); err == nil {
		select {
		case err := <-served:
			return fmt.Errorf("serve: %w", err)
		case <-ctx.Done():
		}
	}
	if bounded(ctx, simulatorGrace, server.Shutdown) != nil { // streams go on for as long as their commands do
		_ = server.Close() // the listener is closed already
	}
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve: %w", ended))
	}
	return err
}

// bounded gives f some time although ctx has ended.
func bounded(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	return f(ctx)
}

// announceSimulator says where it is and what its plugin is to be told.
func (a *app) announceSimulator(vendor *simulated) error {
	told := maps.Clone(vendor.settings)
	maps.Copy(told, vendor.secrets)
	if a.JSON {
		return render.Line(a.stdout, told)
	}
	var given []string
	for _, name := range slices.Sorted(maps.Keys(told)) {
		if name != "base_url" {
			given = append(given, fmt.Sprintf("%s %s", name, told[name]))
		}
	}
	_, err := fmt.Fprintf(a.stdout, "Simulated at %s, with %s. Interrupt it to end it; nothing is kept.\n", told["base_url"], strings.Join(given, ", "))
	return err
}

// guests starts the provider of the guests, without settings.
func (a *app) guests(ctx context.Context, flags simulatorFlags, log *slog.Logger) (_ providerv1.ProviderServiceClient, stop func(context.Context) error, err error) {
	config := pluginhost.Config{Name: flags.Guests, Settings: &structpb.Struct{}}
	if flags.Plugin != "" {
		config.Name, config.Binary, config.Trust = strings.TrimPrefix(filepath.Base(flags.Plugin), handshake.BinaryPrefix), flags.Plugin, pluginhost.TrustLocation
	}
	beside, err := daemon.OwnFolder()
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "sbsim") // short: sockets are in it
	if err != nil {
		return nil, nil, fmt.Errorf("make a folder for the guests: %w", err)
	}
	remove := func() error { return os.RemoveAll(dir) }
	host, err := pluginhost.New(pluginhost.Options{
		Plugins:    []pluginhost.Config{config},
		Dirs:       []pluginhost.Dir{{Path: beside, Trust: pluginhost.TrustLocation}},
		RuntimeDir: filepath.Join(dir, "r"), StateDir: filepath.Join(dir, "s"), Owner: "simulator", Logger: log,
	})
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	stop = func(ctx context.Context) error { return errors.Join(host.Close(ctx), remove()) }
	if err := host.Start(ctx); err != nil {
		return nil, nil, errors.Join(err, bounded(ctx, simulatorEnd, stop))
	}
	plugin, err := host.Plugin(config.Name)
	if err == nil {
		_, err = plugin.Descriptor(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("start the guests' provider: %w", err), bounded(ctx, simulatorEnd, stop))
	}
	return providerv1.NewProviderServiceClient(plugin), stop, nil
}
