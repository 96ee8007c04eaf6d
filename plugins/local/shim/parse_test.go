package shim

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestListening(t *testing.T) {
	table := `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2
   2: 0100007F:1F91 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 3
   3: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0 0 0 0 0 0
   4: 0000000000000000FFFF00000100007F:0051 00000000000000000000000000000000:0000 0A 0 0 0 0 0 0
   5: garbage:zz 0 0A
`
	got, err := listening(strings.NewReader(table))
	if err != nil {
		t.Fatal(err)
	}
	want := []*providerv1.Port{
		{Port: 8080, Address: "127.0.0.1"}, {Port: 22, Address: "0.0.0.0"}, {Port: 80, Address: "::1"}, {Port: 81, Address: "127.0.0.1"},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("listening (-want +got):\n%s", diff)
	}
}

// TestArchiveCount: whole archives are counted, cut ones are told, whatever the
// size of the pieces they come in.
func TestArchiveCount(t *testing.T) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "d/f", Mode: 0o644, Size: 5},
		{Typeflag: tar.TypeSymlink, Name: "d/l", Linkname: "f"},
	} {
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			_, _ = tw.Write([]byte("hello"))
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	whole := buf.Bytes()
	for cut := 0; cut <= len(whole); cut += 100 {
		c := &archiveCount{}
		in, done := c.watch(io.LimitReader(bytes.NewReader(whole), int64(cut)))
		_, rerr := io.CopyBuffer(io.Discard, struct{ io.Reader }{in}, make([]byte, 7))
		if err := done(rerr); err == nil {
			t.Errorf("an archive cut at %d of %d passed", cut, len(whole))
		}
	}
	c := &archiveCount{}
	in, done := c.watch(bytes.NewReader(whole))
	if _, err := io.Copy(io.Discard, in); err != nil {
		t.Fatal(err)
	}
	if err := done(nil); err != nil || c.files != 2 || c.bytes != 5 {
		t.Errorf("whole archive: %d files, %d bytes, %v", c.files, c.bytes, err)
	}
}

func TestResolveKeepsWhatTheKernelMustDecide(t *testing.T) {
	for _, tc := range []struct{ at, target, want string }{
		{"/a/l", "/x/../y", "/y"},
		{"/a/l", "b", "/a/b"},
		{"/a/l", "../b", "/a/../b"}, // /a may itself be a link
	} {
		if got := resolve(tc.at, tc.target); got != tc.want {
			t.Errorf("resolve(%q, %q) = %q, want %q", tc.at, tc.target, got, tc.want)
		}
	}
}
