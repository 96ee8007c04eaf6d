package pluginhost

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"
)

// pinnedFDMin keeps the descriptor of the program away from the low numbers that
// a child's standard streams are moved to before it executes.
const pinnedFDMin = 64

// openProgram opens a program for hashing and executing. What was opened is what
// runs, whatever happens to the path afterwards.
func openProgram(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, pinnedFDMin)
	_ = unix.Close(fd)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(high), path), nil
}

// pinned returns a command that executes the open file and not what the path
// names by then. The descriptor closes on exec, so that no descendant of the
// plugin inherits it; an interpreter, however, opens the script by that name
// after exec, so for a script it stays open.
func pinned(program *os.File, name string, args []string) (*exec.Cmd, error) {
	magic := make([]byte, 2)
	if _, err := program.ReadAt(magic, 0); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	cmd := &exec.Cmd{Args: append([]string{name}, args...)}
	if bytes.Equal(magic, []byte("#!")) {
		cmd.ExtraFiles = []*os.File{program} // the first one becomes 3
		cmd.Path = "/proc/self/fd/3"
		return cmd, nil
	}
	cmd.Path = "/proc/self/fd/" + strconv.Itoa(int(program.Fd()))
	return cmd, nil
}
