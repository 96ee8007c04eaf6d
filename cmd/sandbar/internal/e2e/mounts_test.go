package e2e_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMounts shows a project folder in each way, and takes changes out of the one
// that keeps them in the sandbox.
func TestMounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write("project/keep", "kept\n")
	w.write("project/change", "old\n")
	w.write("project/remove", "removed\n")
	project := filepath.Join(w.dir, "project")
	change := "cd /work && echo new > change && rm remove && mkdir made && echo made > made/file && cat keep"

	sb := w.create("--mount", project+":/work")
	if out := w.sh(sb, change); out != "kept" {
		t.Errorf("keep is %q", out)
	}
	for name, want := range map[string]string{"keep": "kept\n", "change": "old\n", "remove": "removed\n"} {
		if got := w.read(filepath.Join(project, name)); got != want {
			t.Errorf("the project's %s is %q now", name, got)
		}
	}
	if _, err := os.Stat(project + "/made"); err == nil {
		t.Error("the project has a new folder")
	}
	diff := w.ok("diff", sb, "/work")
	for _, want := range []string{"change", "remove", "made/file"} {
		if !strings.Contains(diff, want) {
			t.Errorf("diff does not speak of %s: %q", want, diff)
		}
	}
	if strings.Contains(diff, "keep") {
		t.Errorf("diff speaks of what stayed: %q", diff)
	}
	w.ok("cp", sb+":/work", filepath.Join(w.dir, "result"))
	if got := w.read(w.dir + "/result/change"); got != "new\n" {
		t.Errorf("taken out: %q", got)
	}
	if _, err := os.Stat(w.dir + "/result/remove"); err == nil {
		t.Error("what was removed inside was taken out")
	}
	w.ok("rm", sb)

	res := w.run("run", "--mount", project+":/work:ro", "--", "sh", "-c", "cat /work/keep; echo no > /work/keep")
	if res.code == 0 || res.stdout != "kept\n" || !strings.Contains(res.stderr, "Read-only") {
		t.Errorf("ro: %+v", res)
	}
	if out := w.ok("run", "--mount", project+":/work:rw", "--", "sh", "-c", change); out != "kept" {
		t.Errorf("rw: %q", out)
	}
	if got := w.read(project + "/change"); got != "new\n" {
		t.Errorf("after rw: %q", got)
	}
	w.none()
}

// TestVolumes keeps data between sandboxes, and cannot be taken away from one.
func TestVolumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ok("volume", "create", "data")
	w.ok("run", "--volume", "data:/data", "--", "sh", "-c", "echo kept > /data/file")
	if out := w.ok("run", "--volume", "data:/data:ro", "--", "cat", "/data/file"); out != "kept" {
		t.Errorf("the next sandbox reads %q", out)
	}
	if res := w.run("run", "--volume", "data:/data:ro", "--", "touch", "/data/no"); res.code == 0 {
		t.Error("a volume that is mounted ro was written")
	}
	sb := w.create("--volume", "data:/data")
	w.wants(1, "data", "volume", "rm", "data")
	w.ok("pause", sb)
	w.wants(1, "data", "volume", "rm", "data")
	w.ok("resume", sb)
	if out := w.sh(sb, "cat /data/file"); out != "kept" {
		t.Errorf("after all this: %q", out)
	}
	w.ok("rm", sb)
	w.ok("volume", "rm", "data")
	w.wants(125, "data", "run", "--volume", "data:/data", "--", "true")
	w.none()
}

// TestPort reaches a server inside of a sandbox, and nothing after the sandbox.
func TestPort(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sb := w.guest()
	server := w.start("exec", sb, "--", "/guest", "http", "8080")
	if got := server.line(); got != "listening" {
		t.Fatalf("the server says %q", got)
	}
	if out := w.ok("ports", sb); !strings.Contains(out, "8080") {
		t.Errorf("ports: %q", out)
	}
	forward := w.start("port", "--local", "0", sb, "8080")
	address, _, _ := strings.Cut(forward.line(), " ")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, n := range []int{0, 1, 5 << 20} {
		res, err := client.Post("http://"+address+"/some/path", "", bytes.NewReader(make([]byte, n)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if want := "POST /some/path " + itoa(n) + " bytes"; string(body) != want || err != nil {
			t.Errorf("got %q, %v; want %q", body, err, want)
		}
	}
	// A broker that dies takes connections along, but not the forwarding.
	w.kill(broker, "")
	w.eventually("an answer after the broker's death", func() (bool, string) {
		res, err := client.Get("http://" + address + "/")
		if err != nil {
			return false, err.Error()
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK, res.Status
	})
	forward.signal(syscall.SIGINT)
	if res := forward.end(); res.code != 130 && res.code != 0 {
		t.Errorf("port ended with %+v", res)
	}
	w.ok("rm", sb)
	if res := server.end(); res.code == 0 {
		t.Errorf("the server's end: %+v", res)
	}
}
