package agent

import (
	"fmt"
	"io"
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
		// The writer uses a descriptor of its own, since the reader closes master.
		dup, err := syscall.Dup(int(master))
		if err != nil {
			_ = in.Close()
			return
		}
		go func() {
			_, _ = io.Copy(rawFile(dup), in)
			_ = in.Close()
			_ = syscall.Close(dup)
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
	return setSize(p.master, *size)
}

func setSize(f rawFile, size wire.Size) error {
	ws := [4]uint16{size.Rows, size.Cols}
	return ioctl(int(f), syscall.TIOCSWINSZ, unsafe.Pointer(&ws))
}

func ioctl(fd int, req uintptr, arg unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), req, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
