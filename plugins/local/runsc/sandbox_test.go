package runsc_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/local/rootfs"
	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
)

var scenarios = map[string]func(context.Context, *env) error{
	"exec":      execScenario,
	"tty":       ttyScenario,
	"isolation": isolationScenario,
	"files":     filesScenario,
	"mounts":    mountsScenario,
	"dial":      dialScenario,
	"limits":    limitsScenario,
	"diff":      diffScenario,
	"save":      saveScenario,
	"resume":    resumeScenario,
	"fork":      forkScenario,
	"linger":    lingerScenario,
	"stdin":     stdinScenario, "stdin-again": stdinAgainScenario,
	"memory": memoryScenario,
	"image":  imageScenario, "image-again": imageAgainScenario,
	"speed": speedScenario,
}

func TestScenarios(t *testing.T) {
	work := workDir(t)
	for name, uid := range who(t) {
		for _, scenario := range []string{"exec", "tty", "isolation", "files", "mounts", "dial", "limits", "diff"} {
			t.Run(name+"/"+scenario, func(t *testing.T) {
				if out := inShim(t, work, uid, scenario); out != "" {
					t.Log(out)
				}
			})
		}
	}
}

func execScenario(ctx context.Context, e *env) error {
	sb, err := e.create(ctx)
	if err != nil {
		return err
	}
	cases := []struct {
		name string
		cmd  runsc.Command
		out  string
		exit runsc.Exit
	}{
		{"output and code", sh("echo out; echo err >&2; exit 7"), "out\nerr", runsc.Exit{Code: 7}},
		{"signal", sh("kill -9 $$"), "", runsc.Exit{Signal: syscall.SIGKILL}},
		{"default environment", runsc.Command{Argv: []string{"env"}}, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nHOME=/root\nLANG=C.UTF-8", runsc.Exit{}},
		{"given environment", runsc.Command{Argv: []string{"sh", "-c", "echo $A$HOME"}, Env: []string{"A=1", "HOME=/x"}}, "1/x", runsc.Exit{}},
		{"directory", runsc.Command{Argv: []string{"pwd"}, Dir: "/usr/bin"}, "/usr/bin", runsc.Exit{}},
		{"named user", runsc.Command{Argv: []string{"id"}, User: "sandbox"}, "uid=1000(sandbox) gid=1000(sandbox) groups=1000(sandbox)", runsc.Exit{}},
		{"numbers", runsc.Command{Argv: []string{"id", "-u"}, User: "4321:99"}, "4321", runsc.Exit{}},
		{"hostname", runsc.Command{Argv: []string{"cat", "/proc/sys/kernel/hostname"}}, "guest", runsc.Exit{}},
		{"no stdin", runsc.Command{Argv: []string{"cat"}}, "", runsc.Exit{}},
	}
	for _, c := range cases {
		out, exit, err := run(ctx, sb, c.cmd)
		if err != nil || out != c.out || exit != c.exit {
			return fmt.Errorf("%s: got %q %+v %v, want %q %+v", c.name, out, exit, err, c.out, c.exit)
		}
	}
	if _, err := sb.Start(ctx, runsc.Command{Argv: []string{"no-such-command"}}); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("missing command: %w", err)
	}
	if _, err := sb.Start(ctx, runsc.Command{Argv: []string{"id"}, User: "nobody-here"}); err == nil {
		return errors.New("unknown user was accepted")
	}
	return errors.Join(stdinWorks(ctx, sb), groupSignal(ctx, sb), sb.Close(ctx))
}

func stdinWorks(ctx context.Context, sb *runsc.Sandbox) error {
	ex, err := sb.Start(ctx, runsc.Command{ID: "sum", Argv: []string{"wc", "-c"}, Stdin: true})
	if err != nil {
		return err
	}
	if _, err := io.Copy(ex.Stdin, strings.NewReader(strings.Repeat("x", 3<<20))); err != nil {
		return err
	}
	_ = ex.Stdin.Close()
	out, err := io.ReadAll(ex.Stdout)
	if err != nil || strings.TrimSpace(string(out)) != "3145728" {
		return fmt.Errorf("stdin: %q %w", out, err)
	}
	if _, err := sb.Start(ctx, runsc.Command{ID: "sum", Argv: []string{"true"}}); !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("same id: %w", err)
	}
	return ex.Release(ctx)
}

