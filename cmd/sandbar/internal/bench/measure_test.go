package bench

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

var (
	binFlag    = flag.String("bin", "", "folder with the binaries to measure; empty: measure nothing")
	reportFlag = flag.String("report", "", "file to write the report to; empty: print it")
	roundsFlag = flag.Int("rounds", 30, "rounds of what takes about a tenth of a second; quick things get more, slow ones fewer")
)

// TestMeasure measures the binaries in -bin. It fails when something does not
// work, never for being slow: machines are too different.
func TestMeasure(t *testing.T) {
	if *binFlag == "" {
		t.Skip("no -bin: run make bench")
	}
	bin, err := filepath.Abs(*binFlag)
	if err != nil {
		t.Fatal(err)
	}
	m := &meter{t: t, bin: bin, rounds: *roundsFlag, began: time.Now(), load: load(t)}
	r := m.report()
	out := io.Writer(os.Stdout)
	if *reportFlag != "" {
		f, err := os.Create(*reportFlag)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}()
		out = f
	}
	if err := r.WriteMarkdown(out); err != nil {
		t.Fatal(err)
	}
}

// meter measures one set of binaries.
type meter struct {
	t      *testing.T
	bin    string
	rounds int
	began  time.Time
	load   string
	stack  *stack
}

func (m *meter) report() *Report {
	m.stack = startStack(m.t, m.bin)
	r := &Report{}
	for _, s := range []struct {
		title   string
		measure func() []Row
	}{
		{"What the machine charges", m.machine},
		{"From nothing to a finished command", m.starting},
		{"Commands", m.commands},
		{"Bytes", m.bytes},
		{"Pause, resume, fork", m.freezing},
		{"What it takes", m.footprint},
	} {
		r.Sections = append(r.Sections, Section{Title: s.title, Rows: s.measure()})
		m.t.Logf("%s: done after %v", s.title, time.Since(m.began).Round(time.Second))
	}
	r.Facts = m.facts()
	r.Caveats = []string{
		"One machine, everything on it: the client, the broker, the plugin and the guests share its processors.",
		"The load average says how much else ran. Other load lengthens a start, which is many short processes, more than anything else; compare a row with the baseline in the same table, not with another day.",
		"What 100,000 sandboxes and 1,000 streams take is measured by `make scale`: [scale](scale.md).",
		"With few rounds p99 is the slowest round.",
		"`runsc` is the gVisor that is linked into sandbar-provider-local, with the same platform and the same overlay in memory, and the machine's root file system read-only as its root.",
		"A rate is of one transfer of the size named, from the call to its last byte.",
	}
	return r
}

// times runs f n times; a first, unmeasured round fills caches.
func (m *meter) times(n int, f func()) Durations {
	f()
	d := make(Durations, n)
	for i := range d {
		began := time.Now()
		f()
		d[i] = time.Since(began)
	}
	return d
}

// inTurns measures several things in turns, so that what disturbs one disturbs
// all.
func (m *meter) inTurns(n int, fs ...func()) []Durations {
	out := make([]Durations, len(fs))
	for round := range n + 1 {
		for i, f := range fs {
			began := time.Now()
			f()
			if round > 0 {
				out[i] = append(out[i], time.Since(began))
			}
		}
	}
	return out
}

func (m *meter) must(cmd *exec.Cmd) []byte {
	m.t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return out
}

var trueSpec = &providerv1.ExecSpec{Argv: []string{"/bin/true"}}

// starting measures how long somebody waits who has no sandbox yet.
func (m *meter) starting() []Row {
	ctx := m.t.Context()
	base := newBaseline(m.t, m.bin)
	pooled := startStack(m.t, m.bin, "providers: [{name: local, settings: {warm_pool: 2}}]\n")
	defer pooled.sandbar(m.t, "daemon", "stop") // so that what it keeps ready disturbs nothing later
	var first, warm Durations
	d := m.inTurns(m.rounds,
		func() { first = append(first, m.first(m.stack)) },
		// The turns of the others give the pool the time to fill again.
		func() { warm = append(warm, m.first(pooled)) },
		func() { m.must(m.stack.command(ctx, "run", "--", "/bin/true")) },
		func() { m.must(base.run("/bin/true")) },
		func() { m.must(base.do("/bin/true")) },
		func() { m.must(m.stack.command(ctx, "version")) },
	)
	return []Row{
		Timed("create → first command done", "≤ 150 ms", first[1:], "CreateSandbox, StartExec and AttachExec until Done of `true`, by a Go client over the broker's socket"),
		Timed("create → first command done, warm pool", "≤ 20 ms", warm[1:], "the same, with `warm_pool: 2`"),
		Timed("`sandbar run -- true`", "", d[2], "the whole command line tool: connect, create, run, remove"),
		Timed("baseline: `runsc run`", "", d[3], "create, run, remove `true`, by the same gVisor without anything around it"),
		Timed("baseline: `runsc do`", "", d[4], "the same, by its shortcut"),
		Timed("`sandbar version`", "≤ 20 ms", d[5], "a process that does next to nothing"),
	}
}

