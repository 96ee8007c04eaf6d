package portable_test

import (
	"context"
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// TestRegistriesKeepIt pushes a snapshot and pulls it with somebody else's code; what
// comes back is the same snapshot.
func TestRegistriesKeepIt(t *testing.T) {
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	dir := filepath.Join(t.TempDir(), "s")
	manifest, err := write(t, dir, somePaths, some())
	if err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil || len(m.Manifests) != 1 || m.Manifests[0].Digest.String() != manifest {
		t.Fatalf("the index has %+v, %v", m, err)
	}
	image, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(strings.TrimPrefix(srv.URL, "http://") + "/snapshots/web:latest")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := remote.Write(ref, image, remote.WithContext(ctx)); err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(ref, remote.WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	back := filepath.Join(t.TempDir(), "back")
	to, err := layout.Write(back, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := to.AppendImage(pulled); err != nil {
		t.Fatal(err)
	}
	got, l, err := read(back)
	if err != nil {
		t.Fatal(err)
	}
	if l.Manifest != manifest || len(got) != len(some()) {
		t.Errorf("pulled %s with %d entries, want %s", l.Manifest, len(got), manifest)
	}
}