func groupSignal(ctx context.Context, sb *runsc.Sandbox) error {
	ex, err := sb.Start(ctx, sh("sleep 1000 & echo up; wait"))
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(ex.Stdout, make([]byte, 3)); err != nil {
		return err
	}
	if err := ex.Signal(ctx, syscall.SIGTERM); err != nil {
		return err
	}
	// End of file proves that the background sleep, which holds the stream, is gone too.
	if _, err := io.ReadAll(ex.Stdout); err != nil {
		return err
	}
	if exit, err := ex.Wait(ctx); err != nil || exit.Signal != syscall.SIGTERM {
		return fmt.Errorf("signal: %+v %w", exit, err)
	}
	return ex.Signal(ctx, syscall.SIGKILL)
}

func ttyScenario(ctx context.Context, e *env) error {
	sb, err := e.create(ctx)
	if err != nil {
		return err
	}
	ex, err := sb.Start(ctx, runsc.Command{
		Argv: []string{"sh", "-c", "stty size; read x; echo got $x; stty size; test -t 2 && echo $TERM"},
		TTY:  &runsc.Size{Rows: 33, Cols: 77}, Stdin: true,
	})
	if err != nil {
		return err
	}
	buf := make([]byte, len("33 77\r\n"))
	if _, err := io.ReadFull(ex.Stdout, buf); err != nil || string(buf) != "33 77\r\n" {
		return fmt.Errorf("initial size: %q %w", buf, err)
	}
	if err := ex.Resize(ctx, runsc.Size{Rows: 5, Cols: 6}); err != nil {
		return err
	}
	if _, err := ex.Stdin.Write([]byte("hi\n")); err != nil {
		return err
	}
	rest, err := io.ReadAll(ex.Stdout)
	if want := "hi\r\ngot hi\r\n5 6\r\nxterm-256color\r\n"; err != nil || string(rest) != want {
		return fmt.Errorf("terminal: %q %w, want %q", rest, err, want)
	}
	if exit, err := ex.Wait(ctx); err != nil || exit.Code != 0 {
		return fmt.Errorf("terminal: %+v %w", exit, err)
	}
	return errors.Join(ex.Release(ctx), sb.Close(ctx))
}

func isolationScenario(ctx context.Context, e *env) error {
	sb, err := e.create(ctx)
	if err != nil {
		return err
	}
	checks := []struct{ script, want string }{
		{"ls -A /root /home /var/lib /run /tmp /mnt /opt /srv | grep -v : | grep -v '^$'", "sandbox\nlock"},
		{"cat /etc/shadow 2>&1 | grep -c such", "1"},
		{"cat /proc/*/environ | tr '\\0' '\\n' | grep -c -e CANARY -e SSH", "0"},
		{"echo x > /usr/bin/new && cat /usr/bin/new && rm /usr/bin/true && ls /usr/bin/true 2>&1 | grep -c such", "x\n1"},
		{"ls /etc/ssl/certs | wc -l | grep -vc '^0$'", "1"},
		{"ip link 2>/dev/null | grep -c eth; cat /proc/net/dev | grep -c :", "0\n1"},
		{"mount -t tmpfs none /mnt 2>&1 | grep -c -i denied", "1"},
		{"stat -c %a /tmp /root | tr '\\n' ' '", "1777 700"},
		{"cat /.sandbar/agent > /dev/null && echo x 2>/dev/null > /.sandbar/agent || echo ro", "ro"},
	}
	for _, c := range checks {
		if err := expect(ctx, sb, c.script, c.want); err != nil {
			return err
		}
	}
	if _, err := os.Stat("/usr/bin/new"); err == nil {
		return errors.New("guest wrote to the host")
	}
	return sb.Close(ctx)
}

