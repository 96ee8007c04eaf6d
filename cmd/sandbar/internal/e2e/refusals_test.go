package e2e_test

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func itoa(n int) string { return strconv.Itoa(n) }

// TestBadFlags: a refusal names the flag, the value and what would be right, and
// starts nothing, not even the broker.
func TestBadFlags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tc := range []struct {
		code int
		says []string
		args []string
	}{
		{125, []string{"--memory", `"lots"`, "512MiB"}, []string{"run", "--memory", "lots", "--", "true"}},
		{125, []string{"--cpu", `"-1"`}, []string{"run", "--cpu=-1", "--", "true"}},
		{125, []string{"--pids", "-5"}, []string{"run", "--pids=-5", "--", "true"}},
		{125, []string{"--timeout", `"soon"`}, []string{"run", "--timeout", "soon", "--", "true"}},
		{125, []string{"--lifetime", `"x"`}, []string{"run", "--lifetime", "x", "--", "true"}},
		{125, []string{"--mount", "relative", "SRC:/absolute/path"}, []string{"run", "--mount", "a:relative", "--", "true"}},
		{125, []string{"--mount", "/no/such/folder"}, []string{"run", "--mount", "/no/such/folder:/x", "--", "true"}},
		{125, []string{"--mount", "sideways", "ro, rw or overlay"}, []string{"run", "--mount", "/tmp:/x:sideways", "--", "true"}},
		{125, []string{"--env", "=x"}, []string{"run", "-e", "=x", "--", "true"}},
		{125, []string{"--env-file", "/no/such"}, []string{"run", "--env-file", "/no/such", "--", "true"}},
		{125, []string{"--nonsense"}, []string{"run", "--nonsense", "--", "true"}},
		{125, []string{"command"}, []string{"run"}},
		{125, []string{"--tty"}, []string{"run", "--tty", "--", "true"}},
		{2, []string{"--idle-action", "explode", "delete"}, []string{"create", "--idle-action", "explode"}},
		{2, []string{"--count", "65"}, []string{"fork", "-n", "65", "x"}},
		{2, []string{"70000", "65535"}, []string{"port", "x", "70000"}},
		{2, []string{"--signal", "NOPE"}, []string{"kill", "-s", "NOPE", "x", "y"}},
		{2, []string{"neither side"}, []string{"cp", "/a", "/b"}},
		{2, []string{"nonsense"}, []string{"nonsense"}},
	} {
		res := w.run(tc.args...)
		for _, says := range tc.says {
			if !strings.Contains(res.stderr, says) {
				t.Errorf("%q does not speak of %q: %q", tc.args, says, res.stderr)
			}
		}
		if res.code != tc.code || res.stdout != "" {
			t.Errorf("%q: %+v, want code %d", tc.args, res, tc.code)
		}
	}
	if all := w.processes(); len(all) != 0 {
		t.Errorf("something was started:%s", describe(all))
	}
}

// TestBadConfiguration: the message names file, line, field, value and remedy.
func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for text, says := range map[string]string{
		"log: {level: loud}\n":                  `:1: log.level is "loud": want one of`,
		"nonsense: 1\n":                         ":1: nonsense is not a setting",
		"defaults:\n  lifetime: 5\n":            `:2: defaults.lifetime is "5": want a time such as`,
		"listen: {tcp: '9464'}\n":               `:1: listen.tcp is "9464": want`,
		"providers: [{name: local, binary: x}]": "binary",
	} {
		file := w.write("config.yaml", text)
		res := w.run("serve", "--config", file)
		if res.code == 0 || !strings.Contains(res.stderr, says) {
			t.Errorf("%q: %+v, want %q", text, res, says)
		}
		// The broker that a command starts says the same through the command.
		cmd := w.command("ls")
		cmd.Env = append(slices.Clone(w.env), "SANDBAR_CONFIG="+file)
		if res := w.finish(cmd); res.code == 0 || !strings.Contains(res.stderr, says) {
			t.Errorf("ls with %q: %+v, want %q", text, res, says)
		}
	}
	w.wants(1, "/no/such/file", "serve", "--config", "/no/such/file")
	if all := w.processes(); len(all) != 0 {
		t.Errorf("something was started:%s", describe(all))
	}
}

func layerOf(t *testing.T, files map[string][]byte, mode int64) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for name, content := range files {
		if err := tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(content)), Mode: mode}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// TestImages runs a program of an image that has nothing else, and refuses what
// is not there.
func TestImages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	guest, err := os.ReadFile(filepath.Join(binaries, "guest"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layerOf(t, map[string][]byte{"guest": guest}, 0o755), layerOf(t, map[string][]byte{"etc/text": []byte("no program")}, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.ParseReference(host + "/some/image:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	ref := host + "/some/image:v1"
	w.wants(127, "/no/program", "run", "--image", ref, "--", "/no/program")
	w.wants(126, "/etc/text", "run", "--image", ref, "--", "/etc/text")
	if res := w.run("run", "--image", ref, "--", "/guest", "hello"); res != (result{0, "hello from the image\n", ""}) {
		t.Errorf("an image's program: %+v", res)
	}
	w.wants(125, host+"/some/image:v2", "run", "--image", host+"/some/image:v2", "--", "true")
	w.wants(125, "127.0.0.1:1", "run", "--image", "127.0.0.1:1/none:none", "--", "true")
	w.wants(125, "Not/A:Ref:", "run", "--image", "Not/A:Ref:", "--", "true")
	w.wants(125, "nothing", "run", "--provider", "nothing", "--", "true")
	w.none()
}
