//go:build unix

package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// Tenure is a server's hold on its place.
type Tenure struct {
	place Place
	lock  *lock
}

// ErrRunning says that a server lives in the place already.
var ErrRunning = errors.New("a server of this user is running already; `sandbar daemon status` shows it")

// claimWait is how long a starting server waits for one that does not answer
// any more but has calls to end.
const claimWait = 30 * time.Second

// Claim takes the place for this process. A server that answers there gives
// ErrRunning; one that is ending is waited for.
func Claim(ctx context.Context, p Place) (*Tenure, error) {
	if err := p.Make(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, claimWait, fmt.Errorf("another server holds %s and does not answer", p.serverLock()))
	defer cancel()
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		l, err := tryLock(p.serverLock())
		if !errors.Is(err, errLocked) {
			return &Tenure{place: p, lock: l}, err
		}
		if Listening(ctx, p) {
			return nil, ErrRunning
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// Announce writes the server's card.
func (t *Tenure) Announce(version string, now time.Time) error {
	return t.place.writeCard(Card{PID: os.Getpid(), Version: version, Started: now.UTC()})
}

// Close takes the card away and frees the place. Call it when the server has
// ended.
func (t *Tenure) Close() error {
	err := os.Remove(t.place.cardPath())
	if errors.Is(err, os.ErrNotExist) {
		err = nil
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
