//go:build unix

package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
)

// Place is the folders of one user's server.
type Place struct {
	// Dir holds socket, locks and log.
	Dir string
	// StateDir outlives reboots: database, plugin state.
	StateDir string
	// ConfigFile is the configuration that is used if it exists.
	ConfigFile string
}

// Locate finds the folders from the environment: XDG_RUNTIME_DIR and
// XDG_STATE_HOME, or ~/.local/state where they are not set. It makes nothing.
func Locate(getenv func(string) string) (Place, error) {
	state := getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home := getenv("HOME")
		if !filepath.IsAbs(home) {
			return Place{}, errors.New("there is no place for Sandbar's state: set HOME or XDG_STATE_HOME to an absolute path, or --server to a running server")
		}
		state = filepath.Join(home, ".local", "state")
	}
	p := Place{StateDir: filepath.Join(state, "sandbar")}
	if conf := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(conf) {
		p.ConfigFile = filepath.Join(conf, "sandbar", "config.yaml")
	} else if home := getenv("HOME"); filepath.IsAbs(home) {
		p.ConfigFile = filepath.Join(home, ".config", "sandbar", "config.yaml")
	}
	if run := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(run) {
		p.Dir = filepath.Join(run, "sandbar")
	} else {
		p.Dir = filepath.Join(p.StateDir, "run")
	}
	return p, client.CheckSocketPath(p.Socket())
}

// Socket is the path the server listens on.
func (p Place) Socket() string { return filepath.Join(p.Dir, "sandbar.sock") }

// Log is the file the server's standard error goes to.
func (p Place) Log() string { return filepath.Join(p.Dir, "server.log") }

// Address is the socket as the client takes it.
func (p Place) Address() client.Address { return client.Address{Socket: p.Socket()} }

// Make makes the folder, and refuses one that others could reach into: a
// stranger's socket there would get every command.
func (p Place) Make() error {
	for _, dir := range []string{p.StateDir, p.Dir} {
		if err := makePrivate(dir); err != nil {
			return err
		}
	}
	return nil
}

func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("check folder: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is not a folder of the present user; remove it or set XDG_RUNTIME_DIR and XDG_STATE_HOME to folders of your own", dir)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(dir, 0o700); err != nil {
			return fmt.Errorf("make %s private: %w", dir, err)
		}
	}
	return nil
}

// Card is what a server says about itself in a file, for questions that must
// not cost a call.
type Card struct {
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
}

func (p Place) cardPath() string { return filepath.Join(p.Dir, "server.json") }

func (p Place) serverLock() string { return filepath.Join(p.Dir, "server.lock") }

// ReadCard returns the card of the last server; ok is false if there is none.
func (p Place) ReadCard() (card Card, ok bool) {
	raw, err := os.ReadFile(p.cardPath())
	if err != nil || json.Unmarshal(raw, &card) != nil {
		return Card{}, false
	}
	return card, true
}

func (p Place) writeCard(card Card) error {
	raw, err := json.Marshal(card)
	if err != nil {
		return fmt.Errorf("encode server card: %w", err)
	}
	tmp := p.cardPath() + ".new"
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return fmt.Errorf("write server card: %w", err)
	}
	if err := os.Rename(tmp, p.cardPath()); err != nil {
		return fmt.Errorf("write server card: %w", err)
	}
	return nil
}

// lock is a held flock. The kernel frees it with the process, whatever happens.
type lock struct{ file *os.File }

// errLocked says that another process holds a lock.
var errLocked = errors.New("the lock is held by another process")

func tryLock(path string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, &fs.PathError{Op: "flock", Path: path, Err: err}
	}
	return &lock{f}, nil
}

// Close frees the lock. The file stays: removing it would let two processes
// hold "the" lock.
func (l *lock) Close() error { return l.file.Close() }
