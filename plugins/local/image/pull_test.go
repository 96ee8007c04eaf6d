package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/goleak"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestMain(m *testing.M) {
	if os.Getenv("IMAGE_TEST_CHILD") != "" {
		childPull()
	}
	goleak.VerifyTestMain(m)
}

func TestPulledImageHasTheFilesOfItsLayers(t *testing.T) {
	reg, big := newRegistry(t), noise(1, 64<<20)
	plain := tarOf(t, item{tar.Header{Name: "zst", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 3, Gid: 4}, []byte("z")})
	bare := tarOf(t, file(".wh.gone", nil), item{tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "bin/a"}, nil})
	ref := reg.push(t, imageOf(t,
		gzipLayer(t, file("big", big), file("gone", noise(2, 5000)), file("bin/a", []byte("a")),
			item{tar.Header{Name: "odd\nname ☃", Typeflag: tar.TypeSymlink, Linkname: "bin/a"}, nil}),
		layerOf(t, zstandard(t, plain), plain, types.OCILayerZStd),
		layerOf(t, bare, bare, types.OCIUncompressedLayer),
	), "team/app:v1")
	dir := t.TempDir()
	s := openStore(t, filepath.Join(dir, "store"), Options{})
	var last Progress
	img := pull(t, s, ref, PullOptions{Progress: func(p Progress) { last = p }})

	want := map[string]string{
		"":             "40755 0:0 3 links",
		"/big":         "100644 0:0 1 links " + sumOf(big),
		"/bin":         "40755 0:0 2 links",
		"/bin/a":       "100644 0:0 2 links " + sumOf([]byte("a")),
		"/hard":        "100644 0:0 2 links " + sumOf([]byte("a")),
		"/odd\nname ☃": "120777 0:0 1 links bin/a",
		"/zst":         "104755 3:4 1 links " + sumOf([]byte("z")),
	}
	if diff := cmp.Diff(want, contents(t, img.RootfsPath)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if img.Ref != ref || img.Workdir != "/work" || img.User != "1000:1000" || img.Platform != testPlatform ||
		len(img.Layers) != 3 || len(img.Env) != 2 || img.Entrypoint[0] != "/entry" || img.Cmd[0] != "x" {
		t.Errorf("image is %+v", img)
	}
	if img.Size < 64<<20 || img.Size > 65<<20 {
		t.Errorf("size %d, want about 64 MiB", img.Size)
	}
	if last.Layers != 3 || last.LayersDone != 3 || last.Bytes != last.TotalBytes || last.Bytes < 64<<20 {
		t.Errorf("last progress %+v", last)
	}
	if left := leftovers(t, s.dir); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
	if info, err := os.Stat(s.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("store folder: %v, %v", info.Mode(), err)
	}
}

func TestSameLayersGiveTheSameFile(t *testing.T) {
	reg := newRegistry(t)
	ref := reg.push(t, imageOf(t, gzipLayer(t, file("b", noise(1, 9000)), file("a", noise(2, 100))), gzipLayer(t, file("b", nil))), "app")
	var files [2][]byte
	for n := range files {
		img := pull(t, openStore(t, t.TempDir(), Options{}), ref, PullOptions{})
		b, err := os.ReadFile(img.RootfsPath)
		if err != nil {
			t.Fatal(err)
		}
		files[n] = b
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("two stores made different files of one image")
	}
}

