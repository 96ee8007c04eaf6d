package transfer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/portable"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// One call asks for at most so many paths, and so many bytes of them.
const (
	batchPaths = 256
	batchBytes = 256 << 10
)

// Carried is what was read of a sandbox.
type Carried struct {
	Tree *portable.Tree
	// Special names sockets, pipes and devices that stay behind.
	Special []string
}

// Left says what the provider sent and a layer does not have.
func (c *Carried) Left() []portable.Left {
	if len(c.Special) == 0 {
		return nil
	}
	return []portable.Left{portable.NewLeft("special", "sockets, pipes and devices stay behind", c.Special...)}
}

// Read passes the files of a sandbox to a sink, in the form of a layer.
func (s *Scope) Read(ctx context.Context, files Files, sandbox string, sink portable.Sink) (*Carried, error) {
	in, out := portable.NewIntake(s.Paths), &Carried{}
	out.Tree = in.Tree()
	for _, batch := range s.batches() {
		if err := s.readBatch(ctx, files, sandbox, batch, in, out, sink); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// batches are paths that one call can ask for, by the names that they have in an
// archive, which are their last elements.
func (s *Scope) batches() []map[string]string {
	var out []map[string]string
	size := 0
	for _, p := range s.Paths {
		last := len(out) - 1
		// Of paths that were named each has an archive of its own, as it has when it is
		// unpacked: a hard link then never leads from one to another.
		if last < 0 || !s.Changes || out[last][path.Base(p)] != "" || len(out[last]) == batchPaths || size+len(p) > batchBytes {
			out, size, last = append(out, map[string]string{}), 0, last+1
		}
		out[last][path.Base(p)] = p
		size += len(p)
	}
	return out
}

func (s *Scope) readBatch(ctx context.Context, files Files, sandbox string, batch map[string]string, in *portable.Intake, out *Carried, sink portable.Sink) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req := &providerv1.DownloadArchiveRequest{Sandbox: ref(sandbox)}
	for _, p := range s.Paths { // in order, so that the layer is the same each time
		if batch[path.Base(p)] == p {
			req.Paths = append(req.Paths, p)
		}
	}
	stream, err := files.DownloadArchive(ctx, connect.NewRequest(req))
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	content := &Download{Stream: stream}
	special := map[string]bool{}
	for tr := tar.NewReader(content); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the archive of sandbox %s: %w", sandbox, err)
		}
		if !s.place(h, batch) {
			special["/"+h.Name] = true
			out.Special = append(out.Special, "/"+h.Name)
			continue
		}
		if h.Typeflag != tar.TypeXGlobalHeader {
			if err := in.Take(h, tr, sink); err != nil {
				return err
			}
		}
	}
	// What follows the end mark is padding; an error after it is one of the call.
	if _, err := io.Copy(io.Discard, content); err != nil {
		return err
	}
	for _, p := range batch {
		if !in.Seen(p) && !special[p] {
			return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL,
				"the provider sent an archive without %q, which was asked for", p).With("path", p).WithEffect(providerv1.Effect_EFFECT_NONE)
		}
	}
	return nil
}

// place gives an entry the name it has in a layer. It reports whether a layer can
// have such an entry.
func (s *Scope) place(h *tar.Header, batch map[string]string) bool {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return true
	}
	h.Name = layerName(h.Name, batch)
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		h.Typeflag = tar.TypeReg // the reader fills holes
	case tar.TypeDir, tar.TypeSymlink:
	case tar.TypeLink:
		h.Linkname = layerName(h.Linkname, batch)
	default:
		return false
	}
	return true
}

// layerName keeps a name that belongs to no path as it is: the intake refuses it.
func layerName(name string, batch map[string]string) string {
	first, rest, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/"), "/")
	root := batch[first]
	switch {
	case root == "":
		return name
	case rest == "":
		return root[1:]
	}
	return root[1:] + "/" + rest
}

// Unpacker is a sink that unpacks entries in a sandbox. Close ends it; until that
// has succeeded nothing is known to have arrived.
type Unpacker struct {
	ctx     context.Context //nolint:containedctx // bounds one transfer, whose sink has no ctx parameter
	files   Files
	sandbox string
	scope   *Scope
	// said is told how many bytes were sent.
	said func(n int)

	folder string
	tw     *tar.Writer
	up     *Upload
	cancel context.CancelFunc
}

// NewUnpacker returns an unpacker. said, which may be nil, is told of each piece of
// content that was sent.
func NewUnpacker(ctx context.Context, files Files, sandbox string, scope *Scope, said func(n int)) *Unpacker {
	return &Unpacker{ctx: ctx, files: files, sandbox: sandbox, scope: scope, said: said}
}

// Take is a portable.Sink.
func (u *Unpacker) Take(root string, h *tar.Header) (io.Writer, error) {
	folder := u.scope.target(root)
	if u.up == nil || u.folder != folder {
		if err := u.Close(); err != nil {
			return nil, err
		}
		if err := u.open(folder); err != nil {
			return nil, err
		}
	}
	within := strings.TrimPrefix(folder, "/")
	h.Name = strings.TrimPrefix(strings.TrimPrefix(h.Name, within), "/")
	if h.Typeflag == tar.TypeLink {
		h.Linkname = strings.TrimPrefix(strings.TrimPrefix(h.Linkname, within), "/")
	}
	if err := u.tw.WriteHeader(h); err != nil {
		return nil, u.why(err)
	}
	return u, nil
}

// Write sends content of the entry that was taken last.
func (u *Unpacker) Write(p []byte) (int, error) {
	n, err := u.tw.Write(p)
	if err != nil {
		return n, u.why(err)
	}
	if u.said != nil {
		u.said(n)
	}
	return n, nil
}

func (u *Unpacker) open(folder string) error {
	ctx, cancel := context.WithCancel(u.ctx)
	u.cancel, u.folder = cancel, folder
	u.up = &Upload{Stream: u.files.UploadArchive(ctx)}
	u.tw = tar.NewWriter(u.up)
	return u.why(u.up.Open(u.sandbox, folder, true))
}

// why replaces the end of a stream by what the broker says about it.
func (u *Unpacker) why(err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	if _, said := u.up.Stream.CloseAndReceive(); said != nil {
		return said
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, "sandbox %s took only a part of the files and called it all", u.sandbox).
		WithEffect(providerv1.Effect_EFFECT_APPLIED)
}

// Close ends the archive that is being sent and returns what its receiver says.
func (u *Unpacker) Close() error {
	if u.up == nil {
		return nil
	}
	err := u.tw.Close()
	if err == nil {
		err = u.up.Flush()
	}
	if err != nil {
		err = u.why(err)
	} else {
		_, err = u.up.Stream.CloseAndReceive()
	}
	u.Abort()
	return err
}

// Abort cuts the archive that is being sent, so that it is not taken for whole. It
// does nothing after Close.
func (u *Unpacker) Abort() {
	if u.up != nil {
		u.cancel()
		u.up = nil
	}
}
