//go:build unix

package terminal

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/term"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Is reports whether a file is a terminal.
func Is(f *os.File) bool { return f != nil && term.IsTerminal(int(f.Fd())) }

// Size returns the size of a terminal, 24 by 80 where it has none: a sandbox
// with no size at all breaks most programs.
func Size(f *os.File) *providerv1.Terminal {
	cols, rows, err := term.GetSize(int(f.Fd()))
	if err != nil || cols <= 0 || rows <= 0 {
		return &providerv1.Terminal{Rows: 24, Cols: 80}
	}
	return &providerv1.Terminal{Rows: uint32(rows), Cols: uint32(cols)}
}

// Raw is a terminal in raw mode.
type Raw struct {
	file  *os.File
	state *term.State
	once  sync.Once
	err   error
}

// MakeRaw puts a terminal into raw mode. The caller must Restore it.
func MakeRaw(f *os.File) (*Raw, error) {
	state, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("put the terminal into raw mode: %w", err)
	}
	return &Raw{file: f, state: state}, nil
}

// Restore gives the terminal back as it was. It is safe to call again, from any
// goroutine, and on nil.
func (r *Raw) Restore() error {
	if r == nil {
		return nil
	}
	r.once.Do(func() {
		if err := term.Restore(int(r.file.Fd()), r.state); err != nil {
			r.err = fmt.Errorf("restore the terminal: %w", err)
		}
	})
	return r.err
}
