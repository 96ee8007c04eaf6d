package local_test

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// odd is a name that has to survive every layer.
const odd = "/tmp/ä b\n'\"$(x)-\\"

func (p *plugin) write(r *providerv1.SandboxRef, path string, data []byte, commit bool) error {
	p.t.Helper()
	stream, err := p.client.WriteFile(p.ctx())
	if err != nil {
		return err
	}
	frames := []*providerv1.WriteFileRequest{{Frame: &providerv1.WriteFileRequest_Open{Open: &providerv1.WriteFileOpen{Sandbox: r, Path: path, MakeParents: true}}}}
	for len(data) > 0 {
		n := min(len(data), 32<<10)
		frames = append(frames, &providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Data{Data: data[:n]}})
		data = data[n:]
	}
	if commit {
		frames = append(frames, &providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Commit{Commit: &providerv1.WriteFileCommit{}}})
	}
	for _, f := range frames {
		if stream.Send(f) != nil {
			break
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

func (p *plugin) read(r *providerv1.SandboxRef, path string) ([]byte, error) {
	p.t.Helper()
	stream, err := p.client.ReadFile(p.ctx(), &providerv1.ReadFileRequest{Sandbox: r, Path: path})
	if err != nil {
		return nil, err
	}
	var out []byte
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, m.GetData()...)
	}
}

func TestFiles(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	data := make([]byte, 5<<20+7)
	_, _ = rand.Read(data)
	for _, path := range []string{"/srv/deep/er/blob", odd} {
		if err := p.write(sb, path, data, true); err != nil {
			t.Fatalf("write %q: %v", path, err)
		}
		got, err := p.read(sb, path)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("read %q: %d bytes, %v", path, len(got), err)
		}
	}
	// A write that is never committed changes nothing.
	if err := p.write(sb, "/srv/deep/er/blob", []byte("half"), false); err == nil {
		t.Error("a write without commit succeeded")
	}
	if got, _ := p.read(sb, "/srv/deep/er/blob"); !bytes.Equal(got, data) {
		t.Errorf("after a cut write: %d bytes", len(got))
	}
	if _, err := p.read(sb, "/no/such"); !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND) {
		t.Errorf("missing file: %v", err)
	}
	err := p.write(sb, "/proc/version", []byte("x"), true)
	if e := fault.From(err); e == nil || e.Reason != providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED || e.Metadata["errno"] == "" {
		t.Errorf("write to /proc: %v", err)
	}
	list, err := p.client.ListFiles(p.ctx(), &providerv1.ListFilesRequest{Sandbox: sb, Path: "/srv", Recursive: true})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range list.GetFiles() {
		names = append(names, f.GetPath())
	}
	if diff := cmp.Diff([]string{"/srv/deep", "/srv/deep/er", "/srv/deep/er/blob"}, names); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
}

func (p *plugin) upload(r *providerv1.SandboxRef, path string, archive []byte) error {
	p.t.Helper()
	stream, err := p.client.UploadArchive(p.ctx())
	if err != nil {
		return err
	}
	_ = stream.Send(&providerv1.UploadArchiveRequest{Frame: &providerv1.UploadArchiveRequest_Open{Open: &providerv1.UploadArchiveOpen{Sandbox: r, Path: path}}})
	for len(archive) > 0 {
		n := min(len(archive), 32<<10)
		if stream.Send(&providerv1.UploadArchiveRequest{Frame: &providerv1.UploadArchiveRequest_Data{Data: archive[:n]}}) != nil {
			break
		}
		archive = archive[n:]
	}
	_, err = stream.CloseAndRecv()
	return err
}

func tarOf(headers ...*tar.Header) []byte {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range headers {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		body := []byte{}
		if h.Typeflag == tar.TypeReg {
			body = []byte("evil")
			h.Size = int64(len(body))
		}
		if err := errors.Join(tw.WriteHeader(h)); err != nil {
			panic(err)
		}
		_, _ = tw.Write(body)
	}
	_ = tw.Close()
	return buf.Bytes()
}

func TestArchivesCannotEscape(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	for name, archive := range map[string][]byte{
		"through a link in the archive": tarOf(&tar.Header{Name: "l", Linkname: "/etc", Typeflag: tar.TypeSymlink}, &tar.Header{Name: "l/owned"}),
		"through a link chain":          tarOf(&tar.Header{Name: "a", Linkname: "..", Typeflag: tar.TypeSymlink}, &tar.Header{Name: "a/owned"}),
	} {
		t.Run(name, func(t *testing.T) {
			if err := p.upload(sb, "/srv/in", archive); !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED) {
				t.Errorf("got %v", err)
			}
		})
	}
	if got := p.sh(sb, "ls /etc/owned /srv/owned 2>/dev/null"); got.stdout != "" {
		t.Errorf("escaped: %+v", got)
	}
	if err := p.upload(sb, "/srv/in", tarOf(&tar.Header{Name: "ok"})); err != nil {
		t.Fatal(err)
	}
	if got, err := p.read(sb, "/srv/in/ok"); err != nil || string(got) != "evil" {
		t.Errorf("good archive: %q %v", got, err)
	}
	if err := p.upload(sb, "/srv/in", tarOf(&tar.Header{Name: "cut"})[:700]); err == nil {
		t.Error("a cut archive was accepted")
	}
}

