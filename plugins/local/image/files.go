package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// locked runs f as the only one to change the store's visible state, in this
// process and in others.
func (s *Store) locked(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed()
	}
	lock, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return disk(err)
	}
	defer lock.Close() // frees the lock
	if err := flock(lock, unix.LOCK_EX); err != nil {
		return disk(err)
	}
	return f()
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// workFolder is a folder for work in progress. It is alive as long as its lock
// is held, which the kernel ends with the process.
type workFolder struct {
	path string
	lock *os.File
}

// newWorkFolder makes a folder in tmp; the store must be locked.
func newWorkFolder(tmp string) (*workFolder, error) {
	path, err := os.MkdirTemp(tmp, "")
	if err != nil {
		return nil, err
	}
	lock, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := flock(lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &workFolder{path: path, lock: lock}, nil
}

func (w *workFolder) remove() error {
	return errors.Join(os.RemoveAll(w.path), w.lock.Close())
}

// sweep removes the folders of tmp that no process holds; the store must be locked.
func sweep(tmp string) error {
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(tmp, e.Name())
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if flock(f, unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = os.RemoveAll(path)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// writeFile makes a small file whole: it is synced under another name first.
func (s *Store) writeFile(path string, content []byte) error {
	f, err := os.CreateTemp(s.work.path, "file-")
	if err != nil {
		return disk(err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = moveInto(f.Name(), path)
	}
	if err != nil {
		return disk(errors.Join(err, ignoreMissing(os.Remove(f.Name()))))
	}
	return nil
}

// moveInto renames within the store and makes that last.
func moveInto(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(to))
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// keyed is a set of locks by name whose holders can be waited for with a context.
type keyed struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// acquire returns the function that gives the lock back.
func (k *keyed) acquire(ctx context.Context, key string) (func(), error) {
	for {
		k.mu.Lock()
		if k.held == nil {
			k.held = map[string]chan struct{}{}
		}
		holder, taken := k.held[key]
		if !taken {
			done := make(chan struct{})
			k.held[key] = done
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.held, key)
				k.mu.Unlock()
				close(done)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-holder:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// slot takes a place in a semaphore.
func slot(ctx context.Context, places chan struct{}) (func(), error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
