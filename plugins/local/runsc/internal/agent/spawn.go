package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// defaultPath is what a process gets when its caller sets no PATH; it is Debian's and Docker's.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const rlimitNproc = 6 // RLIMIT_NPROC, which package syscall lacks

// process is one exec. Its fields are guarded by agent.mu.
type process struct {
	status wire.ExecStatus
	master rawFile // the terminal, or -1
	oom    bool
}

func (a *agent) start(req *wire.Request) (int, error) {
	ex := req.Exec
	if ex == nil || len(ex.Argv) == 0 {
		return 0, fmt.Errorf("start exec: empty argv: %w", syscall.EINVAL)
	}
	who, err := lookupUser(ex.User)
	if err != nil {
		return 0, &refusal{wire.PartUser, err}
	}
	if err := checkDir(ex.Cwd); err != nil {
		return 0, &refusal{wire.PartDir, err}
	}
	env := defaultEnv(ex, who)
	path, err := lookPath(ex.Argv[0], env, ex.Cwd)
	if err != nil {
		return 0, &refusal{wire.PartProgram, fmt.Errorf("find command %q: %w", ex.Argv[0], err)}
	}
	stdio, master, err := a.openStdio(req)
	if err != nil {
		return 0, err
	}
	defer a.closeStdio(stdio)

	c, err := newChild(path, ex, env, who, stdio)
	if err != nil {
		_ = master.Close()
		return 0, &refusal{wire.PartProgram, fmt.Errorf("start command %q: %w", ex.Argv[0], err)}
	}
	pid, err := a.spawn(c, ex.ID, master)
	if err != nil {
		_ = master.Close()
		return 0, fmt.Errorf("start command %q: %w", ex.Argv[0], err)
	}
	if ex.TTY != nil {
		a.relayTTY(req, master)
	}
	return pid, nil
}

// refusal is an error that one part of a start request is the cause of.
type refusal struct {
	part string
	err  error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// checkDir tells a missing working directory from a missing program, for which fork has one and the same error.
func checkDir(dir string) error {
	if dir == "" {
		return nil
	}
	st, err := os.Stat(dir)
	switch {
	case err != nil:
		return err
	case !st.IsDir():
		return fmt.Errorf("%q: %w", dir, syscall.ENOTDIR)
	}
	return nil
}

// newChild prepares a process. Its error is EINVAL for a string that no system call can take.
func newChild(path string, ex *wire.Exec, env []string, who user, stdio [3]rawFile) (*child, error) {
	c := &child{terminal: ex.TTY != nil, stdio: stdio}
	var errs [4]error
	c.path, errs[0] = syscall.BytePtrFromString(path)
	c.argv, errs[1] = syscall.SlicePtrFromStrings(ex.Argv)
	c.envv, errs[2] = syscall.SlicePtrFromStrings(env)
	if ex.Cwd != "" {
		c.dir, errs[3] = syscall.BytePtrFromString(ex.Cwd)
	}
	if !who.isAgent() {
		c.switchUser, c.uid, c.gid, c.groups = true, who.uid, who.gid, who.groups
	}
	if ex.MaxTasks > 0 {
		c.maxTasks = [2]uint64{uint64(ex.MaxTasks), uint64(ex.MaxTasks)}
	}
	return c, errors.Join(errs[:]...)
}

// spawn starts c as exec id. An error that is the request's fault is a refusal.
func (a *agent) spawn(c *child, id string, master rawFile) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.byID[id]; ok {
		return 0, syscall.EEXIST
	}
	pid, err := c.start()
	if err != nil {
		return 0, err
	}
	a.spawned++ // a child that failed is to be reaped, too
	a.spawning.Signal()
	if c.errno != 0 {
		return 0, c.failure()
	}
	p := &process{status: wire.ExecStatus{ID: id, PID: pid}, master: master}
	a.byID[id], a.byPID[pid] = p, p
	return pid, nil
}

// failure is why a child did not become its program.
func (c *child) failure() error {
	switch {
	case c.step == stepDir:
		return &refusal{wire.PartDir, c.errno}
	case c.errno == syscall.EAGAIN || c.errno == syscall.ENOMEM || c.step != stepExec:
		return c.errno // not the program's fault
	}
	return &refusal{wire.PartProgram, c.errno}
}

// reap waits for every child, which includes processes whose parent died, for ever.
func (a *agent) reap() {
	for {
		a.mu.Lock()
		spawned := a.spawned
		a.mu.Unlock()
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WALL, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil: // ECHILD: nothing to wait for until the next start
			a.mu.Lock()
			for a.spawned == spawned {
				a.spawning.Wait()
			}
			a.mu.Unlock()
		default:
			a.exited(pid, ws)
		}
	}
}

func (a *agent) exited(pid int, ws syscall.WaitStatus) {
	a.mu.Lock()
	p, ok := a.byPID[pid]
	if !ok {
		a.mu.Unlock()
		return
	}
	delete(a.byPID, pid)
	p.status.Ended, p.status.OOM = true, p.oom
	if ws.Signaled() {
		p.status.Signal = int(ws.Signal())
	} else {
		p.status.Code = ws.ExitStatus()
	}
	st := p.status
	a.mu.Unlock()
	a.send(wire.Event{Exit: &st})
}

func (a *agent) hello(req *wire.Request) {
	a.mu.Lock()
	all := make([]wire.ExecStatus, 0, len(a.byID))
	for _, p := range a.byID {
		all = append(all, p.status)
	}
	a.mu.Unlock()
	for i := range all {
		a.send(wire.Event{Status: &all[i]})
	}
	a.send(wire.Event{ID: req.ID, PID: os.Getpid()})
}

// signal reaches the whole process group, as a terminal would. An exec that has ended is no error.
func (a *agent) signal(id string, sig syscall.Signal) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	p, ok := a.byID[id]
	if !ok {
		return fmt.Errorf("signal exec %q: %w", id, syscall.ESRCH)
	}
	if p.status.Ended {
		return nil
	}
	// The pid cannot be reused here: it is reaped only through byPID, under mu.
	if err := syscall.Kill(-p.status.PID, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal exec %q: %w", id, err)
	}
	return nil
}

func (a *agent) forget(ids []string) {
	if len(ids) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range ids {
		if p, ok := a.byID[id]; ok && p.status.Ended {
			delete(a.byID, id)
		}
	}
}

func defaultEnv(ex *wire.Exec, who user) []string {
	env := slices.Clone(ex.Env)
	has := func(key string) bool {
		return slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, key+"=") })
	}
	add := func(key, value string) {
		if !has(key) {
			env = append(env, key+"="+value)
		}
	}
	add("PATH", defaultPath)
	add("HOME", who.home)
	// Characters are UTF-8. LANG would say it too, but has every program load the other twelve categories of a locale that does not
	// differ in them from the built-in one, for 2 ms.
	if !has("LANG") && !has("LC_ALL") {
		add("LC_CTYPE", "C.UTF-8")
	}
	if ex.TTY != nil {
		add("TERM", "xterm-256color")
	}
	return env
}

func lookPath(name string, env []string, cwd string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := defaultPath
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join("/", cwd, dir)
		}
		full := filepath.Join(dir, name)
		if st, err := os.Stat(full); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
			return full, nil
		}
	}
	return "", syscall.ENOENT
}
