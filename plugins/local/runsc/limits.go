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
	"sync/atomic"
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
	// fillRate is how fast a guest can fill memory at most, in bytes per second: what the fastest machines of today clear of pages with
	// all their processors. The watch looks again before a guest at this rate could reach the next threshold.
	fillRate = 8 << 30
	// A look is one fstat, some microseconds: even at the shortest interval the watch costs less than one percent of a processor.
	shortestLook = 500 * time.Microsecond
	// longestLook keeps an idle sandbox with a large limit quiet, and the peak it reports honest enough.
	longestLook = 100 * time.Millisecond
	// reclaimPause is how soon the agent is asked again. It counts what processes hold, so that it waits for memory on its way back.
	reclaimPause = 5 * time.Millisecond
	// reclaimForce is how long a guest is beyond its limit before a process is killed although processes do not hold that much.
	reclaimForce = 200 * time.Millisecond
	// reclaimBudget is how long a guest may stay beyond its limit before all of it is killed.
	reclaimBudget = 500 * time.Millisecond
)

// reclaimAbove is where processes begin to be killed: an eighth of the limit, but no more than 64 MiB, is left for those that go on
// meanwhile.
func reclaimAbove(limit int64) int64 { return limit - min(limit/8, 64<<20) }

// killAbove is where the whole sandbox is killed at once.
func killAbove(limit int64) int64 { return limit + limit/4 }

// ErrOutOfMemory is wrapped with ErrEnded when a sandbox was killed as a whole for its memory limit.
var ErrOutOfMemory = errors.New("memory limit exceeded")

// watchdog holds the memory limit. The owner calls stop, after which nothing of it runs.
type watchdog struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	peak   atomic.Int64
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
		w.wg.Go(func() { s.watchMemory(ctx, w, used) })
	}
	s.mu.Unlock()
	if closed {
		cancel()
	}
	return nil
}

// watchMemory has the agent kill the largest process when the limit is near, and kills the guest when that is not enough. It looks the
// more often the nearer the guest is to a threshold.
func (s *Sandbox) watchMemory(ctx context.Context, w *watchdog, used func() (int64, error)) {
	limit := s.cfg.Limits.MemoryBytes
	look := time.NewTimer(0)
	defer look.Stop()
	reclaimed := make(chan struct{}, 1)
	defer func() { <-reclaimed }()
	reclaimed <- struct{}{} // no reclaim is under way
	var beyond, quiet time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		n, err := used()
		if err != nil {
			return // the guest has ended
		}
		now := time.Now()
		w.peak.Store(max(n, w.peak.Load()))
		if n <= limit {
			beyond = now
		}
		if n > killAbove(limit) || now.Sub(beyond) > reclaimBudget && !beyond.IsZero() {
			s.killForMemory(n)
			return
		}
		if n > reclaimAbove(limit) && now.After(quiet) {
			select {
			case <-reclaimed:
				quiet = now.Add(reclaimPause)
				force := !beyond.IsZero() && now.Sub(beyond) > reclaimForce
				go func() {
					s.reclaim(ctx, force)
					reclaimed <- struct{}{}
				}()
			default: // one is under way
			}
		}
		look.Reset(nextLook(limit, n))
	}
}

// nextLook is when a guest that uses n bytes could be at the next threshold.
func nextLook(limit, n int64) time.Duration {
	room := reclaimAbove(limit) - n
	if room < 0 {
		return shortestLook
	}
	return max(shortestLook, min(longestLook, time.Duration(float64(room)/fillRate*float64(time.Second))))
}

func (s *Sandbox) killForMemory(used int64) {
	s.mu.Lock()
	s.cause = fmt.Errorf("guest used %d MiB and did not shrink: %w", used>>20, ErrOutOfMemory)
	s.mu.Unlock()
	_ = unix.Kill(s.sand.Getpid(), unix.SIGKILL)
}

// reclaim has the agent kill the largest process. It does nothing during a checkpoint, which stops the guest anyway and waits for
// the watchdog when it ends the sandbox.
func (s *Sandbox) reclaim(ctx context.Context, force bool) {
	if !s.ctl.quiesce.TryRLock() {
		return
	}
	defer s.ctl.quiesce.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, reclaimBudget)
	defer cancel()
	_, _ = s.ctl.callLocked(ctx, &wire.Request{Op: wire.OpReclaim, Limit: s.cfg.Limits.MemoryBytes, Force: force}, nil)
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
	MemoryPeak  int64         // since it was created or restored; zero without a limit of memory
	CPU         time.Duration // likewise
}

// Usage measures the sandbox.
func (s *Sandbox) Usage(context.Context) (Usage, error) {
	ev, err := s.sand.Event(s.cfg.ID)
	if err != nil {
		return Usage{}, fmt.Errorf("measure sandbox %q: %w", s.cfg.ID, err)
	}
	u := Usage{MemoryBytes: int64(ev.Event.Data.Memory.Usage.Usage)}
	s.mu.Lock()
	if s.limits != nil {
		u.MemoryPeak = s.limits.peak.Load()
	}
	s.mu.Unlock()
	for _, ns := range ev.ContainerUsage {
		u.CPU += time.Duration(ns)
	}
	return u, nil
}
