package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// ErrRunning says that another server has the state folder and answers.
var ErrRunning = errors.New("a server is running already")

// lockWait is how long a starting server waits for one that is ending; that has
// shutdownGrace to end its calls, and its plugins need some time too.
const lockWait = 20 * time.Second

const lockRetry = 50 * time.Millisecond

// lock takes the state folder for this process. If another server has it and
// accepts connections on socket, the error is ErrRunning; one that has it and
// does not accept is starting or ending and is waited for. The kernel drops the
// lock with the process, however that ends.
func lock(ctx context.Context, dir, socket string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, writePID(f)
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		if accepts(ctx, socket) {
			return nil, errors.Join(fmt.Errorf("%w: process %s has %s", ErrRunning, holder(f), dir), f.Close())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("process %s has %s and does not answer on %s: %w", holder(f), dir, socket, ctx.Err()), f.Close())
		}
	}
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	return nil
}

// holder returns the process id in a lock file, for people.
func holder(f *os.File) string {
	buf := make([]byte, 32)
	n, _ := f.ReadAt(buf, 0) // io.EOF comes with what there is
	if n == 0 {
		return "(unknown)"
	}
	return string(buf[:n])
}

func accepts(ctx context.Context, socket string) bool {
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return false
	}
	return c.Close() == nil
}
