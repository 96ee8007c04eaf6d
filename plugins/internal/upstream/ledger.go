package upstream

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Ledger notes the keys of requests that were sent and not answered. The vendor may
// still be at such a request, whose process may be gone: until it cannot be any
// more, "there is no such sandbox" is not an answer to "what did this key make"
// (REQ-IDEM-003).
//
// A note is an empty file of the key's name, written before the request is sent and
// removed when it was answered. Without a state folder notes are this process's.
type Ledger struct {
	dir    string
	settle time.Duration
	now    func() time.Time

	mu    sync.Mutex
	notes map[string]time.Time
}

const ledgerDir = "under-way"

// OpenLedger reads the notes in a state folder, which may be empty. settle is how long a
// request without an answer may still take effect.
func OpenLedger(state string, settle time.Duration, now func() time.Time) (*Ledger, error) {
	l := &Ledger{settle: settle, now: now, notes: map[string]time.Time{}}
	if state == "" {
		return l, nil
	}
	l.dir = filepath.Join(state, ledgerDir)
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			l.notes[e.Name()] = info.ModTime()
		}
	}
	return l, nil
}

// Begin notes that a request is about to be sent.
func (l *Ledger) Begin(key string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dir != "" {
		if err := os.WriteFile(filepath.Join(l.dir, key), nil, 0o600); err != nil {
			return err
		}
		at := l.now() // a repeated request counts from its own time
		if err := os.Chtimes(filepath.Join(l.dir, key), at, at); err != nil {
			return err
		}
	}
	l.notes[key] = l.now()
	return nil
}

// End notes that the vendor has answered.
func (l *Ledger) End(key string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.remove(key)
}

func (l *Ledger) remove(key string) error {
	delete(l.notes, key)
	if l.dir == "" {
		return nil
	}
	if err := os.Remove(filepath.Join(l.dir, key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Wait says for how long a request with a key may still take effect; 0: not any
// more. What is over is forgotten.
func (l *Ledger) Wait(key string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	since, ok := l.notes[key]
	if !ok {
		return 0
	}
	if left := l.settle - l.now().Sub(since); left > 0 {
		return left
	}
	_ = l.remove(key) // the next look tries again
	return 0
}
