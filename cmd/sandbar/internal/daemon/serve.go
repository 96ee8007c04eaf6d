//go:build unix

package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// Tenure is a server's hold on its place.
type Tenure struct {
	place    Place
	lock     *lock
	listener *net.UnixListener
}

// ErrRunning says that a server lives in the place already.
var ErrRunning = errors.New("a server of this user is running already; `sandbar daemon status` shows it")

// Claim takes the place for this process and listens on its socket. A socket
// left behind by a killed server is replaced: the lock proves that it is dead.
func Claim(p Place) (*Tenure, error) {
	if err := p.Make(); err != nil {
		return nil, err
	}
	l, err := tryLock(p.serverLock())
	if errors.Is(err, errLocked) {
		return nil, ErrRunning
	}
	if err != nil {
		return nil, err
	}
	if err := os.Remove(p.Socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		_ = l.Close()
		return nil, fmt.Errorf("remove the socket of an earlier server: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.Socket(), Net: "unix"})
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(p.Socket(), 0o600); err != nil {
		_ = listener.Close()
		_ = l.Close()
		return nil, fmt.Errorf("make the socket private: %w", err)
	}
	return &Tenure{place: p, lock: l, listener: listener}, nil
}

// Listener accepts the connections of CLIs.
func (t *Tenure) Listener() net.Listener { return t.listener }

// Announce writes the server's card.
func (t *Tenure) Announce(version string, now time.Time) error {
	return t.place.writeCard(Card{PID: os.Getpid(), Version: version, Started: now.UTC()})
}

// Close takes the socket away first, so that no CLI finds a server that is
// going, and frees the place last.
func (t *Tenure) Close() error {
	err := t.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	if rerr := os.Remove(t.place.cardPath()); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return errors.Join(err, t.lock.Close())
}

// Ready is the inherited end of the pipe on which the starting CLI waits.
type Ready struct{ file *os.File }

// AdoptReady takes over an inherited descriptor; negative: nobody waits. Call it
// first: until then, a process started by this one would hold the pipe open and
// hide this one's death.
func AdoptReady(fd int) (*Ready, error) {
	if fd < 0 {
		return &Ready{}, nil
	}
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "ready pipe")
	if _, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("ready descriptor %d: %w", fd, err)
	}
	return &Ready{file: f}, nil
}

// Say tells the starting CLI that it can connect, and closes the pipe.
func (r *Ready) Say() error {
	if r.file == nil {
		return nil
	}
	_, err := r.file.WriteString("ready\n")
	if cerr := r.file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("say ready: %w", err)
	}
	return nil
}
