package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/alecthomas/kong"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/daemon"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/terminal"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/tracing"
)

const (
	// quickCall bounds calls that only ask or settle something small.
	quickCall = time.Minute
	// longCall bounds calls that may pull an image or move memory to disk.
	longCall = 15 * time.Minute
)

// app is one run of the command.
type app struct {
	grammar
	args                  []string
	stdin, stdout, stderr *os.File
	environ               []string
	signals               *signalRouter
	broker                Broker
	version               string
	model                 *kong.Application
	failCode, usageCode   int
	now                   func() time.Time

	client *client.Client
	// tracer is nil unless the environment names a collector.
	tracer *tracing.Tracer
	// place is set when the broker is our own, to be started when it is gone.
	place *daemon.Place
	// versionSaid keeps the note about another version to one line.
	versionSaid atomic.Bool
}

func newApp(p Process, signals *signalRouter) *app {
	return &app{
		version: cmp.Or(p.Version, buildVersion()),
		args:    p.Args, stdin: p.Stdin, stdout: p.Stdout, stderr: p.Stderr,
		environ: p.Environ, broker: p.Broker, signals: signals, now: time.Now,
	}
}

func (a *app) close() {
	if a.client != nil {
		a.client.Close()
	}
}

// lookupEnv finds a variable of the environment; the last entry wins.
func (a *app) lookupEnv(name string) (string, bool) {
	for i := len(a.environ) - 1; i >= 0; i-- {
		if k, v, ok := strings.Cut(a.environ[i], "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}

func (a *app) getenv(name string) string {
	v, _ := a.lookupEnv(name)
	return v
}

// connect returns a client of the broker, and starts our own broker if that is
// the one to use and it does not run.
func (a *app) connect(ctx context.Context) (*client.Client, error) {
	if a.client == nil {
		address, err := a.address()
		if err != nil {
			return nil, err
		}
		a.client = client.New(address, client.Options{
			APIKey: a.getenv("SANDBAR_API_KEY"), Tenant: a.ActingTenant, Version: a.version, Tracer: a.tracer,
		})
	}
	return a.client, a.ensure(ctx)
}

func (a *app) address() (client.Address, error) {
	if a.Server != "" {
		return client.ParseAddress(a.Server)
	}
	place, err := daemon.Locate(a.getenv)
	if err != nil {
		return client.Address{}, err
	}
	a.place = &place
	return place.Address(), nil
}

// ensure starts our own broker if it does not run.
func (a *app) ensure(ctx context.Context) error {
	if a.place == nil {
		return nil
	}
	defer a.progress("starting the broker")()
	started, err := daemon.Ensure(ctx, *a.place, a.brokerPath, []string{"serve", "--on-demand", fmt.Sprintf("--ready-fd=%d", daemon.ReadyFD)}, a.environ)
	if err != nil || started {
		return err
	}
	if card, ok := a.place.ReadCard(); ok && card.Version != a.version && !a.versionSaid.Swap(true) {
		a.note("the running broker is version %s and this is %s; `sandbar daemon stop` lets the next command start the new one", card.Version, a.version)
	}
	return nil
}

// restartPatience bounds how long steady waits for a provider that died, whose
// plugin the broker starts again.
const restartPatience = 20 * time.Second

// steady makes a call that is safe to repeat. It repeats it when the connection
// broke, for which a broker that was killed is started again, and when the
// provider's plugin died, which the broker restarts.
func steady[T any](ctx context.Context, a *app, limit time.Duration, call func(context.Context, *client.Client) (T, error)) (T, error) {
	const attempts = 3
	wait, giveUp := 50*time.Millisecond, a.now().Add(restartPatience)
	for broke := 0; ; {
		c, err := a.connect(ctx)
		if err != nil {
			var none T
			return none, err
		}
		cctx, cancel := context.WithTimeout(ctx, limit)
		out, err := call(cctx, c)
		cancel()
		switch {
		case err == nil || ctx.Err() != nil:
			return out, err
		case connectionLost(err):
			if broke++; broke == attempts {
				return out, err
			}
		case providerRestarts(err) && a.now().Before(giveUp):
			select {
			case <-ctx.Done():
				return out, err
			case <-time.After(wait):
				wait = min(2*wait, time.Second)
			}
		default:
			return out, err
		}
	}
}

// providerRestarts reports whether a call failed because a plugin died and is
// being started again.
func providerRestarts(err error) bool {
	return fault.Has(err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_CRASHED) ||
		fault.Has(err, providerv1.ErrorReason_ERROR_REASON_PLUGIN_RESTARTING)
}

// connectionLost reports whether an error is the transport's word, not the
// broker's.
func connectionLost(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && !f.Wire && f.Reason == providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE
}

// note says something aside on a terminal, and nothing in a pipe.
func (a *app) note(format string, args ...any) {
	if terminal.Is(a.stderr) && !a.JSON {
		fmt.Fprintf(a.stderr, "sandbar: "+format+"\n", args...)
	}
}

// warn says something that must not be missed, in a pipe too.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.stderr, "sandbar: "+format+"\n", args...)
}

// out prints one line of result.
func (a *app) out(format string, args ...any) error {
	_, err := fmt.Fprintf(a.stdout, format+"\n", args...)
	return err
}

// progressAfter is how long work may take before a terminal is told of it.
const progressAfter = 300 * time.Millisecond

// progress shows a line on a terminal if the work takes long; the returned
// function ends the work and takes the line away.
func (a *app) progress(what string) (done func()) {
	if !terminal.Is(a.stderr) || a.JSON {
		return func() {}
	}
	shown := make(chan struct{})
	t := time.AfterFunc(progressAfter, func() {
		fmt.Fprintf(a.stderr, "sandbar: %s…", what)
		close(shown)
	})
	return func() {
		if !t.Stop() {
			<-shown
			fmt.Fprint(a.stderr, "\r\x1b[K")
		}
	}
}