func TestPorts(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	p.startExec(sb, &providerv1.ExecSpec{Argv: []string{"python3", "-c", `
import socket
s = socket.socket(); s.bind(("127.0.0.1", 8123)); s.listen()
while True:
    c, _ = s.accept()
    data = b""
    while True:
        b = c.recv(65536)
        if not b: break
        data += b
    c.sendall(data[::-1]); c.close()
`}})
	for range 200 {
		resp, err := p.client.ListPorts(p.ctx(), &providerv1.ListPortsRequest{Sandbox: sb})
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.GetPorts()) == 1 && resp.GetPorts()[0].GetPort() == 8123 && resp.GetPorts()[0].GetAddress() == "127.0.0.1" {
			break
		}
	}
	if got, err := p.tunnel(sb, 8123, "hello"); err != nil || got != "olleh" {
		t.Errorf("tunnel: %q %v", got, err)
	}
	if _, err := p.tunnel(sb, 8124, ""); !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_PORT_REFUSED) {
		t.Errorf("closed port: %v", err)
	}
}

// tunnel sends text, half-closes, and returns what comes back.
func (p *plugin) tunnel(r *providerv1.SandboxRef, port uint32, text string) (string, error) {
	p.t.Helper()
	stream, err := p.client.OpenTunnel(p.ctx())
	if err != nil {
		return "", err
	}
	send := func(f *providerv1.TunnelFrame) { _ = stream.Send(&providerv1.OpenTunnelRequest{Frame: f}) }
	send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Open{Open: &providerv1.TunnelOpen{
		Target: &providerv1.TunnelOpen_Port{Port: &providerv1.PortTarget{Sandbox: r, Port: port}},
	}}})
	if _, err := stream.Recv(); err != nil {
		return "", err
	}
	send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Data{Data: []byte(text)}})
	send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_HalfClose{HalfClose: &providerv1.TunnelHalfClose{}}})
	var out []byte
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return string(out), nil
		}
		if err != nil {
			return "", err
		}
		out = append(out, m.GetFrame().GetData()...)
	}
}

// TestMounts: ro refuses, rw writes through, overlay never changes its source
// and shows in the difference.
func TestMounts(t *testing.T) {
	p := start(t)
	src, err := os.MkdirTemp("", "src")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(src) })
	if err := os.WriteFile(filepath.Join(src, "f"), []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	mount := func(target string, mode providerv1.MountMode) *providerv1.Mount {
		return &providerv1.Mount{Target: target, Source: &providerv1.Mount_HostPath{HostPath: src}, Mode: mode}
	}
	sb := p.create(&providerv1.SandboxSpec{Mounts: []*providerv1.Mount{
		mount("/ro", providerv1.MountMode_MOUNT_MODE_RO), mount("/rw", providerv1.MountMode_MOUNT_MODE_RW),
		mount("/cow", providerv1.MountMode_MOUNT_MODE_OVERLAY),
	}})
	if got := p.sh(sb, "echo x > /ro/f"); got.exit.GetCode() == 0 {
		t.Errorf("a read-only mount took a write: %+v", got)
	}
	if got := p.sh(sb, "echo new > /rw/g; echo changed > /cow/f; echo added > /cow/h; rm /cow/g 2>/dev/null; touch /srv/own"); got.exit.GetCode() != 0 {
		t.Errorf("%+v", got)
	}
	if b, _ := os.ReadFile(filepath.Join(src, "f")); string(b) != "old\n" {
		t.Errorf("the source of an overlay changed: %q", b)
	}
	if b, _ := os.ReadFile(filepath.Join(src, "g")); string(b) != "new\n" {
		t.Errorf("a write did not go through: %q", b)
	}
	if _, err := os.Stat(filepath.Join(src, "h")); err == nil {
		t.Error("a file added to an overlay shows in its source")
	}
	if diff := cmp.Diff([]string{"M /cow/f", "D /cow/g", "A /cow/h"}, p.diff(sb, "/cow")); diff != "" {
		t.Errorf("diff of the overlay (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"A /srv/own"}, p.diff(sb, "")); diff != "" {
		t.Errorf("diff of the root (-want +got):\n%s", diff)
	}
}

func (p *plugin) diff(r *providerv1.SandboxRef, target string) []string {
	p.t.Helper()
	stream, err := p.client.DiffFiles(p.ctx(), &providerv1.DiffFilesRequest{Sandbox: r, MountTarget: target})
	if err != nil {
		p.t.Fatal(err)
	}
	var out []string
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			p.t.Fatal(err)
		}
		for _, c := range m.GetChanges() {
			out = append(out, strings.TrimPrefix(c.GetKind().String(), "FILE_CHANGE_KIND_")[:1]+" "+c.GetPath())
		}
	}
}

