package record

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Names of files and folders below the state folder.
const (
	recordFile   = "record.json"
	sandboxesDir = "sandboxes"
	snapshotsDir = "snapshots"
	volumesDir   = "volumes"
	keysDir      = "keys"
	poolDir      = "pool"
	lockFile     = "lock"
)

// Store is the open state folder.
type Store struct {
	dir  string
	lock *os.File
	// keys serialises spending and fencing of keys.
	keys sync.Mutex
	now  func() time.Time
}

// Open creates dir as needed and takes its lock, which another plugin process
// may still hold for a moment while it ends; ctx bounds the wait.
func Open(ctx context.Context, dir string) (*Store, error) {
	for _, sub := range []string{"", sandboxesDir, snapshotsDir, volumesDir, keysDir, poolDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("make state folder: %w", err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of state folder: %w", err)
	}
	if err := flock(ctx, lock); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("state folder %q is served by another process: %w", dir, err)
	}
	return &Store{dir: dir, lock: lock, now: time.Now}, nil
}

// lockPoll is how often a held lock is tried again: flock has no deadline of its
// own, and a thread blocked in it could not be called back.
const lockPoll = 20 * time.Millisecond

func flock(ctx context.Context, f *os.File) error {
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// Close gives up the lock. Records stay.
func (s *Store) Close() error { return s.lock.Close() }

// SandboxDir is the folder of a sandbox; it exists after Create.
func (s *Store) SandboxDir(id string) string { return filepath.Join(s.dir, sandboxesDir, id) }

// SnapshotDir is the folder of a snapshot.
func (s *Store) SnapshotDir(id string) string { return filepath.Join(s.dir, snapshotsDir, id) }

// Sandbox is a sandbox's record.
type Sandbox struct {
	// Sandbox is what GetSandbox answers when nobody knows better. Its state is
	// the last one that was committed.
	Sandbox *providerv1.Sandbox
	// Spec is what it was made from, defaults filled in.
	Spec *providerv1.SandboxSpec
	// Usage is what it had used when it was last paused; empty before.
	Usage *providerv1.Usage
}

// messages are what the file holds. Those of an older file that lacks one read as
// empty.
func (r *Sandbox) messages() map[string]proto.Message {
	return map[string]proto.Message{"sandbox": r.Sandbox, "spec": r.Spec, "usage": r.Usage}
}

// SandboxRecord returns the path of a sandbox's record in its folder, for the
// shim, which knows only the folder.
func SandboxRecord(dir string) string { return filepath.Join(dir, recordFile) }

// ReadSandbox reads the record in a sandbox's folder; fs.ErrNotExist if there is
// none.
func ReadSandbox(dir string) (*Sandbox, error) {
	rec := &Sandbox{Sandbox: &providerv1.Sandbox{}, Spec: &providerv1.SandboxSpec{}, Usage: &providerv1.Usage{}}
	err := read(SandboxRecord(dir), rec.messages())
	if err != nil {
		return nil, err
	}
	return rec, nil
}

// WriteSandbox replaces the record in a sandbox's folder.
func WriteSandbox(dir string, rec *Sandbox) error {
	return write(SandboxRecord(dir), rec.messages())
}

// PutSandbox writes a record, making the sandbox's folder if it is missing.
func (s *Store) PutSandbox(rec *Sandbox) error {
	dir := s.SandboxDir(rec.Sandbox.GetIdentity().GetSandboxId())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make sandbox folder: %w", err)
	}
	return WriteSandbox(dir, rec)
}

// Sandbox reads one record; fs.ErrNotExist if there is none.
func (s *Store) Sandbox(id string) (*Sandbox, error) {
	if !validID(id) {
		return nil, fs.ErrNotExist
	}
	return ReadSandbox(s.SandboxDir(id))
}

// HasSandbox reports whether a sandbox has a record, which may be unreadable.
func (s *Store) HasSandbox(id string) bool {
	if !validID(id) {
		return false
	}
	_, err := os.Stat(SandboxRecord(s.SandboxDir(id)))
	return err == nil
}

// SandboxIDs lists ids that have a folder, in order, whether or not their record
// can be read.
func (s *Store) SandboxIDs() ([]string, error) { return folders(filepath.Join(s.dir, sandboxesDir)) }

// RemoveSandbox forgets a sandbox: the record first, so that a crash leaves a
// folder that Sweep removes, then everything in its folder.
func (s *Store) RemoveSandbox(id string) error { return removeObject(s.SandboxDir(id)) }

// Snapshot reads one snapshot's record and the spec of the sandbox it is from.
func (s *Store) Snapshot(id string) (*providerv1.Snapshot, *providerv1.SandboxSpec, error) {
	if !validID(id) {
		return nil, nil, fs.ErrNotExist
	}
	snap, spec := &providerv1.Snapshot{}, &providerv1.SandboxSpec{}
	err := read(filepath.Join(s.SnapshotDir(id), recordFile), map[string]proto.Message{"snapshot": snap, "spec": spec})
	if err != nil {
		return nil, nil, err
	}
	return snap, spec, nil
}

// PutSnapshot commits a snapshot whose files are already in SnapshotDir.
func (s *Store) PutSnapshot(snap *providerv1.Snapshot, spec *providerv1.SandboxSpec) error {
	return write(filepath.Join(s.SnapshotDir(snap.GetSnapshotId()), recordFile),
		map[string]proto.Message{"snapshot": snap, "spec": spec})
}

// SnapshotIDs lists ids that have a folder, in order.
func (s *Store) SnapshotIDs() ([]string, error) { return folders(filepath.Join(s.dir, snapshotsDir)) }

// RemoveSnapshot forgets a snapshot and its files.
func (s *Store) RemoveSnapshot(id string) error { return removeObject(s.SnapshotDir(id)) }

// Sweep removes what crashes left: folders without a record, temporary files,
// and keys that are old and belong to nothing. keep is asked before a folder
// without a record goes, so that objects in the making are spared.
func (s *Store) Sweep(keep func(id string) bool) error {
	var errs []error
	for _, kind := range []string{sandboxesDir, snapshotsDir} {
		ids, err := folders(filepath.Join(s.dir, kind))
		if err != nil {
			return err
		}
		for _, id := range ids {
			dir := filepath.Join(s.dir, kind, id)
			if _, err := os.Stat(filepath.Join(dir, recordFile)); errors.Is(err, fs.ErrNotExist) && !keep(id) {
				errs = append(errs, removeObject(dir))
			}
		}
	}
	errs = append(errs, s.sweepKeys())
	return errors.Join(errs...)
}

func removeObject(dir string) error {
	if err := os.Remove(filepath.Join(dir, recordFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record: %w", err)
	}
	if err := removeAll(dir); err != nil {
		return fmt.Errorf("remove %q: %w", dir, err)
	}
	return nil
}

// removeAll is os.RemoveAll that also opens folders an ordinary user made
// unreadable to itself, as an unpacked tree may hold.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

func folders(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && validID(e.Name()) {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out, nil
}

// validID keeps ids from naming anything but a folder right below its kind.
func validID(id string) bool {
	return id != "" && len(id) <= 128 && id[0] != '.' && !strings.ContainsAny(id, "/\x00")
}