func filesScenario(ctx context.Context, e *env) error {
	sb, err := e.create(ctx)
	if err != nil {
		return err
	}
	data := bytes.Repeat([]byte("0123456789"), 500_000)
	if err := sb.Mkdir(ctx, "/data/a/b", runsc.FileOptions{Recursive: true, User: "sandbox"}); err != nil {
		return err
	}
	if err := sb.WriteFile(ctx, "/data/a/f", bytes.NewReader(data), runsc.FileOptions{Mode: 0o600, User: "sandbox"}); err != nil {
		return err
	}
	broken := io.MultiReader(strings.NewReader("half"), brokenReader{})
	if err := sb.WriteFile(ctx, "/data/a/f", broken, runsc.FileOptions{}); err == nil {
		return errors.New("broken source was accepted")
	}
	r, err := sb.ReadFile(ctx, "/data/a/f", 5, 0)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, data[5:]) {
		return fmt.Errorf("read: %d bytes %w", len(got), err)
	}
	_ = r.Close()
	if _, err := sb.ReadFile(ctx, "/nope", 0, 0); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read missing: %w", err)
	}
	fi, err := sb.Stat(ctx, "/data/a/f")
	if err != nil || fi.Size != int64(len(data)) || fi.Mode&0o7777 != 0o600 || fi.UID != 1000 {
		return fmt.Errorf("stat: %+v %w", fi, err)
	}
	if err := sb.Rename(ctx, "/data/a/f", "/data/a/g"); err != nil {
		return err
	}
	var names []string
	err = sb.List(ctx, "/data/a", func(fi runsc.FileInfo) error { names = append(names, fi.Name); return nil })
	if err != nil || !slices.Equal(names, []string{"b", "g"}) {
		return fmt.Errorf("list: %v %w", names, err)
	}
	if err := sb.Remove(ctx, "/data/a", false); !errors.Is(err, syscall.ENOTEMPTY) {
		return fmt.Errorf("remove of a full directory: %w", err)
	}
	return errors.Join(tarWorks(ctx, sb), sb.Remove(ctx, "/data", true), sb.Close(ctx))
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("source broke") }

func tarWorks(ctx context.Context, sb *runsc.Sandbox) error {
	r, err := sb.Tar(ctx, "/data")
	if err != nil {
		return err
	}
	archive, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("tar: %w", err)
	}
	_ = r.Close()
	if err := sb.Mkdir(ctx, "/copy", runsc.FileOptions{}); err != nil {
		return err
	}
	if err := sb.Untar(ctx, "/copy", bytes.NewReader(archive), runsc.FileOptions{}); err != nil {
		return fmt.Errorf("untar: %w", err)
	}
	if err := expect(ctx, sb, "cmp /data/a/g /copy/a/g && stat -c '%u %a' /copy/a/g", "1000 600"); err != nil {
		return err
	}
	return errors.Join(archiveRoundTrip(ctx, sb), archiveEscapes(ctx, sb))
}

// archiveRoundTrip packs a tree of everything that an archive can hold, unpacks it and compares.
func archiveRoundTrip(ctx context.Context, sb *runsc.Sandbox) error {
	const make = `mkdir -p /t/d && cd /t && echo x > d/suid && chown 7:8 d/suid && chmod 6755 d/suid && ln d/suid hard && ln -s nowhere soft &&
		mkfifo pipe && touch "$(printf 'new\nline')" "$(printf 'not-utf8-\377')" && chmod 1777 d && mkdir ro && chmod 555 ro &&
		touch -d @1.5 d/suid && touch -h -d @2 soft && touch -d @3 d ro`
	const tell = `find . -mindepth 1 ! -name '*_' | sort | while read -r f; do stat -c '%n %f %u:%g %h %y' "$f"; done; readlink soft; ls | wc -l; cat hard`
	want, exit, err := run(ctx, sb, sh(make+"; "+tell))
	if err != nil || exit.Code != 0 {
		return fmt.Errorf("make tree: %q %+v %w", want, exit, err)
	}
	r, err := sb.Tar(ctx, "/t")
	if err != nil {
		return err
	}
	defer r.Close()
	if err := errors.Join(sb.Mkdir(ctx, "/u", runsc.FileOptions{}), sb.Untar(ctx, "/u", r, runsc.FileOptions{})); err != nil {
		return fmt.Errorf("round trip: %w", err)
	}
	return expect(ctx, sb, "cd /u; "+tell, want)
}

