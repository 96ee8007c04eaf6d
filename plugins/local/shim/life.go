package shim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/plugins/local/record"
	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// ending is why a shim stops.
type ending int

const (
	// endDeleted: the plugin asked, and removes the folder.
	endDeleted ending = iota + 1
	// endExpired: the lifetime is over, and nobody else may be there to clean up.
	endExpired
	// endPaused: the guest is in a checkpoint and the record says so.
	endPaused
	// endGuest: the guest ended although nobody asked it to.
	endGuest
)

// life is a shim's view of its own sandbox: the record, which it alone writes,
// and its end.
type life struct {
	dir     string
	private string
	log     *slog.Logger
	ends    chan ending
	// over is closed by close, when the record tells the end.
	over chan struct{}
	// pausing is true while a pause is under way, which ends the guest before it
	// ends the shim; whoever sets it calls end when the guest is gone.
	pausing atomic.Bool
	// extended holds a token when the end of the lifetime has moved.
	extended chan struct{}

	mu  sync.Mutex
	rec *record.Sandbox
	// expired is set when the lifetime is over: then it cannot be extended any
	// more.
	expired bool
}

func newLife(dir string, rec *record.Sandbox, log *slog.Logger) *life {
	return &life{
		dir: dir, private: privateDir(dir), log: log, ends: make(chan ending, 1), over: make(chan struct{}),
		extended: make(chan struct{}, 1), rec: rec,
	}
}

// privateDir is where every shim mounts a file system of its own, which the
// others and the host do not see. It is the same for all of a state folder and
// not part of a sandbox's folder, which may get another name while the shim
// lives.
func privateDir(dir string) string {
	return filepath.Join(filepath.Dir(filepath.Dir(dir)), privateName)
}

// privateName is a folder beside those of sandboxes, empty as the host sees it.
const privateName = "private"

// rootDir is where the lower tree of the guest's root is built.
func (l *life) rootDir() string { return filepath.Join(l.private, "root") }

// sandbox returns the record's sandbox; the caller owns it.
func (l *life) sandbox() *providerv1.Sandbox {
	l.mu.Lock()
	defer l.mu.Unlock()
	out, _ := proto.Clone(l.rec.Sandbox).(*providerv1.Sandbox)
	return out
}

// commit changes the record on disk and then in memory. While an error is
// returned, the old record is in force.
func (l *life) commit(change func(*providerv1.Sandbox)) error {
	return l.write(nil, change)
}

// paused commits that the guest is in the checkpoint, and what it had used.
func (l *life) paused(usage *providerv1.Usage) error {
	return l.write(usage, func(s *providerv1.Sandbox) {
		s.State, s.Kept = providerv1.SandboxState_SANDBOX_STATE_PAUSED, Everything()
	})
}

// write is commit, with other figures of usage unless they are nil.
func (l *life) write(usage *providerv1.Usage, change func(*providerv1.Sandbox)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writeLocked(usage, change)
}

// writeLocked is write for a caller that holds mu.
func (l *life) writeLocked(usage *providerv1.Usage, change func(*providerv1.Sandbox)) error {
	next, _ := proto.Clone(l.rec.Sandbox).(*providerv1.Sandbox)
	change(next)
	rec := &record.Sandbox{Sandbox: next, Spec: l.rec.Spec, Usage: l.rec.Usage}
	if usage != nil {
		rec.Usage = usage
	}
	if err := record.WriteSandbox(l.dir, rec); err != nil {
		return err
	}
	l.rec = rec
	return nil
}

// running commits that the guest runs.
func (l *life) running() error {
	return l.commit(func(s *providerv1.Sandbox) {
		s.State, s.StatusReason, s.Kept = providerv1.SandboxState_SANDBOX_STATE_RUNNING, "", nil
	})
}

// adopt gives a member of the pool the folder and the record of a sandbox.
func (l *life) adopt(dir string, rec *record.Sandbox) error {
	l.mu.Lock()
	l.dir, l.rec = dir, rec
	l.mu.Unlock()
	return l.running()
}

// end asks the shim to stop; the first reason counts.
func (l *life) end(why ending) {
	select {
	case l.ends <- why:
	default:
	}
}

// watch waits for the end of the sandbox: a reason given by end, the guest's own
// end, or the end of its lifetime.
func (l *life) watch(guest *runsc.Sandbox) ending {
	for {
		expires, stop := l.timer()
		select {
		case why := <-l.ends:
			stop()
			return why
		case <-guest.Done():
			stop()
			if l.pausing.Load() {
				return <-l.ends
			}
			return endGuest
		case <-expires:
			if l.expire() {
				return endExpired
			}
		case <-l.extended:
			stop()
		}
	}
}

// close carries out an end. The guest is gone when it returns.
func (l *life) close(ctx context.Context, guest *runsc.Sandbox, why ending) {
	defer close(l.over)
	if err := guest.Close(ctx); err != nil {
		l.log.ErrorContext(ctx, "close guest", "error", err)
	}
	var err error
	switch why {
	case endExpired:
		err = l.vanish()
	case endGuest:
		err = l.commit(func(s *providerv1.Sandbox) {
			s.State = providerv1.SandboxState_SANDBOX_STATE_FAILED
			s.StatusReason = endReason(guest.Err())
		})
	case endDeleted, endPaused:
	}
	if err != nil {
		l.log.ErrorContext(ctx, "end sandbox", "error", err)
	}
}

// endReason says why a guest ended although nobody asked it to.
func endReason(err error) string {
	if errors.Is(err, runsc.ErrOutOfMemory) {
		return "the sandbox exceeded its memory limit: " + err.Error()
	}
	return "the sandbox's kernel ended by itself"
}

// vanish removes the sandbox's folder: the record first, after which it exists
// no more.
func (l *life) vanish() error {
	if err := os.Remove(record.SandboxRecord(l.dir)); err != nil {
		return fmt.Errorf("remove record: %w", err)
	}
	return l.clear()
}

// clear removes the sandbox's folder; what remains is taken by the plugin's
// sweep.
func (l *life) clear() error {
	if err := os.RemoveAll(l.dir); err != nil {
		return fmt.Errorf("remove folder of sandbox: %w", err)
	}
	return nil
}
