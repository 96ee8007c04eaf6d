package daytona

import (
	"context"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/daytona/api"
	"github.com/sandbar-dev/sandbar/plugins/internal/files"
	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// place is a files.Place.
type place struct {
	d   *Driver
	c   *configuration
	ref *providerv1.SandboxRef
	at  api.Place
}

// fileCalls are what the driver embeds.
type fileCalls = files.Sandboxes

// findFiles returns those of a sandbox.
func (d *Driver) findFiles(ctx context.Context, ref *providerv1.SandboxRef) (*files.Sandbox, error) {
	c := d.config()
	at, err := d.locate(ctx, c, ref)
	if err != nil {
		return nil, err
	}
	return files.Of(&place{d: d, c: c, ref: ref, at: at.place()}, ref.GetSandboxId(), d.opts.Log), nil
}

// byRoot runs the rest of its arguments as root, if that can be.
const byRoot = `if [ "$(id -u)" != 0 ] && command -v sudo > /dev/null 2>&1; then exec sudo -n "$@"; fi; exec "$@"`

// Run implements files.Place.
func (p *place) Run(ctx context.Context, args []string, changes, root bool) (string, error) {
	if root {
		args = append([]string{"-c", byRoot, "sandbar", "/bin/sh"}, args...)
	}
	timeout := time.Minute
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Duration(math.Ceil(time.Until(deadline).Seconds())) * time.Second
	}
	result, err := p.c.vendor.Execute(ctx, p.at, line(args, nil), max(timeout, time.Second))
	if upstream.Is(err, http.StatusRequestTimeout) {
		return "", upstream.Explain(&upstream.LostError{Sent: true, Err: context.DeadlineExceeded}, changes)
	}
	if err != nil {
		return "", p.d.explain(ctx, p.ref, err, changes)
	}
	return result.Output, nil
}

// Send implements files.Place.
func (p *place) Send(ctx context.Context, name string, content []byte) error {
	if err := p.c.vendor.Upload(ctx, p.at, name, content); err != nil {
		return p.d.explain(ctx, p.ref, err, false) // what it is for has not begun
	}
	return nil
}

// Receive implements files.Place.
func (p *place) Receive(ctx context.Context, name string) (io.ReadCloser, error) {
	body, err := p.c.vendor.Download(ctx, p.at, name)
	if err == nil {
		return body, nil
	}
	explained := p.d.explain(ctx, p.ref, err, false)
	if upstream.Is(err, http.StatusNotFound) && fault.Has(explained, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL) {
		return nil, files.NotFound(name) // the sandbox is there
	}
	return nil, explained
}

// Background implements files.Place.
func (p *place) Background(do func(context.Context)) { p.d.commands.Background(sideCall, do) }
