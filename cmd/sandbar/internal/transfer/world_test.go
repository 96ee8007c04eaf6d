package transfer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/apitest"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	"github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1/brokerv1connect"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// world is a broker with sandboxes that are sets of files. It keeps what the real one
// promises: keys, labels, and deletes that a survivor is a condition of.
type world struct {
	brokerv1connect.UnimplementedSandboxServiceHandler
	client *client.Client

	mu    sync.Mutex
	boxes map[string]*box
	keys  map[string]*brokerv1.CreateSandboxRequest
	made  map[string]string
	// onDownload, if set, runs before files of a sandbox are read; with the lock held.
	onDownload func(id string)
	// half makes every upload forget its second half and say nothing of it.
	half bool
	// cut fails every upload after its first entry.
	cut bool
	// refusals are how many deletes of the source its provider will refuse for good; the
	// survivor has the name then.
	refusals int
}

type box struct {
	msg   *brokerv1.Sandbox
	files map[string]string
	diff  []*providerv1.FileChange
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{boxes: map[string]*box{}, keys: map[string]*brokerv1.CreateSandboxRequest{}, made: map[string]string{}}
	mux := http.NewServeMux()
	mux.Handle(brokerv1connect.NewSandboxServiceHandler(w))
	srv := httptest.NewUnstartedServer(mux)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	address, err := client.ParseAddress(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	w.client = client.New(address, client.Options{})
	t.Cleanup(func() {
		w.client.Close()
		srv.Close()
	})
	return w
}

// add makes a sandbox with files.
func (w *world) add(id string, files map[string]string) *brokerv1.Sandbox {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := &box{msg: &brokerv1.Sandbox{SandboxId: id, Provider: "fake", State: providerv1.SandboxState_SANDBOX_STATE_RUNNING}, files: files}
	if id == source {
		b.msg.Name = name
	}
	w.boxes[id] = b
	return proto.CloneOf(b.msg)
}

// sandbox returns one that lives.
func (w *world) sandbox(id string) *brokerv1.Sandbox {
	w.mu.Lock()
	defer w.mu.Unlock()
	return proto.CloneOf(w.boxes[id].msg)
}

// reset forgets everything.
func (w *world) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.boxes)
	clear(w.keys)
	w.refusals = 0
}

// named returns the id of the sandbox with a name, or "".
func (w *world) named(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.holder(name)
}

// holder is named with the lock held.
func (w *world) holder(name string) string {
	for id, b := range w.boxes {
		if b.msg.GetName() == name {
			return id
		}
	}
	return ""
}

// live returns the files of all sandboxes.
func (w *world) live() map[string]map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]map[string]string{}
	for id, b := range w.boxes {
		out[id] = maps.Clone(b.files)
	}
	return out
}

func wire(f *fault.Error) error {
	f.Wire = true
	return f
}

// Create keeps the promise of idempotency keys.
func (w *world) Create(_ context.Context, req *brokerv1.CreateSandboxRequest) (*brokerv1.Sandbox, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.create(req)
}

// create is Create with the lock held.
func (w *world) create(req *brokerv1.CreateSandboxRequest) (*brokerv1.Sandbox, error) {
	key := req.GetIdempotencyKey()
	if earlier := w.keys[key]; earlier != nil {
		if !proto.Equal(earlier, req) {
			return nil, wire(fault.New(providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED, "key %s", key))
		}
		if b := w.boxes[w.made[key]]; b != nil {
			return proto.CloneOf(b.msg), nil
		}
		return nil, wire(fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "it was deleted"))
	}
	if req.GetName() == "" || w.holder(req.GetName()) != "" {
		return nil, wire(fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS, "name is %q", req.GetName()))
	}
	id := fmt.Sprintf("sbx_%d", len(w.keys)+100)
	w.keys[key], w.made[key] = proto.CloneOf(req), id
	w.boxes[id] = &box{files: map[string]string{}, msg: &brokerv1.Sandbox{
		SandboxId: id, Name: req.GetName(), Provider: req.GetProvider(), Labels: maps.Clone(req.GetLabels()), Spec: req.GetSpec(),
		State: providerv1.SandboxState_SANDBOX_STATE_RUNNING,
	}}
	return proto.CloneOf(w.boxes[id].msg), nil
}

