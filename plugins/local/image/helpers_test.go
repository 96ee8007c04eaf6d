package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	gvisor "gvisor.dev/gvisor/pkg/erofs"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"

	"github.com/sandbar-dev/sandbar/proto/fault"
)

// testRegistry is a registry on loopback whose answers a test can bend.
type testRegistry struct {
	host string
	// blobs counts requests for blobs.
	blobs atomic.Int64
	mu    sync.Mutex
	bend  func(w http.ResponseWriter, r *http.Request) bool
}

// setBend installs a function that may answer a request itself.
func (r *testRegistry) setBend(f func(w http.ResponseWriter, r *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bend = f
}

func newRegistry(tb testing.TB) *testRegistry {
	tb.Helper()
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	reg := &testRegistry{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reg.mu.Lock()
		bend := reg.bend
		reg.mu.Unlock()
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			reg.blobs.Add(1)
		}
		if bend == nil || !bend(w, r) {
			inner.ServeHTTP(w, r)
		}
	}))
	tb.Cleanup(server.Close)
	reg.host = strings.TrimPrefix(server.URL, "http://")
	return reg
}

// push uploads an image and returns its reference.
func (r *testRegistry) push(tb testing.TB, img v1.Image, repo string) string {
	tb.Helper()
	ref, err := name.ParseReference(r.host + "/" + repo)
	if err != nil {
		tb.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	if err := remote.Write(ref, img, remote.WithTransport(transport)); err != nil {
		tb.Fatal(err)
	}
	return ref.Name()
}

// item is an entry of a layer made in a test.
type item struct {
	tar.Header
	content []byte
}

func file(path string, content []byte) item {
	return item{tar.Header{Name: path, Typeflag: tar.TypeReg, Mode: 0o644}, content}
}

func tarOf(tb testing.TB, items ...item) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, i := range items {
		i.Size = int64(len(i.content))
		if i.Mode == 0 {
			i.Mode = 0o755
		}
		if err := w.WriteHeader(&i.Header); err != nil {
			tb.Fatal(err)
		}
		if _, err := w.Write(i.content); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(tb testing.TB, b []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	w, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if _, err := w.Write(b); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func zstandard(tb testing.TB, b []byte) []byte {
	tb.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		tb.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil)
}

// layer is a compressed layer that knows its uncompressed digest.
type layer struct {
	v1.Layer
	diffID v1.Hash
}

func (l layer) DiffID() (v1.Hash, error) { return l.diffID, nil }

func layerOf(tb testing.TB, compressed, plain []byte, mediaType types.MediaType) v1.Layer {
	tb.Helper()
	diffID, _, err := v1.SHA256(bytes.NewReader(plain))
	if err != nil {
		tb.Fatal(err)
	}
	return layer{static.NewLayer(compressed, mediaType), diffID}
}

func gzipLayer(tb testing.TB, items ...item) v1.Layer {
	tb.Helper()
	plain := tarOf(tb, items...)
	return layerOf(tb, gzipped(tb, plain), plain, types.OCILayer)
}

// imageOf makes an image for linux/amd64.
func imageOf(tb testing.TB, layers ...v1.Layer) v1.Image {
	tb.Helper()
	return imageFor(tb, v1.Platform{OS: "linux", Architecture: "amd64"}, layers...)
}

func imageFor(tb testing.TB, p v1.Platform, layers ...v1.Layer) v1.Image {
	tb.Helper()
	img, err := mutate.ConfigFile(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), &v1.ConfigFile{
		OS: p.OS, Architecture: p.Architecture, Variant: p.Variant,
		Config: v1.Config{
			Env: []string{"PATH=/bin", "A=b c"}, Entrypoint: []string{"/entry"}, Cmd: []string{"x"},
			WorkingDir: "/work", User: "1000:1000", Labels: map[string]string{"l": "v"},
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	if img, err = mutate.AppendLayers(img, layers...); err != nil {
		tb.Fatal(err)
	}
	return img
}

const testPlatform = "linux/amd64"

func openStore(tb testing.TB, dir string, opts Options) *Store {
	tb.Helper()
	if opts.RetryWait == 0 {
		opts.RetryWait = time.Millisecond
	}
	s, err := Open(context.Background(), dir, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return s
}

func pull(tb testing.TB, s *Store, ref string, opts PullOptions) *Image {
	tb.Helper()
	if opts.Platform == "" {
		opts.Platform = testPlatform
	}
	img, err := s.Pull(context.Background(), ref, opts)
	if err != nil {
		tb.Fatalf("pull %s: %v", ref, err)
	}
	return img
}

// wantFault checks the reason and the effect of an error.
func wantFault(tb testing.TB, err error, reason providerv1.ErrorReason, words ...string) {
	tb.Helper()
	if !fault.Has(err, reason) {
		tb.Fatalf("error %v, want reason %s", err, fault.Name(reason))
	}
	if e := fault.From(err); e.Effect != providerv1.Effect_EFFECT_NONE {
		tb.Errorf("effect %s, want none", fault.EffectName(e.Effect))
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			tb.Errorf("error %q does not say %q", err, word)
		}
	}
}

// contents reads all files of an image with gVisor's reader: a sha256 for
// regular files, else the mode.
func contents(tb testing.TB, path string) map[string]string {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	img, err := gvisor.OpenImage(f)
	if err != nil {
		tb.Fatal(err)
	}
	defer img.Close()
	all := map[string]string{}
	var visit func(string, uint64)
	visit = func(at string, nid uint64) {
		i, err := img.Inode(nid)
		if err != nil {
			tb.Fatalf("%q: %v", at, err)
		}
		head := fmt.Sprintf("%o %d:%d %d links", i.Mode(), i.UID(), i.GID(), i.Nlink())
		switch {
		case i.IsRegular():
			data, err := i.Data()
			if err != nil {
				tb.Fatal(err)
			}
			h := sha256.New()
			for ; !data.IsEmpty(); data = data.Tail() {
				h.Write(data.Head().ToSlice())
			}
			all[at] = fmt.Sprintf("%s %x", head, h.Sum(nil))
		case i.IsSymlink():
			target, err := i.Readlink()
			if err != nil {
				tb.Fatal(err)
			}
			all[at] = head + " " + target
		case i.IsDir():
			all[at] = head
			if err := i.IterDirents(func(name string, _ uint8, child uint64) error {
				if name != "." && name != ".." {
					visit(at+"/"+name, child)
				}
				return nil
			}); err != nil {
				tb.Fatal(err)
			}
		default:
			all[at] = head
		}
	}
	visit("", img.RootNid())
	return all
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func sumOf(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// leftovers lists what is in the store's tmp beside the empty work folders of
// open stores.
func leftovers(tb testing.TB, dir string) []string {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "tmp", "*", "*"))
	if err != nil {
		tb.Fatal(err)
	}
	return paths
}
