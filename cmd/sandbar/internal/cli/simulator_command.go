package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/daemon"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

const (
	// orphanExit is how long the broker of a command goes on unused after this process
	// was killed.
	orphanExit = time.Minute
	// commandGrace is how long a command may take to end when this process is asked to.
	commandGrace = 10 * time.Second
)

// withSimulated runs a command that finds a broker of its own, whose one provider is
// the simulated vendor's. The broker ends with the command, whose exit code is ours.
func (a *app) withSimulated(ctx context.Context, vendor *simulated, argv []string) (err error) {
	dir, err := os.MkdirTemp("", "sbtry") // short: sockets are in it
	if err != nil {
		return fmt.Errorf("make a folder for the broker: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	config, err := vendor.configure(dir)
	if err != nil {
		return err
	}
	place := daemon.Place{Dir: filepath.Join(dir, "sandbar"), StateDir: filepath.Join(dir, "state", "sandbar")}
	if err := client.CheckSocketPath(place.Socket()); err != nil {
		return err
	}
	stop := a.progress("starting a broker")
	_, err = daemon.Ensure(ctx, place, a.brokerPath,
		[]string{"serve", "--on-demand", "--idle-exit", orphanExit.String(), "--config", config, fmt.Sprintf("--ready-fd=%d", daemon.ReadyFD)},
		a.environWith("XDG_RUNTIME_DIR="+dir, "XDG_STATE_HOME="+filepath.Join(dir, "state"), "SANDBAR_CONFIG="))
	stop()
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, bounded(ctx, simulatorEnd, func(ctx context.Context) error { return a.stopServer(ctx, place) }))
	}()
	return a.runBeside(ctx, argv, a.environWith("SANDBAR_SERVER=unix://"+place.Socket(), "SANDBAR_API_KEY=", "SANDBAR_TENANT="))
}

// configure writes what a broker is to know about the vendor into dir, and returns
// the configuration's file. Secrets are in files of their own, as they should be.
func (s *simulated) configure(dir string) (file string, err error) {
	secrets := map[string]any{}
	for name, value := range s.secrets {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
			return "", fmt.Errorf("write secret: %w", err)
		}
		secrets[name] = map[string]string{"file": path}
	}
	text, err := json.Marshal(map[string]any{ // which is YAML, too
		"providers": []any{map[string]any{"name": s.vendor, "default": true, "settings": s.settings, "secrets": secrets}},
	})
	if err != nil {
		return "", fmt.Errorf("encode configuration: %w", err)
	}
	file = filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return "", fmt.Errorf("write configuration: %w", err)
	}
	return file, nil
}

// environWith is our environment with other values of some variables; an empty one
// is left out.
func (a *app) environWith(pairs ...string) []string {
	out := slices.DeleteFunc(slices.Clone(a.environ), func(have string) bool {
		name, _, _ := strings.Cut(have, "=")
		return slices.ContainsFunc(pairs, func(pair string) bool { return strings.HasPrefix(pair, name+"=") })
	})
	for _, pair := range pairs {
		if !strings.HasSuffix(pair, "=") {
			out = append(out, pair)
		}
	}
	return out
}

// runBeside runs a program of this machine with our standard streams. It is asked to
// end when the context ends.
func (a *app) runBeside(ctx context.Context, argv, environ []string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, a.stdin, a.stdout, a.stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = commandGrace
	err := cmd.Run()
	var ended *exec.ExitError
	switch {
	case errors.As(err, &ended):
		status, _ := ended.Sys().(syscall.WaitStatus)
		if status.Signaled() {
			return exitError(128 + int(status.Signal()))
		}
		return exitError(ended.ExitCode())
	case err != nil:
		return fmt.Errorf("run %q: %w", argv[0], err)
	}
	return nil
}

// stopServer stops a broker of ours and waits until it is gone.
func (a *app) stopServer(ctx context.Context, place daemon.Place) error {
	c := client.New(place.Address(), client.Options{Version: a.version})
	defer c.Close()
	if _, err := c.Admin.StopServer(ctx, request(&brokerv1.StopServerRequest{})); err != nil && !connectionLost(err) {
		return err
	}
	return daemon.AwaitGone(ctx, place)
}