// first measures how long it takes until a new sandbox has done something.
func (m *meter) first(s *stack) time.Duration {
	ctx := m.t.Context()
	began := time.Now()
	res, err := s.client.CreateSandbox(ctx, connect.NewRequest(&brokerv1.CreateSandboxRequest{}))
	if err != nil {
		m.t.Fatal(err)
	}
	id := res.Msg.GetSandbox().GetSandboxId()
	s.brokerDoor(id).run(ctx, m.t, trueSpec, nil, nil)
	took := time.Since(began)
	s.remove(m.t, id)
	return took
}

// commands measures commands in sandboxes that run.
func (m *meter) commands() []Row {
	ctx := m.t.Context()
	id := m.stack.create(m.t)
	broker := m.stack.brokerDoor(id)
	plugin, shim := pluginDoors(m.t, m.bin, "local")
	fake, _ := pluginDoors(m.t, m.bin, "fake")
	echo := &providerv1.ExecSpec{Argv: []string{"/bin/echo", "hello"}}
	through := func(d *door, spec *providerv1.ExecSpec) func() {
		return func() { d.run(ctx, m.t, spec, nil, io.Discard) }
	}
	base := newBaseline(m.t, m.bin)
	base.start(m.t)
	n := m.rounds * 20
	d := m.inTurns(n, through(broker, echo), through(plugin, echo), through(shim, echo),
		through(fake, &providerv1.ExecSpec{Argv: []string{"echo", "hello"}}), base.library(m.t))
	cli := m.inTurns(m.rounds,
		func() { m.must(m.stack.command(ctx, "exec", id, "--", "/bin/echo", "hello")) },
		func() { m.must(base.exec("/bin/echo", "hello")) })
	return []Row{
		Timed("`echo` through broker, plugin and shim", "p50 ≤ 8 ms", d[0], "StartExec and AttachExec until Done, by a Go client over the broker's socket"),
		Timed("`echo` through plugin and shim", "", d[1], "the same, by a client of the plugin"),
		Timed("`echo` through the shim", "", d[2], "the same, by a client of the sandbox's own process"),
		Timed("added by broker and plugin", "< 1 ms / < 3 ms", d[0].Minus(d[2]), "differences of neighbouring rounds of the first and the third row; two calls each"),
		Timed("`echo` in the fake provider", "", d[3], "what plugin process, framing and gRPC cost when the command costs nothing"),
		Timed("baseline: `echo` by `container.Execute`", "", d[4], "gVisor's own call in a process that stays: no plugin, no record, no replay, and it would not survive a pause"),
		Timed("`sandbar exec … echo`", "", cli[0], "a process of the command line tool for each command"),
		Timed("baseline: `runsc exec … echo`", "", cli[1], "a process of runsc for each command"),
	}
}

// bytes measures streams and files.
func (m *meter) bytes() []Row {
	const size = 64 << 20
	ctx := m.t.Context()
	id := m.stack.create(m.t)
	d := m.stack.brokerDoor(id)
	n := max(3, m.rounds/4)
	mib := strconv.Itoa(size >> 20)
	dd := &providerv1.ExecSpec{Argv: []string{"/bin/dd", "if=/dev/zero", "bs=1M", "count=" + mib, "status=none"}}
	payload := bytes.Repeat([]byte("sandbar "), size/8)
	out := m.inTurns(n,
		func() { d.run(ctx, m.t, dd, nil, io.Discard) },
		func() {
			m.must(m.toNowhere("exec", id, "--", "/bin/dd", "if=/dev/zero", "bs=1M", "count="+mib, "status=none"))
		},
		func() {
			d.run(ctx, m.t, &providerv1.ExecSpec{Argv: []string{"/bin/dd", "of=/dev/null", "bs=1M", "status=none"}}, bytes.NewReader(payload), io.Discard)
		},
		func() { m.writeFile(id, payload) },
		func() { m.readFile(id, size) },
		func() { m.archive(id) },
	)
	return []Row{
		Rate("stdout to a client", "≥ 150 MiB/s", size, out[0], "64 MiB from `dd` to a Go client over the broker's socket"),
		Rate("stdout to `sandbar exec > /dev/null`", "", size, out[1], "the same with the command line tool"),
		Rate("stdin", "", size, out[2], "64 MiB from the client to `dd of=/dev/null`"),
		Rate("write a file", "", size, out[3], "WriteFile of 64 MiB"),
		Rate("read a file", "", size, out[4], "ReadFile of the same"),
		Rate("archive", "", size, out[5], "DownloadArchive of a folder with that file"),
	}
}