func TestAKnownImageNeedsNoRegistry(t *testing.T) {
	reg := newRegistry(t)
	ref := reg.push(t, imageOf(t, gzipLayer(t, file("a", []byte("1")))), "app:tag")
	s := openStore(t, t.TempDir(), Options{})
	first := pull(t, s, ref, PullOptions{})
	reg.setBend(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	if again := pull(t, s, ref, PullOptions{}); again.Digest != first.Digest {
		t.Errorf("digest %s, want %s", again.Digest, first.Digest)
	}
	byDigest := reg.host + "/app@" + first.Digest
	if again := pull(t, s, byDigest, PullOptions{}); again.Digest != first.Digest || again.Ref != byDigest {
		t.Errorf("by digest: %+v", again)
	}
	_, err := s.Pull(t.Context(), ref, PullOptions{Platform: testPlatform, Refresh: true})
	wantFault(t, err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, reg.host)

	reg.setBend(nil)
	reg.push(t, imageOf(t, gzipLayer(t, file("a", []byte("2")))), "app:tag")
	if moved := pull(t, s, ref, PullOptions{Refresh: true}); moved.Digest == first.Digest {
		t.Error("Refresh did not follow the tag")
	}
	old, err := s.Get(t.Context(), first.Digest)
	if err != nil || len(old.Refs) != 0 {
		t.Errorf("image that lost its tag: %+v, %v", old, err)
	}
}

func TestSharedLayersAreFetchedOnce(t *testing.T) {
	reg := newRegistry(t)
	base := gzipLayer(t, file("base", noise(1, 1<<20)))
	one := reg.push(t, imageOf(t, base, gzipLayer(t, file("x", []byte("1")))), "one")
	two := reg.push(t, imageOf(t, base, gzipLayer(t, file("x", []byte("2")))), "two")
	s := openStore(t, t.TempDir(), Options{})
	reg.blobs.Store(0)
	pull(t, s, one, PullOptions{})
	pull(t, s, two, PullOptions{})
	if n := reg.blobs.Load(); n != 5 { // two configs, three layers
		t.Errorf("%d blobs fetched, want 5", n)
	}
}

func TestConcurrentPullsShareOneDownload(t *testing.T) {
	reg := newRegistry(t)
	ref := reg.push(t, imageOf(t, gzipLayer(t, file("a", noise(1, 1<<20)))), "app")
	s := openStore(t, t.TempDir(), Options{})
	const callers = 16
	gate, joined := make(chan struct{}), make(chan struct{})
	reg.blobs.Store(0)
	reg.setBend(func(_ http.ResponseWriter, _ *http.Request) bool {
		<-gate
		return false
	})
	go func() {
		// Open the registry once all callers wait for one flight.
		for {
			s.mu.Lock()
			n := 0
			for _, fl := range s.inAir {
				n += fl.waiters
			}
			s.mu.Unlock()
			if n == callers {
				close(gate)
				close(joined)
				return
			}
			select {
			case <-t.Context().Done():
				return
			default:
			}
		}
	}()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			if _, err := s.Pull(context.Background(), ref, PullOptions{Platform: testPlatform}); err != nil {
				t.Errorf("pull: %v", err)
			}
		})
	}
	wg.Wait()
	<-joined
	if n := reg.blobs.Load(); n != 2 {
		t.Errorf("%d blobs fetched, want the config and the layer", n)
	}
	if len(s.pins) != 0 || len(s.inAir) != 0 {
		t.Errorf("left behind: pins %v, flights %v", s.pins, s.inAir)
	}
}

func TestCanceledCallersLeaveTheOthersAlone(t *testing.T) {
	reg := newRegistry(t)
	ref := reg.push(t, imageOf(t, gzipLayer(t, file("a", noise(1, 1<<20)))), "app")
	s := openStore(t, t.TempDir(), Options{})
	started, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	reg.setBend(func(_ http.ResponseWriter, r *http.Request) bool {
		once.Do(func() { close(started) })
		select {
		case <-gate:
		case <-r.Context().Done():
		}
		return false
	})
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error), make(chan error)
	call := func(ctx context.Context, done chan error) {
		_, err := s.Pull(ctx, ref, PullOptions{Platform: testPlatform})
		done <- err
	}
	go call(ctx, first)
	<-started
	go call(context.Background(), second)
	for waiters := 0; waiters < 2; {
		s.mu.Lock()
		waiters = 0
		for _, fl := range s.inAir {
			waiters += fl.waiters
		}
		s.mu.Unlock()
	}
	cancel()
	wantFault(t, <-first, providerv1.ErrorReason_ERROR_REASON_CANCELED)
	close(gate)
	if err := <-second; err != nil {
		t.Errorf("the other caller: %v", err)
	}
}

func TestCanceledPullLeavesNothing(t *testing.T) {
	reg := newRegistry(t)
	ref := reg.push(t, imageOf(t, gzipLayer(t, file("a", noise(1, 1<<20)))), "app")
	s := openStore(t, t.TempDir(), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	reg.setBend(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		cancel()
		<-r.Context().Done()
		return true
	})
	_, err := s.Pull(ctx, ref, PullOptions{Platform: testPlatform})
	wantFault(t, err, providerv1.ErrorReason_ERROR_REASON_CANCELED, "canceled")
	s.flights.Wait()
	if left := leftovers(t, s.dir); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
	if images, err := s.List(t.Context()); err != nil || len(images) > 0 {
		t.Errorf("images %v, %v", images, err)
	}
	reg.setBend(nil)
	pull(t, s, ref, PullOptions{})
}

