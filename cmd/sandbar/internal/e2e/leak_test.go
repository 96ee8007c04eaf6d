package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// process is a process of this machine; the start time tells it from a later one
// of the same number.
type process struct {
	pid     int
	started string
}

// found is a process and how it is recognised.
type found struct {
	process
	parent int
	line   string
}

// kinds of processes of a world, told by their command lines.
type kind func(line string) bool

func broker(line string) bool { return strings.HasPrefix(line, "sandbar serve") }
func plugin(line string) bool {
	return strings.Contains(strings.Fields(line + " -")[0], "sandbar-provider-")
}
func shim(line string) bool   { return strings.Contains(line, "exe shim ") }
func sentry(line string) bool { return strings.HasPrefix(line, "runsc-sandbox") }

// processes lists the processes that have to do with a world: those that name its
// folder in command line, environment, working folder or mounts, and all their
// descendants.
func (w *world) processes() []found {
	w.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[int]found{}
	mine := map[int]bool{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		f, ok := inspect(pid)
		if !ok {
			continue
		}
		all[pid] = f
		mine[pid] = mentions(pid, w.dir)
	}
	var out []found
	for pid := range all {
		for at, ok := all[pid]; ok; at, ok = all[at.parent] {
			if mine[at.pid] {
				out = append(out, all[pid])
				break
			}
		}
	}
	slices.SortFunc(out, func(a, b found) int { return a.pid - b.pid })
	return out
}

// inspect reads what identifies a process; a zombie is none.
func inspect(pid int) (found, bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return found{}, false
	}
	_, rest, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')'):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return found{}, false
	}
	line, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return found{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return found{}, false
	}
	return found{process{pid, fields[19]}, parent, strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))}, true
}

func mentions(pid int, dir string) bool {
	proc := "/proc/" + strconv.Itoa(pid) + "/"
	for _, file := range []string{"cmdline", "environ", "mountinfo"} {
		if text, err := os.ReadFile(proc + file); err == nil && bytes.Contains(text, []byte(dir+"/")) {
			return true
		}
	}
	for _, link := range []string{"cwd", "root"} {
		if to, err := os.Readlink(proc + link); err == nil && strings.HasPrefix(to+"/", dir+"/") {
			return true
		}
	}
	return false
}

// of reports whether a shim or sentry belongs to a sandbox.
func (f found) of(sandbox string) bool { return strings.Contains(f.line, sandbox) }

// kind returns the processes of one kind, of one sandbox unless that is empty.
func (w *world) kind(k kind, sandbox string) []found {
	w.t.Helper()
	var out []found
	for _, f := range w.processes() {
		if k(f.line) && f.of(sandbox) {
			out = append(out, f)
		}
	}
	return out
}

// look remembers every process and network namespace of the world, for the proof
// at its end.
func (w *world) look() {
	w.t.Helper()
	own, _ := os.Readlink("/proc/self/ns/net")
	now := w.processes()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range now {
		w.seen[f.process] = f.line
		path := fmt.Sprintf("/proc/%d/ns/net", f.pid)
		ns, err := os.Readlink(path)
		if err != nil || ns == own || w.namespaces[ns] != nil {
			continue
		}
		// Held open, so that its number stays its own until it was looked for.
		held, err := os.Open(path)
		if err != nil {
			continue
		}
		if now, err := os.Readlink(path); err != nil || now != ns {
			_ = held.Close()
			continue
		}
		w.namespaces[ns] = held
	}
}

// provesEmpty proves that nothing of a world is left on the machine, after its
// broker was stopped.
func (w *world) provesEmpty() {
	w.t.Helper()
	w.eventually("the end of all processes", func() (bool, string) {
		left := w.processes()
		return len(left) == 0, describe(left)
	})
	// Also of those that say nothing about themselves any more.
	w.eventually("the end of every process that was seen", func() (bool, string) {
		for p, line := range w.seen {
			if f, ok := inspect(p.pid); ok && f.process == p {
				return false, fmt.Sprintf("%d: %.120s", p.pid, line)
			}
		}
		return true, ""
	})
	w.provesNoNamespace()
	for _, file := range []string{"/proc/self/mountinfo", "/proc/net/unix"} {
		if text, err := os.ReadFile(file); err != nil || bytes.Contains(text, []byte(w.dir+"/")) {
			w.t.Errorf("%s speaks of %s (%v)", file, w.dir, err)
		}
	}
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type()&(fs.ModeSocket|fs.ModeNamedPipe|fs.ModeDevice) != 0 {
			w.t.Errorf("%s is left", path)
		}
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
	// An empty folder of a plugin's launch may stay: a broker that was killed while
	// it made one leaves the next broker in doubt for a minute.
	for _, pattern := range []string{
		w.tmp + "/*", w.runtime + "/sandbar/p/*/?*", w.state + "/sandbar/plugins/*/sandboxes/*",
		w.state + "/sandbar/plugins/*/snapshots/*", w.state + "/sandbar/plugins/*/volumes/*/*",
	} {
		left, err := filepath.Glob(pattern)
		if err != nil {
			w.t.Error(err)
		}
		for _, name := range left {
			inside, _ := filepath.Glob(name + "/*")
			w.t.Errorf("%s is left, with %q", name, inside)
		}
	}
}

// provesNoNamespace proves that no process and no mount keeps a network
// namespace alive.
func (w *world) provesNoNamespace() {
	w.t.Helper()
	tasks, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		w.t.Error(err)
	}
	for _, task := range tasks {
		if ns, err := os.Readlink(task); err == nil && w.namespaces[ns] != nil {
			w.t.Errorf("%s keeps %s", task, ns)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		w.t.Error(err)
	}
	for ns, held := range w.namespaces {
		if bytes.Contains(mounts, []byte(ns)) {
			w.t.Errorf("a mount keeps %s", ns)
		}
		_ = held.Close()
	}
}

func describe(all []found) string {
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "\n%d (child of %d): %.160s", f.pid, f.parent, f.line)
	}
	return b.String()
}

// kill ends one process of a kind by SIGKILL, and waits until it is gone. It
// waits for the process to appear first.
func (w *world) kill(k kind, sandbox string) {
	w.t.Helper()
	w.eventually("a process to kill", func() (bool, string) {
		all := w.kind(k, sandbox)
		if len(all) > 0 {
			w.killed(all[0])
		}
		return len(all) > 0, describe(w.processes())
	})
}

// killNow is kill for a process that need not exist.
func (w *world) killNow(k kind) {
	w.t.Helper()
	if all := w.kind(k, ""); len(all) > 0 {
		w.killed(all[0])
	}
}

func (w *world) killed(victim found) {
	w.t.Helper()
	if err := syscall.Kill(victim.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		w.t.Fatalf("kill %s: %v", victim.line, err)
	}
	w.eventually("the end of what was killed", func() (bool, string) {
		f, ok := inspect(victim.pid)
		return !ok || f.process != victim.process, f.line
	})
}
