package vercel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/internal/runner"
	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/vercel/api"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// sideCall bounds a call that nobody waits for.
const sideCall = 30 * time.Second

// StartProcess implements sdk.Driver.
func (d *Driver) StartProcess(ctx context.Context, ref *providerv1.SandboxRef, execID string, spec *providerv1.ExecSpec) (sdk.Process, error) {
	p, err := d.start(ctx, ref, execID, spec)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// DialPort implements sdk.PortDialer. The vendor shows ports to the whole world, by
// HTTP, and has no way to one that is not shown.
func (d *Driver) DialPort(ctx context.Context, target *providerv1.PortTarget) (net.Conn, error) {
	return d.commands.Dial(ctx, target, d.start)
}

// start is a runner.Starter.
func (d *Driver) start(ctx context.Context, ref *providerv1.SandboxRef, execID string, spec *providerv1.ExecSpec) (*runner.Command, error) {
	c := d.config()
	at, err := d.locate(ctx, c, ref)
	if err != nil {
		return nil, err
	}
	workdir := cmp.Or(spec.GetWorkdir(), at.Workdir)
	h := &host{d: d, c: c, ref: ref, session: at.Session}
	args, env := runner.Args(execID, workdir, spec)
	asked := time.Now()
	var first *api.Stream
	err = d.inSession(ctx, ref, &h.session, func(session string) (err error) {
		first, err = c.vendor.Run(ctx, session, api.RunRequest{Command: "/bin/sh", Args: args, Env: env})
		return err
	})
	if err != nil {
		return nil, d.explainSession(ctx, ref, err, true)
	}
	p, err := d.commands.Start(ctx, runner.Order{
		Host: h, First: stream{first, h}, ExecID: execID, Workdir: workdir, Stdin: spec.GetStdin(), Asked: asked,
	})
	if err != nil {
		return nil, upstream.Explain(&upstream.LostError{Sent: true, Err: err}, true)
	}
	return p, nil
}

// host is a runner.Host.
type host struct {
	d       *Driver
	c       *configuration
	ref     *providerv1.SandboxRef
	session string

	mu sync.Mutex
	// command is the vendor's id of it, which it says first of all on the stream.
	command string
}

func (h *host) vendorID() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.command
}

// stream is a runner.Stream.
type stream struct {
	*api.Stream
	h *host
}

// Next implements runner.Stream.
func (s stream) Next() (bool, string, error) {
	for {
		event, err := s.Stream.Next()
		if err != nil {
			return false, "", err
		}
		if event.Command == nil {
			return event.Stream == "stderr", event.Text, nil
		}
		s.h.mu.Lock()
		s.h.command = event.Command.ID
		s.h.mu.Unlock()
	}
}

// Open implements runner.Host.
func (h *host) Open(ctx context.Context) (runner.Stream, error) {
	id := h.vendorID()
	if id == "" {
		return nil, fmt.Errorf("%w: the vendor has not said what to ask for", runner.ErrGone)
	}
	log, err := h.c.vendor.Logs(ctx, h.session, id)
	switch {
	case err == nil:
		return stream{log, h}, nil
	case upstream.Is(err, http.StatusNotFound, http.StatusGone, http.StatusUnprocessableEntity):
		return nil, fmt.Errorf("%w: %w", runner.ErrGone, err)
	}
	return nil, err
}

// WriteFile implements runner.Host.
func (h *host) WriteFile(ctx context.Context, name string, content []byte) error {
	archive, err := oneFile(strings.TrimPrefix(name, "/"), content)
	if err != nil {
		return err
	}
	return h.c.vendor.WriteFiles(ctx, h.session, "/", archive)
}

// Signal implements runner.Host: another command sends it, because the vendor's own
// call would reach the runner.
func (h *host) Signal(ctx context.Context, group int64, signal string) (bool, error) {
	out, err := h.c.vendor.Run(ctx, h.session, api.RunRequest{
		Command: "/bin/sh", Args: []string{"-c", `kill -s "$1" -- "-$2"`, "sandbar", signal, strconv.FormatInt(group, 10)},
	})
	if err != nil {
		return false, h.d.explainSession(ctx, h.ref, err, true)
	}
	defer out.Close()
	defer context.AfterFunc(ctx, out.Close)()
	for {
		event, err := out.Next()
		switch {
		case err != nil:
			return false, upstream.Explain(&upstream.LostError{Sent: true, Err: errors.Join(ctx.Err(), err)}, true)
		case event.Command != nil && event.Command.ExitCode != nil:
			return *event.Command.ExitCode == 0, nil
		}
	}
}

// End implements runner.Host. What the vendor has not named cannot be ended.
func (h *host) End(ctx context.Context) error {
	const terminate = 15 // as Linux numbers it
	id := h.vendorID()
	if id == "" {
		return nil
	}
	err := h.c.vendor.Kill(ctx, h.session, id, terminate)
	if upstream.Is(err, http.StatusBadRequest, http.StatusNotFound, http.StatusGone, http.StatusUnprocessableEntity) {
		return nil // it has ended, or its session has
	}
	return err
}

// Free implements runner.Host: the vendor keeps what it likes, until the session ends.
func (h *host) Free(context.Context) error { return nil }

// Gone implements runner.Host.
func (h *host) Gone(ctx context.Context) bool {
	found, err := h.d.GetSandbox(ctx, upstream.BySandbox(h.ref))
	if err != nil {
		return fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND)
	}
	if at, ok := readHandle(found.GetHandle()); ok && at.Session != h.session {
		return true // it was paused and resumed meanwhile
	}
	switch found.GetState() {
	case providerv1.SandboxState_SANDBOX_STATE_FAILED, providerv1.SandboxState_SANDBOX_STATE_PAUSED, providerv1.SandboxState_SANDBOX_STATE_PAUSING:
		return true
	}
	return false
}