func TestVolumes(t *testing.T) {
	p := start(t)
	if _, err := p.client.CreateVolume(p.ctx(), &providerv1.CreateVolumeRequest{Owner: owner, Name: "data"}); err != nil {
		t.Fatal(err)
	}
	spec := &providerv1.SandboxSpec{Mounts: []*providerv1.Mount{{
		Target: "/data", Source: &providerv1.Mount_Volume{Volume: "data"}, Mode: providerv1.MountMode_MOUNT_MODE_RW,
	}}}
	first := p.create(spec)
	if got := p.sh(first, "echo kept > /data/f"); got.exit.GetCode() != 0 {
		t.Fatalf("%+v", got)
	}
	_, err := p.client.DeleteVolume(p.ctx(), &providerv1.DeleteVolumeRequest{Owner: owner, Name: "data"})
	if !fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_OBJECT_IN_USE) {
		t.Errorf("delete in use: %v", err)
	}
	over := p.create(&providerv1.SandboxSpec{Mounts: []*providerv1.Mount{{
		Target: "/data", Source: &providerv1.Mount_Volume{Volume: "data"}, Mode: providerv1.MountMode_MOUNT_MODE_OVERLAY,
	}}})
	if got := p.sh(over, "echo changed > /data/f; echo new > /data/g"); got.exit.GetCode() != 0 {
		t.Errorf("%+v", got)
	}
	p.pause(over)
	p.resume(over)
	if diff := cmp.Diff([]string{"M /data/f", "A /data/g"}, p.diff(over, "/data")); diff != "" {
		t.Errorf("difference of the overlay (-want +got):\n%s", diff)
	}
	if got := p.sh(over, "cat /data/f"); got.stdout != "changed\n" {
		t.Errorf("in the overlay: %+v", got)
	}
	if got := p.sh(first, "cat /data/f; ls /data"); got.stdout != "kept\nf\n" {
		t.Errorf("below the overlay: %+v", got)
	}
	p.delete(over)
	p.delete(first)
	if got := p.sh(p.create(spec), "cat /data/f"); got.stdout != "kept\n" {
		t.Errorf("%+v", got)
	}
	p.deleteAll()
	if _, err := p.client.DeleteVolume(p.ctx(), &providerv1.DeleteVolumeRequest{Owner: owner, Name: "data"}); err != nil {
		t.Error(err)
	}
}

// TestLimitsHold: a fork bomb and a full disk stop at their limits, and the
// sandbox goes on.
func TestLimitsHold(t *testing.T) {
	p := start(t)
	sb := p.create(&providerv1.SandboxSpec{Resources: &providerv1.Resources{Pids: 64, DiskBytes: 64 << 20, CpuMillis: 1000}})
	p.sh(sb, "for i in $(seq 200); do sleep 5 & done 2>/dev/null; exit 0")
	got := p.sh(sb, "ls /proc | grep -c '^[0-9]'")
	var n int
	if _, err := fmt.Sscan(got.stdout, &n); got.exit.GetCode() == 0 && (err != nil || n > 64) {
		t.Errorf("%d processes of 64 allowed: %+v", n, got)
	}
	other := p.create(&providerv1.SandboxSpec{Resources: &providerv1.Resources{DiskBytes: 64 << 20}})
	got = p.sh(other, "dd if=/dev/zero of=/srv/fill bs=1M count=200 2>&1; rm /srv/fill; echo alive")
	if !strings.Contains(got.stdout, "No space left") || !strings.HasSuffix(got.stdout, "alive\n") {
		t.Errorf("full disk: %+v", got)
	}
	if got := p.sh(other, "nproc"); got.exit.GetCode() != 0 {
		t.Errorf("%+v", got)
	}
}

// TestNothingOfThisMachine: what lies in people's folders is not inside.
func TestNothingOfThisMachine(t *testing.T) {
	sentinel := "sentinel-" + rand.Text()
	dirs := []string{os.TempDir(), os.Getenv("HOME")}
	if os.Geteuid() == 0 {
		dirs = append(dirs, "/root", "/var/tmp", "/run", "/home", "/opt", "/srv")
	}
	for _, dir := range dirs {
		f, err := os.CreateTemp(dir, sentinel)
		if err != nil {
			continue
		}
		_, _ = f.WriteString(sentinel)
		_ = f.Close()
		t.Cleanup(func() { _ = os.Remove(f.Name()) })
	}
	p := start(t)
	sb := p.create(nil)
	got := p.sh(sb, "find / -xdev -name '*"+sentinel+"*' 2>/dev/null; grep -rl "+sentinel+" /etc /root /home /tmp /var /run /opt /srv /mnt /dev 2>/dev/null; ls -A /root /home /var/tmp /run/user 2>/dev/null")
	if strings.Contains(got.stdout, sentinel) {
		t.Errorf("inside: %q", got.stdout)
	}
}
