package vercel

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/internal/files"
	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/plugins/vercel/api"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// # Files
//
// The vendor's API reads a file and unpacks an archive of which nobody says what it
// does with links. Everything else its own client does with commands, and so does
// package files.

// fileCalls are what the driver embeds.
type fileCalls = files.Sandboxes

// place is a files.Place.
type place struct {
	d       *Driver
	c       *configuration
	ref     *providerv1.SandboxRef
	session string
}

// findFiles returns those of a sandbox.
func (d *Driver) findFiles(ctx context.Context, ref *providerv1.SandboxRef) (*files.Sandbox, error) {
	c := d.config()
	at, err := d.locate(ctx, c, ref)
	if err != nil {
		return nil, err
	}
	return files.Of(&place{d: d, c: c, ref: ref, session: at.Session}, ref.GetSandboxId(), d.opts.Log), nil
}

// Run implements files.Place. It is done once: when the stream breaks, what was said is
// read from the vendor's record.
func (p *place) Run(ctx context.Context, args []string, changes, root bool) (string, error) {
	var stream *api.Stream
	err := p.d.inSession(ctx, p.ref, &p.session, func(session string) (err error) {
		stream, err = p.c.vendor.Run(ctx, session, api.RunRequest{Command: "/bin/sh", Args: args, Sudo: root})
		return err
	})
	if err != nil {
		return "", p.d.explainSession(ctx, p.ref, err, changes)
	}
	id := ""
	for breaks := 0; ; breaks++ {
		text, err := p.listen(ctx, stream, &id)
		if err == nil {
			return text, nil
		}
		if ctx.Err() != nil {
			return "", upstream.Explain(&upstream.LostError{Sent: true, Err: ctx.Err()}, changes)
		}
		if stream = p.again(ctx, id, breaks); stream == nil {
			return "", p.d.explainSession(ctx, p.ref, &upstream.LostError{Sent: true, Err: err}, changes)
		}
	}
}

// listen returns what was printed when the command has ended.
func (p *place) listen(ctx context.Context, stream *api.Stream, id *string) (string, error) {
	defer stream.Close()
	defer context.AfterFunc(ctx, stream.Close)()
	var out strings.Builder
	for {
		event, err := stream.Next()
		switch {
		case errors.Is(err, io.EOF) && files.Whole(out.String()):
			return out.String(), nil // the vendor's record has no last word
		case err != nil:
			return "", err
		case event.Command != nil && event.Command.ExitCode != nil:
			return out.String(), nil
		case event.Command != nil:
			*id = event.Command.ID
		case event.Stream == "stdout":
			out.WriteString(event.Text)
		default:
			p.d.opts.Log.Debug("a call about files complained", "sandbox_id", p.ref.GetSandboxId(), "line", event.Text)
		}
	}
}

// again opens the vendor's record of the command; nil if it cannot.
func (p *place) again(ctx context.Context, id string, breaks int) *api.Stream {
	const most, first = 3, 250 * time.Millisecond
	for ; id != "" && breaks < most; breaks++ {
		timer := time.NewTimer(first << breaks)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		if stream, err := p.c.vendor.Logs(ctx, p.session, id); err == nil {
			return stream
		}
	}
	return nil
}

// Send implements files.Place.
func (p *place) Send(ctx context.Context, name string, content []byte) error {
	archive, err := oneFile(strings.TrimPrefix(name, "/"), content)
	if err != nil {
		return err
	}
	err = p.d.inSession(ctx, p.ref, &p.session, func(session string) error {
		return p.c.vendor.WriteFiles(ctx, session, "/", archive)
	})
	if err != nil {
		return p.d.explainSession(ctx, p.ref, err, false) // what it is for has not begun
	}
	return nil
}

// Receive implements files.Place. 404 is what the vendor says of a file that is not
// there, and of a session.
func (p *place) Receive(ctx context.Context, name string) (io.ReadCloser, error) {
	body, err := p.c.vendor.ReadFile(ctx, p.session, name)
	if err == nil {
		return body, nil
	}
	explained := p.d.explainSession(ctx, p.ref, err, false)
	if upstream.Is(err, http.StatusNotFound) && fault.Has(explained, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL) {
		return nil, files.NotFound(name) // the sandbox is there
	}
	return nil, explained
}

// Background implements files.Place.
func (p *place) Background(do func(context.Context)) { p.d.commands.Background(sideCall, do) }

// oneFile is a tar.gz of one file.
func oneFile(name string, content []byte) ([]byte, error) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = w.Write(content)
	}
	if err = errors.Join(err, w.Close(), zip.Close()); err != nil {
		return nil, fmt.Errorf("pack a file: %w", err)
	}
	return out.Bytes(), nil
}
