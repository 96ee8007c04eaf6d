package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// baseline is the gVisor inside sandbar-provider-local, used by its own command
// line.
type baseline struct {
	binary, root string
	next         int
}

func newBaseline(t *testing.T, bin string) *baseline {
	t.Helper()
	return &baseline{binary: filepath.Join(bin, "sandbar-provider-local"), root: t.TempDir()}
}

// runsc is a call of it: a process whose name begins so is a runsc.
func (b *baseline) runsc(args ...string) *exec.Cmd {
	global := []string{"runsc-baseline", "--root=" + b.root, "--ignore-cgroups", "--network=none", "--platform=systrap", "--overlay2=root:memory"}
	return &exec.Cmd{Path: b.binary, Args: append(global, args...)}
}

func (b *baseline) run(argv ...string) *exec.Cmd {
	b.next++
	id := "b" + strconv.Itoa(b.next)
	return b.runsc("run", "--bundle="+b.bundle(id, argv), id)
}

func (b *baseline) do(argv ...string) *exec.Cmd {
	return b.runsc(append([]string{"do", "--quiet"}, argv...)...)
}

// start starts a container for exec that ends with the test.
func (b *baseline) start(t *testing.T) {
	t.Helper()
	cmd := b.runsc("run", "--detach", "--bundle="+b.bundle("e", []string{"/bin/sleep", "3600"}), "e")
	if err := cmd.Run(); err != nil {
		t.Fatalf("start the baseline: %v", err)
	}
	t.Cleanup(func() {
		if err := b.runsc("delete", "--force", "e").Run(); err != nil {
			t.Error(err)
		}
	})
}

func (b *baseline) exec(argv ...string) *exec.Cmd {
	return b.runsc(append([]string{"exec", "e"}, argv...)...)
}

// library returns a function that runs `echo` in the container of start by the
// library call that runsc exec makes, in a process that stays.
func (b *baseline) library(t *testing.T) func() {
	t.Helper()
	helper := filepath.Join(b.root, "execute")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", helper, "./testdata/execute")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the baseline: %v\n%s", err, out)
	}
	cmd := exec.Command(helper, b.root, "e")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			t.Error(err)
		}
	})
	turn := []byte{'.'}
	return func() {
		_, err := in.Write(turn)
		if err == nil {
			_, err = io.ReadFull(out, turn)
		}
		if err != nil {
			t.Fatalf("run a command by the library: %v", err)
		}
	}
}

// bundle writes the description of a container. A folder that cannot be written
// shows in the command that uses it.
func (b *baseline) bundle(id string, argv []string) string {
	dir := filepath.Join(b.root, "bundle-"+id)
	data, _ := json.Marshal(map[string]any{
		"ociVersion": "1.0.0", "hostname": "baseline",
		"process": map[string]any{"user": map[string]int{"uid": 0, "gid": 0}, "args": argv, "env": []string{"PATH=/usr/bin:/bin"}, "cwd": "/"},
		"root":    map[string]any{"path": "/", "readonly": true},
		"mounts":  []map[string]string{{"destination": "/proc", "type": "proc", "source": "proc"}},
		"linux": map[string]any{"namespaces": []map[string]string{
			{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
		}},
	})
	_ = os.MkdirAll(dir, 0o700)
	_ = os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600)
	return dir
}

// heapBytes is the live heap of the guest that is paused, resumed and forked.
const heapBytes = 64 << 20

