package agent

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// reclaim kills the process with the largest resident set and marks the exec of its session as out of memory. It kills nothing while
// processes hold less than three quarters of the limit, unless forced: then memory is on its way back. And it never kills a process
// that holds too little for that to help.
func (a *agent) reclaim(limit int64, force bool) error {
	victim, most, total, err := residents()
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	if victim == 0 || most < limit/32 || total < limit/4*3 && !force {
		return fmt.Errorf("reclaim memory: processes hold %d MiB, the largest %d MiB: %w", total>>20, most>>20, syscall.ESRCH)
	}
	a.mu.Lock()
	if sid, err := getsid(victim); err == nil {
		if p := a.byPID[sid]; p != nil {
			p.oom = true
		}
	}
	a.mu.Unlock()
	return syscall.Kill(victim, syscall.SIGKILL)
}

// residents returns the process with the largest resident set, its size and that of all, in bytes.
func residents() (largest int, most, total int64, err error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return 0, 0, 0, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		b, err := os.ReadFile("/proc/" + name + "/statm")
		fields := strings.Fields(string(b))
		if err != nil || len(fields) < 2 {
			continue // gone since
		}
		pages, _ := strconv.ParseInt(fields[1], 10, 64)
		rss := pages * int64(os.Getpagesize())
		total += rss
		if rss > most {
			largest, most = pid, rss
		}
	}
	return largest, most, total, err
}

func getsid(pid int) (int, error) {
	sid, _, errno := syscall.RawSyscall(syscall.SYS_GETSID, uintptr(pid), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(sid), nil
}
