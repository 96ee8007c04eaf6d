package cli_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sandbar-dev/sandbar/broker/server"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/apitest"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/cli"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/serving"
	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestMain lets scripts, and a daemon started on demand, run this binary as
// sandbar.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sandbar":                func() { os.Exit(sandbar()) },
		"sandbar-provider-fake":  func() { sdk.Serve(fake.New(fake.Options{Version: "1.2.3"}), sdk.Options{}) },
		"sandbar-provider-east":  func() { sdk.Serve(renamed{fake.New(fake.Options{}), "east"}, sdk.Options{}) },
		"sandbar-provider-west":  func() { sdk.Serve(renamed{fake.New(fake.Options{}), "west"}, sdk.Options{}) },
		"sandbar-provider-north": func() { sdk.Serve(renamed{fake.New(fake.Options{}), "north"}, sdk.Options{}) },
		"sandbar-provider-south": func() { sdk.Serve(renamed{fake.New(fake.Options{}), "south"}, sdk.Options{}) },
	})
}

// renamed is the fake under another name, so that a broker can have several.
type renamed struct {
	*fake.Driver
	name string
}

func (r renamed) Describe(ctx context.Context) (*providerv1.DescribeResponse, error) {
	d, err := r.Driver.Describe(ctx)
	d.Name = r.name
	return d, err
}

func sandbar() int {
	return cli.Main(cli.Process{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ(),
		Broker: serving.Broker{Run: serveFake},
	})
}

// serveFake is the in-memory broker behind the real serve command. A state
// folder called broken makes it fail, and one called real makes it the real one.
func serveFake(ctx context.Context, o server.Options) error {
	if filepath.Base(o.Config.StateDir) == "real" {
		return server.Run(ctx, o)
	}
	if filepath.Base(o.Config.StateDir) == "broken" {
		return os.ErrInvalid
	}
	b := apitest.New()
	b.Version = o.Version
	if err := os.Remove(o.Socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", o.Socket())
	if err != nil {
		return err
	}
	o.Log.InfoContext(ctx, "the fake broker serves")
	if err := o.Ready(); err != nil {
		return err
	}
	return b.Serve(ctx, l)
}

// broker starts an in-memory broker on a socket of its own.
func broker(tb testing.TB, change func(*apitest.Broker)) (b *apitest.Broker, address string) {
	tb.Helper()
	dir, err := os.MkdirTemp("", "sb")
	if err != nil {
		tb.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	b = apitest.New()
	if change != nil {
		change(b)
	}
	l := listen(tb, socket)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, l) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("serve: %v", err)
		}
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	return b, "unix://" + socket
}
