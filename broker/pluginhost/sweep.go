package pluginhost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandbar-dev/sandbar/proto/pattern"
)

// sweepWait is how long a killed leftover may take to be gone.
const sweepWait = 2 * time.Second

// unfinishedAge is when a launch folder without a record is nobody's.
const unfinishedAge = time.Minute

// sweep removes what a broker that was killed left in the runtime folder: it
// ends its plugins and removes their folders. Folders of a broker that still
// lives are left alone, and no process is touched whose pid, start time and boot
// are not those that were recorded.
func sweep(ctx context.Context, runtimeDir string, log *slog.Logger) error {
	entries, err := os.ReadDir(runtimeDir)
	if err != nil {
		return fmt.Errorf("sweep runtime folder: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if e.IsDir() && launchName().MatchString(e.Name()) {
			errs = append(errs, sweepLaunch(ctx, filepath.Join(runtimeDir, e.Name()), log))
		}
	}
	return errors.Join(errs...)
}

// launchName is what os.MkdirTemp makes of launchPrefix.
var launchName = pattern.Lazy("^" + launchPrefix + "[0-9]+$")

func sweepLaunch(ctx context.Context, dir string, log *slog.Logger) error {
	rec, err := readRecord(dir)
	if err != nil {
		return err
	}
	if rec == nil { // being made, or left half-made or half-removed
		if info, err := os.Stat(dir); err != nil || time.Since(info.ModTime()) < unfinishedAge {
			return nil //nolint:nilerr // somebody else removed it
		}
		return os.RemoveAll(dir) //nolint:wrapcheck // says it all
	}
	if rec.Host.alive() {
		return nil
	}
	if rec.Plugin != nil && rec.Plugin.alive() {
		log.WarnContext(ctx, "ending a plugin that a killed broker left behind", "provider", rec.Provider, "pid", rec.Plugin.PID)
		if err := rec.Plugin.kill(); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir) //nolint:wrapcheck // says it all
}

// readRecord returns nil without an error for a folder that is not ours, or not
// yet or no longer complete.
func readRecord(dir string) (*record, error) {
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // see above
	}
	if err != nil {
		return nil, fmt.Errorf("read launch record: %w", err)
	}
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil {
		return nil, fmt.Errorf("launch record in %s is not valid: %w", dir, err)
	}
	return &rec, nil
}

// identify reads who a process is now.
func identify(pid int) (identity, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return identity{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return identity{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	// The name, in parentheses, may hold anything; the last one closes it. The
	// start time is field 22, and field 3 follows the name.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const startField = 22 - 3
	if len(fields) <= startField {
		return identity{}, fmt.Errorf("identify process %d: /proc stat has %d fields after the name", pid, len(fields))
	}
	// The first process of a container seldom reaps: the dead may stay listed for ever.
	if state := string(fields[0]); state == "Z" || state == "X" {
		return identity{}, fmt.Errorf("identify process %d: it has ended", pid)
	}
	start, err := strconv.ParseUint(string(fields[startField]), 10, 64)
	if err != nil {
		return identity{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	return identity{PID: pid, Start: start, Boot: string(bytes.TrimSpace(boot))}, nil
}

// alive reports whether exactly that process still exists.
func (id identity) alive() bool {
	now, err := identify(id.PID)
	return err == nil && now == id
}

// kill ends the process and its group and waits until it is gone.
func (id identity) kill() error {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", id.PID, err)
	}
	defer unix.Close(fd)
	if !id.alive() { // checked after opening: from here on fd cannot mean another
		return nil
	}
	if pgid, err := unix.Getpgid(id.PID); err == nil && pgid == id.PID {
		_ = unix.Kill(-id.PID, unix.SIGKILL)
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", id.PID, err)
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(sweepWait.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("wait for process %d: %w", id.PID, err)
		case n == 0:
			return fmt.Errorf("process %d was killed and is still there after %s", id.PID, sweepWait)
		}
		return nil
	}
}