// toNowhere is a call of the CLI whose standard output is the null device.
func (m *meter) toNowhere(args ...string) *exec.Cmd {
	script := `exec "$0" "$@" > /dev/null`
	cmd := exec.CommandContext(m.t.Context(), "/bin/sh", append([]string{"-c", script, filepath.Join(m.bin, "sandbar")}, args...)...)
	cmd.Env = m.stack.env
	return cmd
}

const filePath = "/tmp/bench/data"

func (m *meter) writeFile(id string, payload []byte) {
	stream := m.stack.client.WriteFile(m.t.Context())
	send := func(req *providerv1.WriteFileRequest) {
		if err := stream.Send(req); err != nil {
			_, err = stream.CloseAndReceive()
			m.t.Fatalf("write file: %v", err)
		}
	}
	send(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Open{Open: &providerv1.WriteFileOpen{
		Sandbox: &providerv1.SandboxRef{SandboxId: id}, Path: filePath, Mode: providerv1.WriteMode_WRITE_MODE_REPLACE, MakeParents: true,
	}}})
	for chunk := range chunks(payload, 32<<10) {
		send(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Data{Data: chunk}})
	}
	send(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Commit{Commit: &providerv1.WriteFileCommit{}}})
	if _, err := stream.CloseAndReceive(); err != nil {
		m.t.Fatalf("write file: %v", err)
	}
}

func (m *meter) readFile(id string, size int) {
	stream, err := m.stack.client.ReadFile(m.t.Context(), connect.NewRequest(&providerv1.ReadFileRequest{
		Sandbox: &providerv1.SandboxRef{SandboxId: id}, Path: filePath,
	}))
	if err != nil {
		m.t.Fatal(err)
	}
	got := 0
	for stream.Receive() {
		got += len(stream.Msg().GetData())
	}
	if stream.Err() != nil || got != size {
		m.t.Fatalf("read %d bytes, %v; want %d", got, stream.Err(), size)
	}
}

func (m *meter) archive(id string) {
	stream, err := m.stack.client.DownloadArchive(m.t.Context(), connect.NewRequest(&providerv1.DownloadArchiveRequest{
		Sandbox: &providerv1.SandboxRef{SandboxId: id}, Paths: []string{filepath.Dir(filePath)},
	}))
	if err != nil {
		m.t.Fatal(err)
	}
	for stream.Receive() {
	}
	if stream.Err() != nil {
		m.t.Fatal(stream.Err())
	}
}

// niceness is this process's, which what it starts inherits.
func niceness(t *testing.T) int {
	kernel, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	return 20 - kernel // the system call knows no negative answers
}

// load is the load average of the last minute.
func load(t *testing.T) string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(data))[0]
}

func (m *meter) facts() [][2]string {
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	version := m.must(m.stack.command(context.Background(), "version"))
	return [][2]string{
		{"date", m.began.UTC().Format(time.DateOnly)},
		{"version", strings.TrimSpace(string(version))},
		{"machine", fmt.Sprintf("%d processors (%s), %s of memory, Linux %s, virtual", runtime.NumCPU(), model(m.t), memory(m.t), strings.TrimSpace(string(release)))},
		{"load average", fmt.Sprintf("%s before the run, %s after it", m.load, load(m.t))},
		{"priority", fmt.Sprintf("nice %d, for everything measured", niceness(m.t))},
		{"command", fmt.Sprintf("`make bench ROUNDS=%d`, %v", m.rounds, time.Since(m.began).Round(time.Second))},
	}
}
