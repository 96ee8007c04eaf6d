package image

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestLeasesKeepImages(t *testing.T) {
	reg := newRegistry(t)
	base := gzipLayer(t, file("base", noise(1, 1<<20)))
	one := reg.push(t, imageOf(t, base, gzipLayer(t, file("x", []byte("1")))), "one")
	two := reg.push(t, imageOf(t, base, gzipLayer(t, file("x", []byte("2")))), "two")
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	kept := pull(t, s, one, PullOptions{Owner: "sandbox/1\n"})
	loose := pull(t, s, two, PullOptions{})

	wantFault(t, s.Remove(t.Context(), kept.Digest), providerv1.ErrorReason_ERROR_REASON_OBJECT_IN_USE, "sandbox/1")
	result, err := s.GC(t.Context(), GCOptions{})
	if err != nil || cmp.Diff([]string{loose.Digest}, result.Images) != "" {
		t.Fatalf("GC removed %v, %v", result, err)
	}
	if blobs, _ := filepath.Glob(filepath.Join(dir, "blobs", "*")); len(blobs) != 2 {
		t.Errorf("layers left: %v, want the two of the image in use", blobs)
	}
	wantFault(t, s.Lease(t.Context(), loose.Digest, "late"), providerv1.ErrorReason_ERROR_REASON_IMAGE_NOT_FOUND)

	// A lease outlives its store.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, Options{})
	if owners, err := s.Owners(t.Context()); err != nil || !slices.Equal(owners, []string{"sandbox/1\n"}) {
		t.Errorf("owners %q, %v", owners, err)
	}
	if result, err := s.GC(t.Context(), GCOptions{}); err != nil || len(result.Images) != 0 {
		t.Errorf("GC removed %v, %v", result, err)
	}
	for range 2 { // the second has nothing to do
		if err := s.Release(t.Context(), "sandbox/1\n"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Remove(t.Context(), kept.Digest); err != nil {
		t.Fatal(err)
	}
	_, err = s.Get(t.Context(), kept.Digest)
	wantFault(t, err, providerv1.ErrorReason_ERROR_REASON_IMAGE_NOT_FOUND)
	if _, err := s.GC(t.Context(), GCOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"blobs", "images", "refs", "leases"} {
		if left, _ := os.ReadDir(filepath.Join(dir, sub)); len(left) > 0 {
			t.Errorf("left in %s: %v", sub, left)
		}
	}
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
}

func TestGCTakesTheLeastRecentlyUsedFirst(t *testing.T) {
	reg := newRegistry(t)
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	s := openStore(t, t.TempDir(), Options{Now: func() time.Time { return now }})
	var images []*Image
	for n, repo := range []string{"a", "b", "c"} {
		ref := reg.push(t, imageOf(t, gzipLayer(t, file("x", noise(uint64(n+1), 1<<20)))), repo)
		images = append(images, pull(t, s, ref, PullOptions{}))
		now = now.Add(time.Hour)
	}
	pull(t, s, reg.host+"/a", PullOptions{}) // used again: b is the oldest now
	result, err := s.GC(t.Context(), GCOptions{MaxBytes: 5_500_000})
	if err != nil || cmp.Diff([]string{images[1].Digest}, result.Images) != "" {
		t.Fatalf("by size GC removed %v, %v", result.Images, err)
	}
	result, err = s.GC(t.Context(), GCOptions{KeepFor: 90 * time.Minute / 2})
	if err != nil || cmp.Diff([]string{images[2].Digest}, result.Images) != "" {
		t.Fatalf("by age GC removed %v, %v", result.Images, err)
	}
}

func TestRemoveDuringAPullIsRefusedOrSeen(t *testing.T) {
	reg := newRegistry(t)
	ref := reg.push(t, imageOf(t, gzipLayer(t, file("x", noise(1, 1000)))), "app")
	s := openStore(t, t.TempDir(), Options{})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := s.GC(context.Background(), GCOptions{}); err != nil {
				t.Errorf("GC: %v", err)
				return
			}
		}
	}()
	for range 50 {
		img := pull(t, s, ref, PullOptions{Owner: "box"})
		if _, err := os.Stat(img.RootfsPath); err != nil {
			t.Fatalf("a leased image lost its file: %v", err)
		}
		if err := s.Release(t.Context(), "box"); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	<-done
}

func TestAClosedStoreSaysSo(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := s.Pull(t.Context(), "app", PullOptions{})
	wantFault(t, err, providerv1.ErrorReason_ERROR_REASON_DRAINING)
	_, err = s.List(t.Context())
	wantFault(t, err, providerv1.ErrorReason_ERROR_REASON_DRAINING)
	_, err = Open(t.Context(), "relative", Options{})
	wantFault(t, err, providerv1.ErrorReason_ERROR_REASON_HOST_UNSUPPORTED, "absolute")
}
