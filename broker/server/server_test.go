package server_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/broker/api/apiclient"
	"github.com/sandbar-dev/sandbar/broker/authn"
	"github.com/sandbar-dev/sandbar/broker/config"
	"github.com/sandbar-dev/sandbar/broker/internal/testvendor"
	"github.com/sandbar-dev/sandbar/broker/server"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fleet is a server.Fleet of one vendor in memory.
type fleet struct {
	testvendor.Fleet
	stop func()
}

func newFleet(t *testing.T, dir string) *fleet {
	t.Helper()
	f := &fleet{}
	socket := filepath.Join(dir, "v.sock")
	v := testvendor.New()
	v.Declare(append(slices.Clone(testvendor.Capabilities), "mount.volume")...)
	stop, err := testvendor.Serve(v, socket)
	check(t, err)
	f.stop = stop
	check(t, f.Dial("test", socket))
	return f
}

func (f *fleet) Start(_ context.Context, _ string, ready func(string)) error {
	go ready("test")
	return nil
}

func (f *fleet) Describe(name string) *brokerv1.Provider {
	return &brokerv1.Provider{Name: name, State: brokerv1.PluginState_PLUGIN_STATE_READY, IsDefault: true}
}

func (f *fleet) Settle(context.Context, string) {}

func (f *fleet) Restart(context.Context, string) error { return nil }

func (f *fleet) Close(context.Context) error {
	f.Fleet.Close()
	f.stop()
	return nil
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is a folder for servers.
func site(t *testing.T) server.Options {
	t.Helper()
	dir, err := os.MkdirTemp("", "srv") // short, for the sockets
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	return server.Options{StateDir: filepath.Join(dir, "state"), RuntimeDir: filepath.Join(dir, "run"), OnDemand: true, Version: "v1"}
}

// run runs a server and returns what waits for its end.
func run(t *testing.T, opts server.Options) (end func() error) {
	t.Helper()
	f := newFleet(t, t.TempDir())
	t.Cleanup(func() { check(t, f.Close(context.Background())) }) // a server that steps back never takes it over
	opts.Fleet = f
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { done <- server.Run(ctx, opts) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return func() error { return <-done }
}

// client returns a client of a server that answers.
func client(t *testing.T, opts server.Options) *apiclient.Client {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("unix", opts.Socket()); err == nil {
			check(t, c.Close())
			break
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("no server answers")
		}
	}
	c := apiclient.Unix(opts.Socket())
	t.Cleanup(c.Close)
	return c
}

func TestServeAndStop(t *testing.T) {
	opts := site(t)
	opts.IdleExit = time.Hour
	end := run(t, opts)
	c := client(t, opts)
	info, err := c.Admin.GetServer(t.Context(), connect.NewRequest(&brokerv1.GetServerRequest{}))
	check(t, err)
	if m := info.Msg; m.GetVersion() != "v1" || int(m.GetPid()) != os.Getpid() || !m.GetOnDemand() || m.GetOwner() == "" || m.GetIdleExit().AsDuration() != time.Hour {
		t.Errorf("server says %v", m)
	}
	if st, err := os.Stat(opts.Socket()); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket has mode %v (%v), want 0600", st.Mode(), err)
	}
	_, err = c.CreateSandbox(t.Context(), connect.NewRequest(&brokerv1.CreateSandboxRequest{}))
	check(t, err)
	_, err = c.Admin.StopServer(t.Context(), connect.NewRequest(&brokerv1.StopServerRequest{}))
	check(t, err)
	check(t, end())
	if _, err := os.Stat(opts.Socket()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestSecondServerStepsBack(t *testing.T) {
	opts := site(t)
	run(t, opts)
	client(t, opts)
	if err := run(t, opts)(); !errors.Is(err, server.ErrRunning) {
		t.Errorf("second server ended with %v", err)
	}
	// Two at once: one serves, one steps back.
	both := site(t)
	ends := make(chan error, 2)
	for range 2 {
		end := run(t, both)
		go func() { ends <- end() }()
	}
	if err := <-ends; !errors.Is(err, server.ErrRunning) {
		t.Errorf("the loser ended with %v", err)
	}
	_, err := client(t, both).Admin.StopServer(t.Context(), connect.NewRequest(&brokerv1.StopServerRequest{}))
	check(t, err)
	check(t, <-ends)
}

func TestStaleSocketIsReplaced(t *testing.T) {
	opts := site(t)
	check(t, os.MkdirAll(opts.RuntimeDir, 0o700))
	l, err := net.Listen("unix", opts.Socket())
	check(t, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	check(t, l.Close())
	run(t, opts)
	_, err = client(t, opts).Admin.ListProviders(t.Context(), connect.NewRequest(&brokerv1.ListProvidersRequest{}))
	check(t, err)
}

func TestIdleExit(t *testing.T) {
	opts := site(t)
	opts.IdleExit = 50 * time.Millisecond
	check(t, run(t, opts)())
}

func TestServerThatWasAskedForIsNotStopped(t *testing.T) {
	opts := site(t)
	opts.OnDemand = false
	run(t, opts)
	_, err := client(t, opts).Admin.StopServer(t.Context(), connect.NewRequest(&brokerv1.StopServerRequest{}))
	if !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED) {
		t.Errorf("stop: %v", err)
	}
}

func TestTCPNeedsAKey(t *testing.T) {
	_, key, _ := authn.NewKey()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	address := l.Addr().String()
	check(t, l.Close())
	opts := site(t)
	opts.Config = config.Default()
	opts.Config.Listen.TCP = address
	opts.Config.APIKeys = []config.APIKey{{Name: "t", SHA256: authn.HashKey(key)}}
	run(t, opts)
	client(t, opts) // it answers
	for k, ok := range map[string]bool{key: true, "": false} {
		c, err := apiclient.TCP("http://"+address, k, nil)
		check(t, err)
		_, err = c.ListSandboxes(t.Context(), connect.NewRequest(&brokerv1.ListSandboxesRequest{}))
		if ok && err != nil || !ok && !fault.Has(err, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID) {
			t.Errorf("with key %q: %v", k, err)
		}
		c.Close()
	}
	if _, err := apiclient.TCP("http://example.com:1", key, nil); err == nil {
		t.Error("a key may cross the network in the clear")
	}
}