// archiveEscapes: no entry can reach outside, and one that tries is refused instead of put elsewhere.
func archiveEscapes(ctx context.Context, sb *runsc.Sandbox) error {
	reg := func(name string) *tar.Header { return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644} }
	for _, entries := range [][]*tar.Header{
		{{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, reg("link/passwd")},
		{{Name: "up", Typeflag: tar.TypeSymlink, Linkname: "../etc"}, reg("up/passwd")},
		{reg("/etc/passwd")},
		{reg("../etc/passwd")},
		{reg("a/../../etc/passwd")},
		{{Name: "hard", Typeflag: tar.TypeLink, Linkname: "../etc/passwd"}},
		{{Name: "hard", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
		{{Name: "device", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
	} {
		var evil bytes.Buffer
		tw := tar.NewWriter(&evil)
		for _, h := range entries {
			if err := tw.WriteHeader(h); err != nil {
				return err
			}
		}
		_ = tw.Close()
		if err := sb.Mkdir(ctx, "/evil", runsc.FileOptions{}); err != nil {
			return err
		}
		var ge *runsc.GuestError
		if err := sb.Untar(ctx, "/evil", &evil, runsc.FileOptions{}); !errors.As(err, &ge) {
			return fmt.Errorf("archive with %q: %w", entries[len(entries)-1].Name, err)
		}
		if err := expect(ctx, sb, "head -c4 /etc/passwd; find /evil -type f; rm -r /evil", "root"); err != nil {
			return err
		}
	}
	return nil
}

func mountsScenario(ctx context.Context, e *env) error {
	host := e.dir + "/host"
	for _, d := range []string{"rw", "ro", "cow"} {
		if err := os.MkdirAll(host+"/"+d, 0o777); err != nil {
			return err
		}
		if err := os.WriteFile(host+"/"+d+"/f", []byte(d), 0o666); err != nil {
			return err
		}
	}
	e.cfg.Mounts = []runsc.Mount{{Source: host + "/rw", Target: "/rw"}, {Source: host + "/ro", Target: "/ro", ReadOnly: true}}
	sb, err := e.create(ctx, rootfs.Bind{Source: host + "/cow", Target: "/work/cow"})
	if err != nil {
		return err
	}
	if err := expect(ctx, sb, "cat /rw/f /ro/f /work/cow/f; for d in /rw /ro /work/cow; do echo new 2>/dev/null > $d/f; done; cat /rw/f /ro/f /work/cow/f",
		"rwrocownew\nronew"); err != nil {
		return err
	}
	for d, want := range map[string]string{"rw": "new\n", "ro": "ro", "cow": "cow"} {
		if got, err := os.ReadFile(host + "/" + d + "/f"); err != nil || string(got) != want {
			return fmt.Errorf("mount %s on the host: %q %w", d, got, err)
		}
	}
	return sb.Close(ctx)
}

func dialScenario(ctx context.Context, e *env) error {
	sb, err := e.create(ctx)
	if err != nil {
		return err
	}
	ex, err := sb.Start(ctx, runsc.Command{Argv: []string{"python3", "-uc", `
import socket
s = socket.socket(); s.bind(("127.0.0.1", 8000)); s.listen(); print("up")
while True:
    c, _ = s.accept(); d = b""
    while True:
        b = c.recv(65536)
        if not b: break
        d += b
    c.sendall(d[::-1]); c.close()
`}})
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(e.out, "no python3 on this host: not run")
		return sb.Close(ctx)
	}
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(ex.Stdout, make([]byte, 3)); err != nil {
		return err
	}
	for range 3 {
		c, err := sb.Dial(ctx, "tcp", "127.0.0.1:8000")
		if err != nil {
			return err
		}
		if _, err := c.Write([]byte("abc")); err != nil {
			return err
		}
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			return err
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != "cba" {
			return fmt.Errorf("dial: %q %w", got, err)
		}
		_ = c.Close()
	}
	if _, err := sb.Dial(ctx, "tcp", "127.0.0.1:9"); !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("dial of a closed port: %w", err)
	}
	return sb.Close(ctx)
}

func limitsScenario(ctx context.Context, e *env) error {
	e.cfg.Limits = runsc.Limits{CPUs: 1, MemoryBytes: 256 << 20, DiskBytes: 32 << 20, Pids: 40}
	sb, err := e.create(ctx)
	if err != nil {
		return err
	}
	checks := []struct{ script, want string }{
		{"nproc; grep MemTotal /proc/meminfo | tr -d ' '", "1\nMemTotal:262144kB"},
		{"head -c 64M /dev/zero > /big 2>/dev/null; stat -c %s /big | awk '{print ($1 <= 33554432 && $1 > 30000000)}'; rm /big", "1"},
		{"head -c 64M /dev/zero > /tmp/big 2>/dev/null; stat -c %s /tmp/big | awk '{print ($1 <= 33554432)}'; rm /tmp/big", "1"},
		{"(echo 1000 > /sys/fs/cgroup/pids/pids.max) 2>/dev/null || echo refused", "refused"},
		{"mount -t cgroup none /mnt 2>&1 | grep -c -i denied; grep Cap[EB] /proc/self/status | cut -f2 | uniq", "1\n00000000a80405fb"},
		{"(for i in $(seq 100); do sleep 1000 & done) 2>&1 | grep -c -i -m1 -e resource -e fork; kill -9 -1", "1"},
	}
	for _, c := range checks {
		if err := expect(ctx, sb, c.script, c.want); err != nil {
			return err
		}
	}
	_, exit, err := run(ctx, sb, runsc.Command{Argv: []string{"python3", "-c", "b = []\nwhile True: b.append(bytearray(8 << 20))"}})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return sb.Close(ctx)
	case errors.Is(err, runsc.ErrOutOfMemory):
		fmt.Fprintln(e.out, "the whole sandbox was killed:", err)
		return sb.Close(ctx)
	case err != nil, !exit.OOM, exit.Signal != syscall.SIGKILL:
		return fmt.Errorf("memory limit: %+v %w", exit, err)
	}
	fmt.Fprintln(e.out, "only the process was killed")
	return errors.Join(expect(ctx, sb, "echo alive", "alive"), sb.Close(ctx))
}

func diffScenario(ctx context.Context, e *env) error {
	sb, err := e.create(ctx)
	if err != nil {
		return err
	}
	const script = "mkdir /new; echo 1 > /new/file; ln /new/file /new/link; rm /etc/profile; echo x > /tmp/x; rm /tmp/x; " +
		"rm -r /var/lib; mkdir /var/lib; rmdir /var/log; chmod 700 /opt"
	if err := expect(ctx, sb, script, ""); err != nil {
		return err
	}
	err = differs(ctx, sb, "-/etc/profile", "+/new", "+/new/file", "+/new/link", "*/opt", "-/var/log")
	return errors.Join(err, sb.Close(ctx))
}

func speedScenario(ctx context.Context, e *env) error {
	began := time.Now()
	sb, err := e.create(ctx)
	if err != nil {
		return err
	}
	booted := time.Since(began)
	if err := expect(ctx, sb, "echo hi", "hi"); err != nil {
		return err
	}
	first := time.Since(began)
	var took []time.Duration
	for range 200 {
		t := time.Now()
		if _, _, err := run(ctx, sb, runsc.Command{Argv: []string{"/bin/echo", "hi"}}); err != nil {
			return err
		}
		took = append(took, time.Since(t))
	}
	slices.Sort(took)
	ex, err := sb.Start(ctx, runsc.Command{Argv: []string{"dd", "if=/dev/zero", "bs=64k", "count=8192", "status=none"}})
	if err != nil {
		return err
	}
	t := time.Now()
	n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{ex.Stdout}, make([]byte, 256<<10))
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "boot %v, first command after %v, exec p50 %v p90 %v best %v, stdout %.0f MiB/s\n",
		booted, first, took[100], took[180], took[0], float64(n)/(1<<20)/time.Since(t).Seconds())
	return sb.Close(ctx)
}