// freezing measures what moves the memory of a guest.
func (m *meter) freezing() []Row {
	ctx := m.t.Context()
	id := m.stack.create(m.t)
	d := m.stack.brokerDoor(id)
	// A process with a heap of bytes that are not all alike, which stays.
	script := "import os, time\nheap = os.urandom(" + strconv.Itoa(heapBytes) + ")\nopen('/tmp/ready', 'w').close()\ntime.sleep(1e6)\n"
	d.run(ctx, m.t, &providerv1.ExecSpec{
		Argv: []string{"/bin/sh", "-c", "python3 -c \"$SCRIPT\" >/dev/null 2>&1 & until [ -e /tmp/ready ]; do sleep 0.1; done"},
		Env:  map[string]string{"SCRIPT": script},
	}, nil, nil)
	all := &providerv1.Keeps{Disk: true, Memory: true, Processes: true}
	var pauses, resumes Durations
	both := m.times(max(3, m.rounds/4), func() {
		began := time.Now()
		if _, err := m.stack.client.PauseSandbox(ctx, connect.NewRequest(&brokerv1.PauseSandboxRequest{Sandbox: id, Minimum: all})); err != nil {
			m.t.Fatal(err)
		}
		paused := time.Now()
		if _, err := m.stack.client.ResumeSandbox(ctx, connect.NewRequest(&brokerv1.ResumeSandboxRequest{Sandbox: id})); err != nil {
			m.t.Fatal(err)
		}
		d.run(ctx, m.t, trueSpec, nil, nil)
		pauses, resumes = append(pauses, paused.Sub(began)), append(resumes, time.Since(paused))
	})
	var forks Durations
	for range max(3, m.rounds/8) {
		began := time.Now()
		res, err := m.stack.client.ForkSandbox(ctx, connect.NewRequest(&brokerv1.ForkSandboxRequest{Sandbox: id, Count: 8, Minimum: all}))
		if err != nil {
			m.t.Fatal(err)
		}
		forks = append(forks, time.Since(began))
		for _, sb := range res.Msg.GetSandboxes() {
			m.stack.remove(m.t, sb.GetSandboxId())
		}
	}
	return []Row{
		Timed("pause", "", pauses, "until the memory is on disk and nothing of the guest runs; 64 MiB of live, random heap"),
		Timed("resume, and a command", "", resumes, "until `true` has run in it; the process with the heap goes on"),
		Timed("pause + resume", "≤ 500 ms", both, "the sum of both"),
		Timed("live fork into 8", "≤ 1 s", forks, "one call, until all eight copies run and the original goes on"),
	}
}

// footprint measures memory and disk.
func (m *meter) footprint() []Row {
	id := m.stack.create(m.t)
	m.stack.brokerDoor(id).run(m.t.Context(), m.t, trueSpec, nil, nil)
	dirs, _ := filepath.Glob(filepath.Join(m.stack.dir, "s", "sandbar", "plugins", "local", "sandboxes", id))
	if len(dirs) != 1 {
		m.t.Fatalf("folder of the sandbox %s: %v", id, dirs)
	}
	var total int64
	var rows []Row
	byName := map[string]int64{}
	for _, pid := range descendants(m.t, dirs[0]) {
		kib := proportionalSet(m.t, pid)
		total += kib
		byName[processName(pid)] += kib
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		rows = append(rows, Row{What: "memory: " + name, P50: mebibytes(byName[name] << 10), Rounds: "1", Meaning: processMeaning[name]})
	}
	rows = append(rows, Row{
		What: "memory of an idle sandbox", P50: mebibytes(total << 10), Rounds: "1",
		Meaning: "the sum; pages shared with other sandboxes count in parts",
	})
	for _, name := range []string{"sandbar", "sandbar-broker", "sandbar-provider-local", "sandbar-provider-fake"} {
		info, err := os.Stat(filepath.Join(m.bin, name))
		if err != nil {
			m.t.Fatal(err)
		}
		target := ""
		if name == "sandbar" {
			target = "≤ 40 MiB"
		}
		rows = append(rows, Row{What: "size of " + name, Target: target, P50: mebibytes(info.Size()), Meaning: "stripped, static"})
	}
	return rows
}

// processName is what a process is in a sandbox.
func processName(pid string) string {
	cmdline, _ := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
	args := strings.Split(string(cmdline), "\x00")
	switch {
	case len(args) > 1 && args[1] == "shim":
		return "shim"
	case strings.HasPrefix(args[0], "runsc-"):
		return strings.TrimPrefix(args[0], "runsc-")
	}
	return "guest"
}

// processMeaning explains the names.
var processMeaning = map[string]string{
	"shim":    "the process that owns the sandbox and serves it",
	"gofer":   "gVisor's file server",
	"sandbox": "gVisor's kernel, with the memory of the guest",
	"guest":   "the address spaces of the agent and of what runs, where they are not the kernel's",
}

// chunks cuts b into pieces.
func chunks(b []byte, size int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			n := min(size, len(b))
			if !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// field returns the value of the first line of a file that begins with name.
func field(t *testing.T, path, name string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		if rest, ok := strings.CutPrefix(string(line), name); ok {
			return strings.Trim(rest, " \t:\n")
		}
	}
	return "unknown"
}

func model(t *testing.T) string { return field(t, "/proc/cpuinfo", "model name") }

func memory(t *testing.T) string {
	kib := number(t, strings.Fields(field(t, "/proc/meminfo", "MemTotal"))[0])
	return strconv.FormatFloat(float64(kib)/(1<<20), 'f', 1, 64) + " GiB"
}
