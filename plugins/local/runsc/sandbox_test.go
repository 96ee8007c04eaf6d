package runsc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
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
	"copies": copiesScenario, "copies-again": copiesAgainScenario,
	"bench": benchScenario,
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
		{"signals have their default meaning", sh("kill -USR1 $$"), "", runsc.Exit{Signal: syscall.SIGUSR1}},
		{"default environment", runsc.Command{Argv: []string{"env"}}, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nHOME=/root\nLC_CTYPE=C.UTF-8", runsc.Exit{}},
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
			return fmt.Errorf("%s: got %q %+v %w, want %q %+v", c.name, out, exit, err, c.out, c.exit)
		}
	}
	if _, err := sb.Start(ctx, runsc.Command{Argv: []string{"no-such-command"}}); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("missing command: %w", err)
	}
	// A child that did not become a program is reaped like any other.
	const noZombies = "while grep -qs '^State:.*Z' /proc/[0-9]*/status; do :; done; echo none"
	return errors.Join(refusals(ctx, sb), expect(ctx, sb, noZombies, "none"), readDeadline(ctx, sb), stdinWorks(ctx, sb), groupSignal(ctx, sb), sb.Close(ctx))
}

// refusals: the guest says which part of a command it refuses.
func refusals(ctx context.Context, sb *runsc.Sandbox) error {
	for _, c := range []struct {
		cmd  runsc.Command
		part runsc.Part
		is   error
	}{
		{runsc.Command{Argv: []string{"id"}, User: "nobody-here"}, runsc.PartUser, syscall.EINVAL},
		{runsc.Command{Argv: []string{"id"}, User: "0:no-group"}, runsc.PartUser, syscall.EINVAL},
		{runsc.Command{Argv: []string{"id"}, Dir: "/nope"}, runsc.PartDir, fs.ErrNotExist},
		{runsc.Command{Argv: []string{"id"}, Dir: "/etc/passwd"}, runsc.PartDir, syscall.ENOTDIR},
		{runsc.Command{Argv: []string{"no-such-program"}}, runsc.PartProgram, fs.ErrNotExist},
		{runsc.Command{Argv: []string{"/etc/passwd"}}, runsc.PartProgram, fs.ErrPermission},
		{runsc.Command{}, "", syscall.EINVAL},
	} {
		_, err := sb.Start(ctx, c.cmd)
		var ge *runsc.GuestError
		if !errors.As(err, &ge) || ge.Part != c.part || !errors.Is(err, c.is) {
			return fmt.Errorf("start %+v: %w, want part %q", c.cmd, err, c.part)
		}
	}
	if n := len(sb.Execs()); n != 0 {
		return fmt.Errorf("%d execs are left of refused ones", n)
	}
	return nil
}

// readDeadline: a reader comes to a rest and takes up again without losing a byte.
func readDeadline(ctx context.Context, sb *runsc.Sandbox) error {
	ex, err := sb.Start(ctx, runsc.Command{Argv: []string{"cat"}, Stdin: true})
	if err != nil {
		return err
	}
	if err := ex.Stdout.SetReadDeadline(time.Now()); err != nil {
		return err
	}
	if n, err := ex.Stdout.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("read beyond its deadline: %d %w", n, err)
	}
	if _, err := io.WriteString(ex.Stdin, "x"); err != nil {
		return err
	}
	if err := errors.Join(ex.Stdin.Close(), ex.Stdin.Close(), ex.Stdout.SetReadDeadline(time.Time{})); err != nil {
		return err
	}
	got, err := io.ReadAll(ex.Stdout)
	if err != nil || string(got) != "x" || ex.Stdout.Offset() != 1 {
		return fmt.Errorf("read after a deadline: %q at %d: %w", got, ex.Stdout.Offset(), err)
	}
	ex.Release()
	return nil
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
	ex.Release()
	return nil
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
	// No other command has the terminal.
	if err := errors.Join(expect(ctx, sb, "ls -l /proc/self/fd | grep -c ptmx", "0"), ex.Resize(ctx, runsc.Size{Rows: 5, Cols: 6})); err != nil {
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
	ex.Release()
	if err := resizedAndRaw(ctx, sb); err != nil {
		return err
	}
	return sb.Close(ctx)
}

// resizedAndRaw is what gVisor's terminals leave out: SIGWINCH, and control characters that are characters only.
func resizedAndRaw(ctx context.Context, sb *runsc.Sandbox) error {
	ex, err := sb.Start(ctx, runsc.Command{
		Argv: []string{"sh", "-c", "trap 'stty size; head -c 4 | od -An -tx1; exit' WINCH; stty raw -echo; echo; while :; do sleep 0.05; done"},
		TTY:  &runsc.Size{Rows: 33, Cols: 77}, Stdin: true,
	})
	if err != nil {
		return err
	}
	out := bufio.NewReader(ex.Stdout)
	if _, err := out.ReadString('\n'); err != nil {
		return err
	}
	if err := ex.Resize(ctx, runsc.Size{Rows: 5, Cols: 6}); err != nil {
		return err
	}
	if line, err := out.ReadString('\n'); err != nil || line != "5 6\n" {
		return fmt.Errorf("after a resize: %q %w", line, err)
	}
	if _, err := ex.Stdin.Write([]byte("\x03\x1ax\x1c")); err != nil {
		return err
	}
	if line, err := out.ReadString('\n'); err != nil || strings.TrimSpace(line) != "03 1a 78 1c" {
		return fmt.Errorf("raw terminal: %q %w", line, err)
	}
	if exit, err := ex.Wait(ctx); err != nil || exit.Code != 0 {
		return fmt.Errorf("raw terminal: %+v %w", exit, err)
	}
	ex.Release()
	return nil
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