// Delete keeps the promise of survivors.
func (w *world) Delete(_ context.Context, sandbox, survivor, name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	ends, heir := w.boxes[sandbox], w.boxes[survivor]
	switch {
	case ends == nil && heir == nil:
		return nil
	case heir == nil:
		return wire(fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "nothing was deleted").With("survivor", survivor))
	}
	if name != "" {
		if holder := w.holder(name); holder != "" && holder != sandbox && holder != survivor {
			return wire(fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS, "name is %q", name))
		}
		if ends != nil && ends.msg.GetName() == name {
			ends.msg.Name = ""
		}
		heir.msg.Name = name
	}
	if sandbox == source && w.refusals > 0 {
		w.refusals--
		return wire(fault.New(providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED, "its provider does not delete it"))
	}
	delete(w.boxes, sandbox)
	return nil
}

// Labelled lists in the order of ids.
func (w *world) Labelled(_ context.Context, key, value string) ([]*brokerv1.Sandbox, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*brokerv1.Sandbox
	for _, id := range slices.Sorted(maps.Keys(w.boxes)) {
		if b := w.boxes[id]; b.msg.GetLabels()[key] == value {
			out = append(out, proto.CloneOf(b.msg))
		}
	}
	return out, nil
}

func (w *world) find(ref *providerv1.SandboxRef) (*box, error) {
	if b := w.boxes[ref.GetSandboxId()]; b != nil {
		return b, nil
	}
	return nil, apitest.Encode(fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "%s does not exist", ref.GetSandboxId()))
}

// DownloadArchive sends the paths, each under its last element.
func (w *world) DownloadArchive(_ context.Context, req *connect.Request[providerv1.DownloadArchiveRequest], s *connect.ServerStream[providerv1.DownloadArchiveResponse]) error {
	raw, err := w.pack(req.Msg)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(raw, 1000) {
		if err := s.Send(&providerv1.DownloadArchiveResponse{Data: part}); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) pack(req *providerv1.DownloadArchiveRequest) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b, err := w.find(req.GetSandbox())
	if err != nil {
		return nil, err
	}
	if w.onDownload != nil {
		w.onDownload(req.GetSandbox().GetSandboxId())
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, root := range req.GetPaths() {
		if _, ok := b.files[root]; !ok {
			return nil, apitest.Encode(fault.New(providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND, "%s does not exist", root))
		}
		for _, name := range slices.Sorted(maps.Keys(b.files)) {
			if name != root && !strings.HasPrefix(name, root+"/") {
				continue
			}
			h := header(path.Base(root)+strings.TrimPrefix(name, root), b.files[name])
			if err := tw.WriteHeader(h); err != nil {
				return nil, err
			}
			if h.Typeflag == tar.TypeReg {
				_, _ = io.WriteString(tw, b.files[name])
			}
		}
	}
	return buf.Bytes(), tw.Close()
}

// header is an entry for content: a folder for "/", a link for "-> target", a pipe
// for "|".
func header(name, content string) *tar.Header {
	target, isLink := strings.CutPrefix(content, "-> ")
	switch {
	case content == "/":
		return &tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}
	case content == "|":
		return &tar.Header{Typeflag: tar.TypeFifo, Name: name, Mode: 0o600}
	case isLink:
		return &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
	}
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644}
}

// UploadArchive unpacks.
func (w *world) UploadArchive(_ context.Context, s *connect.ClientStream[providerv1.UploadArchiveRequest]) (*connect.Response[providerv1.UploadArchiveResponse], error) {
	var open *providerv1.UploadArchiveOpen
	var buf bytes.Buffer
	for s.Receive() {
		if o := s.Msg().GetOpen(); o != nil {
			open = o
		}
		buf.Write(s.Msg().GetData())
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	b, err := w.find(open.GetSandbox())
	if err != nil {
		return nil, err
	}
	entries := map[string]string{}
	for tr := tar.NewReader(&buf); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
		entries[path.Join("/", open.GetPath(), h.Name)] = map[byte]string{tar.TypeReg: string(content), tar.TypeDir: "/", tar.TypeSymlink: "-> " + h.Linkname}[h.Typeflag]
	}
	for i, name := range slices.Sorted(maps.Keys(entries)) {
		if w.half && i >= (len(entries)+1)/2 {
			break
		}
		b.files[name] = entries[name]
		if w.cut {
			return nil, apitest.Encode(fault.New(providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED, "the disk is full"))
		}
	}
	return connect.NewResponse(&providerv1.UploadArchiveResponse{}), nil
}

// DiffFiles sends what the test says.
func (w *world) DiffFiles(_ context.Context, req *connect.Request[providerv1.DiffFilesRequest], s *connect.ServerStream[providerv1.DiffFilesResponse]) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	b, err := w.find(req.Msg.GetSandbox())
	if err != nil {
		return err
	}
	return s.Send(&providerv1.DiffFilesResponse{Changes: b.diff})
}
