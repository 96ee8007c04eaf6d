package agent

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// openTTY makes a terminal of the guest's own devpts, which therefore is saved with the guest.
func openTTY(size wire.Size) (master, replica rawFile, err error) {
	fd, err := syscall.Open("/dev/ptmx", syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("open terminal: %w", err)
	}
	master = rawFile(fd)
	var unlock int32
	var n uint32
	if err = ioctl(fd, syscall.TIOCSPTLCK, unsafe.Pointer(&unlock)); err == nil {
		err = ioctl(fd, syscall.TIOCGPTN, unsafe.Pointer(&n))
	}
	if err == nil {
		err = setSize(master, size)
	}
	if err == nil {
		fd, err = syscall.Open(fmt.Sprintf("/dev/pts/%d", n), syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	}
	if err != nil {
		_ = master.Close()
		return -1, -1, fmt.Errorf("set up terminal: %w", err)
	}
	return master, rawFile(fd), nil
}

// relayTTY copies between the terminal and the streams of req until the terminal hangs up. Both goroutines end with the exec:
// the reader by EIO when the last process closed the terminal, the writer by the end of the stdin stream.
func (a *agent) relayTTY(req *wire.Request, master rawFile) {
	out, err := openStream(req.Stdout, syscall.O_WRONLY)
	if err == nil {
		go func() {
			_, _ = io.Copy(out, master)
			_ = out.Close()
			a.dropTTY(req.Exec.ID)
		}()
	}
	if req.Stdin == "" {
		return
	}
	if in, err := openStream(req.Stdin, syscall.O_RDONLY); err == nil {
		// The writer uses a descriptor of its own, since the reader closes master. Commands that start meanwhile do not get it:
		// it would let them type, and keep the terminal.
		dup, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(master), syscall.F_DUPFD_CLOEXEC, 0)
		if errno != 0 {
			_ = in.Close()
			return
		}
		go func() {
			_, _ = io.Copy(keyboard{rawFile(dup)}, in)
			_ = in.Close()
			_ = syscall.Close(int(dup))
		}()
	}
}

func (a *agent) dropTTY(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.byID[id]; p != nil && p.master >= 0 {
		_ = p.master.Close()
		p.master = -1
	}
}

func (a *agent) resize(id string, size *wire.Size) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	p, ok := a.byID[id]
	switch {
	case !ok || size == nil:
		return fmt.Errorf("resize exec %q: %w", id, syscall.ESRCH)
	case p.master < 0:
		if p.status.Ended {
			return nil
		}
		return fmt.Errorf("resize exec %q: %w", id, syscall.ENOTTY)
	}
	var was [4]uint16
	if err := ioctl(int(p.master), syscall.TIOCGWINSZ, unsafe.Pointer(&was)); err != nil {
		return fmt.Errorf("resize exec %q: %w", id, err)
	}
	if err := setSize(p.master, *size); err != nil {
		return fmt.Errorf("resize exec %q: %w", id, err)
	}
	if was[0] != size.Rows || was[1] != size.Cols {
		return signalSession(p.status.PID, syscall.SIGWINCH)
	}
	return nil
}

// signalSession signals every process group of a session. gVisor's terminals do not send SIGWINCH, and nobody outside of a
// session may ask which group is in the foreground; a process that does not wait for the signal does not notice it.
func signalSession(sid int, signal syscall.Signal) error {
	dir, err := os.Open("/proc")
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	defer func() { _ = dir.Close() }() // it was only read
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	done := map[int]bool{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		// A process that ended meanwhile needs no signal.
		if of, err := getsid(pid); err != nil || of != sid {
			continue
		}
		if group, err := syscall.Getpgid(pid); err == nil && !done[group] {
			done[group] = true
			_ = syscall.Kill(-group, signal)
		}
	}
	return nil
}

func setSize(f rawFile, size wire.Size) error {
	ws := [4]uint16{size.Rows, size.Cols}
	return ioctl(int(f), syscall.TIOCSWINSZ, unsafe.Pointer(&ws))
}

// keyboard is where input for a terminal is written. gVisor's terminals make signals of control characters even when the program
// has switched that off with ISIG, as editors do; for such a program the characters are disabled while one of them is written. It
// may change its settings in the same moment, in which case the old ones are put back: what it sets next holds again.
type keyboard struct{ terminal rawFile }

// Write implements io.Writer.
func (k keyboard) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		rest := b[written:]
		n := bytes.IndexAny(rest, signalKeys)
		var err error
		switch {
		case n < 0:
			n, err = k.terminal.Write(rest)
		case n > 0:
			n, err = k.terminal.Write(rest[:n])
		default:
			n, err = k.signalKey(rest[:1])
		}
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// signalKeys are the characters that signal by default: Ctrl-C, Ctrl-Z and Ctrl-\.
const signalKeys = "\x03\x1a\x1c"

func (k keyboard) signalKey(key []byte) (int, error) {
	var was syscall.Termios
	if err := ioctl(int(k.terminal), syscall.TCGETS, unsafe.Pointer(&was)); err != nil || was.Lflag&syscall.ISIG != 0 {
		return k.terminal.Write(key)
	}
	plain := was
	for _, c := range []int{syscall.VINTR, syscall.VSUSP, syscall.VQUIT} {
		plain.Cc[c] = 0
	}
	if err := ioctl(int(k.terminal), syscall.TCSETS, unsafe.Pointer(&plain)); err != nil {
		return k.terminal.Write(key)
	}
	n, err := k.terminal.Write(key)
	if back := ioctl(int(k.terminal), syscall.TCSETS, unsafe.Pointer(&was)); err == nil {
		err = back
	}
	return n, err
}

func ioctl(fd int, req uintptr, arg unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), req, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