func TestABrokenDownloadGoesOnWhereItBroke(t *testing.T) {
	reg := newRegistry(t)
	ref := reg.push(t, imageOf(t, gzipLayer(t, file("a", noise(1, 4<<20)))), "app")
	s := openStore(t, t.TempDir(), Options{})
	var ranges []string
	reg.setBend(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		ranges = append(ranges, r.Header.Get("Range"))
		if len(ranges) == 2 { // the layer comes after the config
			w.Header().Set("Content-Length", "4000000")
			_, _ = w.Write(firstBytes(t, 1<<20))
			panic(http.ErrAbortHandler)
		}
		return false
	})
	img := pull(t, s, ref, PullOptions{})
	if got := contents(t, img.RootfsPath)["/a"]; !strings.HasSuffix(got, sumOf(noise(1, 4<<20))) {
		t.Errorf("content differs: %s", got)
	}
	if len(ranges) != 3 || !strings.HasPrefix(ranges[2], "bytes=1048576-") {
		t.Errorf("ranges asked for: %q", ranges)
	}
}

// firstBytes returns the start of an image's only layer.
func firstBytes(tb testing.TB, n int) []byte {
	tb.Helper()
	return gzipped(tb, tarOf(tb, file("a", noise(1, 4<<20))))[:n]
}

func TestCredentials(t *testing.T) {
	reg := newRegistry(t)
	ref := reg.push(t, imageOf(t, gzipLayer(t, file("a", []byte("1")))), "private")
	reg.setBend(func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, _ := r.BasicAuth(); user == "ann" && password == "right" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	s := openStore(t, t.TempDir(), Options{})
	with := func(password string) PullOptions {
		return PullOptions{Platform: testPlatform, Credentials: func(_ context.Context, host string) (Credentials, error) {
			if host != reg.host {
				t.Errorf("credentials asked for %q, want %q", host, reg.host)
			}
			return Credentials{Username: "ann", Password: password}, nil
		}}
	}
	_, err := s.Pull(t.Context(), ref, PullOptions{Platform: testPlatform})
	wantFault(t, err, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID, "private")
	_, err = s.Pull(t.Context(), ref, with("wrong"))
	wantFault(t, err, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID)
	if strings.Contains(err.Error(), "wrong:") || strings.Contains(err.Error(), "ann") {
		t.Errorf("error shows credentials: %v", err)
	}
	pull(t, s, ref, with("right"))
}

func TestIndexesAndLayouts(t *testing.T) {
	reg, dir := newRegistry(t), t.TempDir()
	amd := imageOf(t, gzipLayer(t, file("amd", nil)))
	arm := imageFor(t, v1.Platform{OS: "linux", Architecture: "arm64"}, gzipLayer(t, file("arm", nil)))
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: imageOf(t, gzipLayer(t, file("attestation", nil))), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}},
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
	)
	ref, err := name.ParseReference(reg.host + "/multi:1")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	if err := remote.WriteIndex(ref, index, remote.WithTransport(transport)); err != nil {
		t.Fatal(err)
	}
	path, err := layout.Write(filepath.Join(dir, "a folder"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	annotate := func(tag string) layout.Option {
		return layout.WithAnnotations(map[string]string{tagAnnotation: tag})
	}
	if err := errors.Join(path.AppendIndex(index, annotate("multi")), path.AppendImage(amd, annotate("amd:x")), path.AppendImage(arm, annotate("latest"))); err != nil {
		t.Fatal(err)
	}
	amdDigest, _ := amd.Digest()
	armDigest, _ := arm.Digest()
	indexDigest, _ := index.Digest()
	folder := "oci-layout:" + string(path)
	tests := []struct {
		ref, platform string
		want          v1.Hash
	}{
		{ref.Name(), "linux/amd64", amdDigest},
		{ref.Name(), "linux/arm64", armDigest},
		{reg.host + "/multi@" + indexDigest.String(), "linux/arm64", armDigest},
		{folder + ":multi", "linux/amd64", amdDigest},
		{folder + ":multi", "linux/arm64", armDigest},
		{folder, "linux/arm64", armDigest},
		{folder + "@" + amdDigest.String(), "linux/amd64", amdDigest},
	}
	s := openStore(t, filepath.Join(dir, "store"), Options{})
	for _, tt := range tests {
		if img := pull(t, s, tt.ref, PullOptions{Platform: tt.platform}); img.Digest != tt.want.String() || img.Platform != tt.platform {
			t.Errorf("%s for %s is %s for %s, want %s", tt.ref, tt.platform, img.Digest, img.Platform, tt.want)
		}
	}
	_, err = s.Pull(t.Context(), ref.Name(), PullOptions{Platform: "linux/s390x"})
	wantFault(t, err, providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE, "linux/s390x", "linux/amd64, linux/arm64")
	_, err = s.Pull(t.Context(), folder+":none", PullOptions{Platform: testPlatform})
	wantFault(t, err, providerv1.ErrorReason_ERROR_REASON_IMAGE_NOT_FOUND, "multi")
}
