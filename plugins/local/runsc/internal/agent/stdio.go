package agent

import (
	"fmt"
	"slices"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// prepare opens streams that a start request will name, while nobody waits for that. What was prepared before and not used is closed.
func (a *agent) prepare(names []string) error {
	for name, f := range a.prepared {
		_ = f.Close()
		delete(a.prepared, name)
	}
	for _, name := range names {
		f, err := openStream(name, syscall.O_WRONLY)
		if err != nil {
			a.drop(names...)
			return fmt.Errorf("prepare stream %q: %w", name, err)
		}
		a.prepared[name] = f
	}
	return nil
}

// drop closes streams that were prepared for a start that failed: the shim removes them, and no open file may be without a name at a
// checkpoint.
func (a *agent) drop(names ...string) {
	for _, name := range names {
		if f, ok := a.prepared[name]; ok {
			_ = f.Close()
			delete(a.prepared, name)
		}
	}
}

// openStdio returns the three files of a child, for closeStdio, and for a terminal its master.
func (a *agent) openStdio(req *wire.Request) (stdio [3]rawFile, master rawFile, err error) {
	if req.Exec.TTY != nil {
		master, replica, err := openTTY(*req.Exec.TTY)
		return [3]rawFile{replica, replica, replica}, master, err
	}
	stdio = [3]rawFile{-1, -1, -1}
	for i, name := range []string{req.Stdin, req.Stdout, req.Stderr} {
		if stdio[i], err = a.openOne(name, i); err != nil {
			a.closeStdio(stdio)
			return stdio, -1, fmt.Errorf("open stream %q: %w", name, err)
		}
	}
	return stdio, -1, nil
}

func (a *agent) openOne(name string, fd int) (rawFile, error) {
	if name == "" {
		return a.nullDevice()
	}
	if f, ok := a.prepared[name]; ok {
		delete(a.prepared, name)
		return f, nil
	}
	if fd == 0 {
		return openStream(name, syscall.O_RDONLY)
	}
	return openStream(name, syscall.O_WRONLY)
}

// nullDevice is opened once.
func (a *agent) nullDevice() (f rawFile, err error) {
	if a.null < 0 {
		a.null, err = openStream("", syscall.O_RDWR)
	}
	return a.null, err
}

// closeStdio closes each distinct file once, and not the null device.
func (a *agent) closeStdio(stdio [3]rawFile) {
	slices.Sort(stdio[:])
	for _, f := range slices.Compact(stdio[:]) {
		if f != a.null {
			_ = f.Close()
		}
	}
}
