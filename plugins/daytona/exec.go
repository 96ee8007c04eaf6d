package daytona

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/daytona/api"
	"github.com/sandbar-dev/sandbar/plugins/internal/runner"
	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	// sideCall bounds a call that nobody waits for.
	sideCall = 30 * time.Second
	// signalTimeout is for a program that sends one signal.
	signalTimeout = 10 * time.Second
)

// StartProcess implements sdk.Driver.
func (d *Driver) StartProcess(ctx context.Context, ref *providerv1.SandboxRef, execID string, spec *providerv1.ExecSpec) (sdk.Process, error) {
	p, err := d.start(ctx, ref, execID, spec)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// start is a runner.Starter.
func (d *Driver) start(ctx context.Context, ref *providerv1.SandboxRef, execID string, spec *providerv1.ExecSpec) (*runner.Command, error) {
	c := d.config()
	at, err := d.locate(ctx, c, ref)
	if err != nil {
		return nil, err
	}
	workdir := cmp.Or(spec.GetWorkdir(), at.Workdir)
	h := &host{d: d, c: c, ref: ref, at: at.place(), session: execID}
	err = c.vendor.CreateSession(ctx, h.at, execID)
	if upstream.Is(err, http.StatusConflict) {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED,
			"exec id %q was used before this plugin started, and its command cannot be attached to", execID).With("exec_id", execID)
	}
	if err != nil {
		return nil, d.explain(ctx, ref, err, true)
	}
	asked := time.Now()
	h.command, err = c.vendor.Run(ctx, h.at, execID, line(runner.Args(execID, workdir, spec)))
	if err != nil {
		d.commands.Background(sideCall, h.tryEnd)
		return nil, d.explain(ctx, ref, err, true)
	}
	first, err := h.Open(ctx)
	if err != nil {
		d.commands.Background(sideCall, h.tryEnd)
		return nil, d.explain(ctx, ref, err, true)
	}
	p, err := d.commands.Start(ctx, runner.Order{Host: h, First: first, ExecID: execID, Workdir: workdir, Stdin: spec.GetStdin(), Asked: asked})
	if err != nil {
		return nil, upstream.Explain(&upstream.LostError{Sent: true, Err: err}, true)
	}
	return p, nil
}

// line runs /bin/sh with some variables, in a shell whose kind is the snapshot's. What
// is said on standard error is for nobody, and would come between a runner's lines. The
// vendor's call takes no variables for a command; its line comes to the session's shell
// on standard input, or in a file of the shell's user alone, and an assignment is no
// argument of anything. The toolbox tells the line to those who may call it, who can
// run what they like.
func line(args []string, env map[string]string) string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out.WriteString(name + "=" + quote(env[name]) + " ")
	}
	out.WriteString("/bin/sh")
	for _, arg := range args {
		out.WriteString(" " + quote(arg))
	}
	return out.String() + " 2> /dev/null"
}

func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// explain is for a call of the toolbox's, which may have changed something. What an
// answer means that says nothing of the command is what the vendor says of the sandbox.
func (d *Driver) explain(ctx context.Context, ref *providerv1.SandboxRef, cause error, changes bool) error {
	if !upstream.Is(cause, http.StatusBadRequest, http.StatusNotFound, http.StatusGone, http.StatusBadGateway, http.StatusServiceUnavailable) {
		return upstream.Explain(cause, changes)
	}
	return upstream.ExplainAbout(ref, cause, changes, func(by *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) { return d.GetSandbox(ctx, by) })
}

// host is a runner.Host: one command in a session of its own.
type host struct {
	d                *Driver
	c                *configuration
	ref              *providerv1.SandboxRef
	at               api.Place
	session, command string
}

// Open implements runner.Host.
func (h *host) Open(ctx context.Context) (runner.Stream, error) {
	log, err := h.c.vendor.Logs(ctx, h.at, h.session, h.command)
	switch {
	case err == nil:
		return stream{log}, nil
	case upstream.Is(err, http.StatusNotFound, http.StatusGone), upstream.Is(err, http.StatusBadRequest, http.StatusBadGateway) && h.Gone(ctx):
		return nil, fmt.Errorf("%w: %w", runner.ErrGone, err)
	}
	return nil, err
}

// stream says that everything came on standard error, because what the shell
// complains of comes with it, and is to be passed over.
type stream struct{ *api.Logs }

// Next implements runner.Stream.
func (s stream) Next() (bool, string, error) {
	text, err := s.Logs.Next()
	return true, text, err
}

// WriteFile implements runner.Host.
func (h *host) WriteFile(ctx context.Context, name string, content []byte) error {
	return h.c.vendor.Upload(ctx, h.at, name, content)
}

// Signal implements runner.Host.
func (h *host) Signal(ctx context.Context, group int64, signal string) (bool, error) {
	result, err := h.c.vendor.Execute(ctx, h.at, "kill -s "+signal+" -- -"+strconv.FormatInt(group, 10), signalTimeout)
	if err != nil {
		return false, h.d.explain(ctx, h.ref, err, true)
	}
	return result.ExitCode == 0, nil
}

// End implements runner.Host.
func (h *host) End(ctx context.Context) error {
	if err := h.c.vendor.DeleteSession(ctx, h.at, h.session); err != nil && !upstream.Is(err, http.StatusNotFound) {
		return err
	}
	return nil
}

// tryEnd is End for a command that may never have been.
func (h *host) tryEnd(ctx context.Context) {
	if err := h.End(ctx); err != nil {
		h.d.opts.Log.Debug("a session that nobody waits for could not be removed", "exec_id", h.session, "error", err)
	}
}

// Free implements runner.Host. Removing a session ends what descends from its shell,
// and a runner that is ended ends its command: so it has to have left.
func (h *host) Free(ctx context.Context) error {
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		cmd, err := h.c.vendor.Command(ctx, h.at, h.session, h.command)
		switch {
		case upstream.Is(err, http.StatusNotFound):
			return nil
		case err != nil:
			return err
		case cmd.ExitCode != nil:
			return h.End(ctx)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// Gone implements runner.Host.
func (h *host) Gone(ctx context.Context) bool {
	sb, err := h.d.GetSandbox(ctx, upstream.BySandbox(h.ref))
	if err != nil {
		return fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND)
	}
	return sb.GetState() == providerv1.SandboxState_SANDBOX_STATE_FAILED || sb.GetState() == providerv1.SandboxState_SANDBOX_STATE_DELETING
}
