package runsc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// prepare applies the limits that every process of the sandbox inherits from the shim.
func (l Limits) prepare() error {
	if l.CPUs > 0 {
		if err := limitCPUs(l.CPUs); err != nil {
			return fmt.Errorf("limit processors: %w", err)
		}
	}
	if l.MemoryBytes > 0 {
		if err := shrinkMeminfo(l.MemoryBytes); err != nil {
			return fmt.Errorf("announce memory limit: %w", err)
		}
	}
	return nil
}

// limitCPUs pins all threads of this process, and so all its descendants, to n processors. A guest cannot undo it: its own
// affinity calls stay inside the guest kernel.
func limitCPUs(n int) error {
	var have, want unix.CPUSet
	if err := unix.SchedGetaffinity(0, &have); err != nil {
		return err
	}
	if have.Count() <= n {
		return nil // the machine itself is the limit
	}
	// Different shims should not crowd the first processors.
	start := os.Getppid() + int(time.Now().UnixNano()/1000)
	for i := 0; want.Count() < n; i++ {
		if cpu := (start + i) % (len(have) * 64); have.IsSet(cpu) {
			want.Set(cpu)
		}
	}
	// A thread made meanwhile inherits from one that may not be pinned yet: go on until a pass finds nothing new.
	seen := map[string]bool{}
	for {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		fresh := false
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || seen[t.Name()] {
				continue
			}
			fresh, seen[t.Name()] = true, true
			if err := unix.SchedSetaffinity(tid, &want); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
		if !fresh {
			return nil
		}
	}
}

// shrinkMeminfo covers /proc/meminfo in the shim's mount namespace, from which gVisor takes the memory size it shows the guest.
func shrinkMeminfo(limit int64) error {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		switch kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64); {
		case err == nil && (key == "MemTotal" || key == "MemFree" || key == "MemAvailable"):
			fmt.Fprintf(&out, "%s: %d kB\n", key, min(kb, limit/1024))
		default:
			out.WriteString(line)
		}
	}
	f, err := os.CreateTemp("", "sandbar-meminfo-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // the mount keeps it
	if _, err := f.WriteString(out.String()); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return unix.Mount(f.Name(), "/proc/meminfo", "", unix.MS_BIND, "")
}

// reservedTasks is what the guest may have beyond its limit of tasks, so that the agent, whose threads count too, can still
// start some when commands have used up theirs: without a thread the agent, and with it the guest, would end.
//
// The limit is kept by the guest kernel's own pids controller. This version of gVisor cannot set it from outside, so the agent does
// before anything else, and then gives up the mount and the capability to undo it. Commands meet RLIMIT_NPROC before, which is the
// limit asked for but counts per user.
const reservedTasks = 32

const (
	// watchInterval bounds how long a guest can be beyond its memory limit before something is killed. A machine fills memory at
	// a few GiB/s, so the overshoot stays in the order of tens of MiB; a poll is one fstat.
	watchInterval = 10 * time.Millisecond
	// graceIntervals is how many polls a guest has to come below its limit again, after its largest process was killed, before
	// all of it is. Beyond one and a half times the limit there is no grace.
	graceIntervals = 50
)

// ErrOutOfMemory is wrapped with ErrEnded when a sandbox was killed as a whole for its memory limit.
var ErrOutOfMemory = errors.New("memory limit exceeded")

// watchdog holds the memory limit. The owner calls stop, after which nothing of it runs.
type watchdog struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func (w *watchdog) stop() {
	if w != nil {
		w.cancel()
		w.wg.Wait()
	}
}

func (s *Sandbox) startWatchdog() error {
	if s.cfg.Limits.MemoryBytes == 0 {
		return nil
	}
	used, err := memoryMeter(s.sand.Getpid())
	if err != nil {
		return fmt.Errorf("watch memory: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watchdog{cancel: cancel}
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.limits = w
		w.wg.Go(func() { s.watchMemory(ctx, used) })
	}
	s.mu.Unlock()
	if closed {
		cancel()
	}
	return nil
}

// watchMemory asks the agent to kill the largest process when the limit is near, and kills the guest when that is not enough: at
// half as much again, or when it stays beyond the limit.
func (s *Sandbox) watchMemory(ctx context.Context, used func() (int64, error)) {
	limit := s.cfg.Limits.MemoryBytes
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var reclaim sync.WaitGroup
	defer reclaim.Wait()
	grace, since := 0, graceIntervals
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n, err := used()
		if err != nil {
			return // the guest has ended
		}
		since++
		if n > limit {
			grace++
		} else {
			grace = 0
		}
		if grace > graceIntervals || n > limit/2*3 {
			s.killForMemory(n)
			return
		}
		if n > limit-limit/8 && since > graceIntervals {
			since = 0
			reclaim.Go(func() { s.reclaim(ctx) })
		}
	}
}

func (s *Sandbox) killForMemory(used int64) {
	s.mu.Lock()
	s.cause = fmt.Errorf("guest used %d MiB and did not shrink: %w", used>>20, ErrOutOfMemory)
	s.mu.Unlock()
	_ = unix.Kill(s.sand.Getpid(), unix.SIGKILL)
}

// reclaim has the agent kill the largest process. It does nothing during a checkpoint, which stops the guest anyway and waits for
// the watchdog when it ends the sandbox.
func (s *Sandbox) reclaim(ctx context.Context) {
	if !s.ctl.quiesce.TryRLock() {
		return
	}
	defer s.ctl.quiesce.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, graceIntervals*watchInterval)
	defer cancel()
	_, _ = s.ctl.callLocked(ctx, &wire.Request{Op: wire.OpReclaim}, nil)
}

// memoryMeter returns a function that tells how much memory the guest kernel has given to the guest, in bytes.
func memoryMeter(pid int) (func() (int64, error), error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if target, err := os.Readlink(path); err == nil && strings.HasPrefix(target, "/memfd:runsc-memory") {
			return func() (int64, error) {
				var st unix.Stat_t
				err := unix.Stat(path, &st)
				return st.Blocks * 512, err
			}, nil
		}
	}
	return nil, errors.New("find guest memory: no such file")
}

// Usage is what a sandbox uses now.
type Usage struct {
	MemoryBytes int64
	CPU         time.Duration // since it was created or restored
}

// Usage measures the sandbox.
func (s *Sandbox) Usage(context.Context) (Usage, error) {
	ev, err := s.sand.Event(s.cfg.ID)
	if err != nil {
		return Usage{}, fmt.Errorf("measure sandbox %q: %w", s.cfg.ID, err)
	}
	u := Usage{MemoryBytes: int64(ev.Event.Data.Memory.Usage.Usage)}
	for _, ns := range ev.ContainerUsage {
		u.CPU += time.Duration(ns)
	}
	return u, nil
}
