package upstream

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
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

// Begin notes that a request is about to be sent. Its error is the contract's.
func (l *Ledger) Begin(key string) error {
	if err := l.begin(key); err != nil {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_HOST_UNSUPPORTED, "the plugin's state folder cannot be written: %w", err).
			With("missing", "state folder").With("remedy", "give the plugin a folder that it can write")
	}
	return nil
}

func (l *Ledger) begin(key string) error {
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

// Settle is End where nobody can be told that a note stays: it is then over in its time.
func (l *Ledger) Settle(key string, log *slog.Logger) {
	if err := l.End(key); err != nil {
		log.Warn("a note about a request could not be removed", "idempotency_key", key, "error", err)
	}
}

// Refusal is what the vendor answered to a request that failed, which is then settled.
// One that it did not answer, or not so that it says what became of it, is the
// contract's error, and settled only if it was never sent.
func (l *Ledger) Refusal(key string, cause error, log *slog.Logger) (*Error, error) {
	var refused *Error
	if !errors.As(cause, &refused) || refused.Status >= http.StatusInternalServerError || refused.Undocumented() {
		var lost *LostError
		if errors.As(cause, &lost) && !lost.Sent {
			l.Settle(key, log)
		}
		return nil, Explain(cause, true)
	}
	l.Settle(key, log)
	return refused, nil
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
