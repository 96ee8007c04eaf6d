package pluginhost

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Pin is what the lock file records of one binary. It does not depend on where
// the binary lies.
type Pin struct {
	// Version is what the plugin called itself; for people only.
	Version string `json:"version,omitempty"`
	// SHA256 of the whole file, in hex.
	SHA256 string `json:"sha256"`
	// Size in bytes.
	Size int64 `json:"size"`
}

// Lock is the content of the lock file, by provider name.
type Lock struct {
	// Format is 1.
	Format  int            `json:"format"`
	Plugins map[string]Pin `json:"plugins"`
}

const lockFormat = 1

// AcceptCommand is what a person runs to accept a changed binary.
const AcceptCommand = "sandbar plugin lock"

// ReadLock reads a lock file. One that does not exist locks nothing in.
func ReadLock(path string) (Lock, error) {
	lock := Lock{Format: lockFormat, Plugins: map[string]Pin{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return lock, nil
	}
	if err != nil {
		return Lock{}, fmt.Errorf("read plugin lock file: %w", err)
	}
	if err := json.Unmarshal(data, &lock); err != nil {
		return Lock{}, fmt.Errorf("plugin lock file %s is not valid: %w; correct it, or remove it and run %s", path, err, AcceptCommand)
	}
	if lock.Format != lockFormat {
		return Lock{}, fmt.Errorf("plugin lock file %s has format %d: want %d; a newer sandbar wrote it", path, lock.Format, lockFormat)
	}
	if lock.Plugins == nil {
		lock.Plugins = map[string]Pin{}
	}
	return lock, nil
}

// UpdateLock changes a lock file under a lock of its own, so that two brokers do
// not lose each other's entries. The file is replaced as a whole or not at all.
func UpdateLock(path string, change func(*Lock) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write plugin lock file: %w", err)
	}
	guard, err := os.OpenFile(path+".guard", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("write plugin lock file: %w", err)
	}
	defer guard.Close()
	if err := unix.Flock(int(guard.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("write plugin lock file: lock %s: %w", guard.Name(), err)
	}
	lock, err := ReadLock(path)
	if err != nil {
		return err
	}
	if err := change(&lock); err != nil {
		return err
	}
	data, err := json.MarshalIndent(lock, "", "  ")
	if err != nil {
		return fmt.Errorf("write plugin lock file: %w", err)
	}
	if err := replaceFile(path, append(data, '\n')); err != nil {
		return fmt.Errorf("write plugin lock file: %w", err)
	}
	return nil
}

// replaceFile writes beside path and renames, synced, so that a crash leaves the
// old content or the new.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("make temporary file: %w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// check compares a binary as it is with what is recorded.
func (l Lock) check(b Binary, is Pin) error {
	want, ok := l.Plugins[b.Name]
	if !ok {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED,
			"provider %q: %s is not in the plugin lock file; its sha256 is %s; to accept it, run: %s %s",
			b.Name, b.Path, is.SHA256, AcceptCommand, b.Name).
			With("provider", b.Name).With("path", b.Path).With("found", is.SHA256)
	}
	if want.SHA256 != is.SHA256 {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED,
			"provider %q: %s has changed: the plugin lock file expects sha256 %s, found %s; if that is your doing, run: %s %s",
			b.Name, b.Path, want.SHA256, is.SHA256, AcceptCommand, b.Name).
			With("provider", b.Name).With("path", b.Path).With("expected", want.SHA256).With("found", is.SHA256)
	}
	return nil
}

// admit records a binary that is not recorded, and checks one that is.
func admit(path string, b Binary, is Pin) error {
	lock, err := ReadLock(path)
	if err != nil {
		return err
	}
	if _, ok := lock.Plugins[b.Name]; ok {
		return lock.check(b, is)
	}
	return UpdateLock(path, func(l *Lock) error {
		if _, ok := l.Plugins[b.Name]; ok { // another broker was quicker
			return l.check(b, is)
		}
		l.Plugins[b.Name] = is
		return nil
	})
}
