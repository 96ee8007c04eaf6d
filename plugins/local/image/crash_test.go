package image

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// childPull is the test process executed again: it pulls what the file ref says
// into the folder store, both in its working directory, until it is killed.
func childPull() {
	here, err := os.Getwd()
	if err == nil {
		err = childPullIn(here)
	}
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
	}
	os.Exit(3)
}

func childPullIn(dir string) error {
	ref, err := os.ReadFile("ref")
	if err != nil {
		return err
	}
	s, err := Open(context.Background(), filepath.Join(dir, "store"), Options{})
	if err != nil {
		return err
	}
	_, err = s.Pull(context.Background(), string(ref), PullOptions{Platform: testPlatform})
	return err
}

// A process killed in the middle of a download or of flattening leaves nothing
// that can be seen, and the next Open clears what it had.
func TestKilledPullLeavesNothing(t *testing.T) {
	reg := newRegistry(t)
	small := gzipLayer(t, file("first", noise(1, 1<<20)))
	ref := reg.push(t, imageOf(t, small, gzipLayer(t, file("a", noise(2, 8<<20)))), "app")
	hold := make(chan struct{})
	reached := make(chan struct{}, 10)
	served := 0
	// The config and one layer pass; the other layer stops half-way.
	reg.setBend(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		digest, err := small.Digest()
		if err != nil || strings.HasSuffix(r.URL.Path, digest.String()) {
			return false
		}
		if served++; served == 1 {
			return false
		}
		w.Header().Set("Content-Length", "8000000")
		_, _ = w.Write(make([]byte, 4<<20))
		_ = http.NewResponseController(w).Flush()
		reached <- struct{}{}
		select {
		case <-hold:
		case <-r.Context().Done():
		}
		return true
	})
	defer close(hold)
	here := t.TempDir()
	dir := filepath.Join(here, "store")
	if err := os.WriteFile(filepath.Join(here, "ref"), []byte(ref), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self)
	child.Dir, child.Env = here, []string{"IMAGE_TEST_CHILD=1"}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	<-reached
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err == nil || child.ProcessState.ExitCode() != -1 {
		t.Fatalf("child ended with %v before it was killed", err)
	}
	// The test shows something only if the child was in the middle of both.
	left := strings.Join(leftovers(t, dir), " ")
	if !strings.Contains(left, "/blob-") || !strings.Contains(left, "/image-") {
		t.Fatalf("the child left %s, want half a layer and half an image", left)
	}
	reg.setBend(nil)
	s := openStore(t, dir, Options{})
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left in tmp after Open: %v", left)
	}
	if images, err := s.List(t.Context()); err != nil || len(images) > 0 {
		t.Errorf("images %v, %v", images, err)
	}
	img := pull(t, s, ref, PullOptions{})
	if got := contents(t, img.RootfsPath)["/a"]; !strings.HasSuffix(got, sumOf(noise(2, 8<<20))) {
		t.Errorf("content after the retry: %s", got)
	}
}

// An open store's work is not taken for a dead one's.
func TestASecondStoreSparesTheFirst(t *testing.T) {
	dir := t.TempDir()
	first := openStore(t, dir, Options{})
	if err := os.WriteFile(filepath.Join(first.work.path, "busy"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	second := openStore(t, dir, Options{})
	if left := leftovers(t, dir); len(left) != 1 {
		t.Errorf("work of the first store: %v", left)
	}
	reg := newRegistry(t)
	ref := reg.push(t, imageOf(t, gzipLayer(t, file("a", nil))), "app")
	img := pull(t, first, ref, PullOptions{})
	if got, err := second.Get(t.Context(), img.Digest); err != nil || got.Refs[0] != ref {
		t.Errorf("the second store sees %+v, %v", got, err)
	}
}
