package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// keyWindow is how long a key is honoured after its object is gone
// (REQ-IDEM-004).
const keyWindow = 24 * time.Hour

// Key is what an idempotency key was spent on.
type Key struct {
	// IDs of the objects, in the order of the request; empty if Fenced.
	IDs    []string `json:"ids,omitempty"`
	Digest []byte   `json:"digest,omitempty"`
	// Fenced keys were asked about before they were spent. The asker was told
	// that nothing was made, so nothing may be made with them any more.
	Fenced bool `json:"fenced,omitempty"`
	// Open keys are spent on several objects of which all or none are to be, and
	// not all are yet. One that is open although nobody is at work any more
	// stands for leftovers.
	Open bool `json:"open,omitempty"`
}

// Spend binds an operation's key to the ids of the objects to be made. fresh is
// true for the first caller; every other caller with the same digest gets the
// first one's ids. IDEMPOTENCY_KEY_REUSED for another digest or a fenced key.
func (s *Store) Spend(op *providerv1.Operation, ids []string) (key *Key, fresh bool, err error) {
	return s.spend(op, &Key{IDs: ids, Digest: op.GetRequestDigest()})
}

// SpendOpen is Spend for objects that are to be all or none: the key stays open
// until Complete.
func (s *Store) SpendOpen(op *providerv1.Operation, ids []string) (key *Key, fresh bool, err error) {
	return s.spend(op, &Key{IDs: ids, Digest: op.GetRequestDigest(), Open: true})
}

func (s *Store) spend(op *providerv1.Operation, fresh *Key) (*Key, bool, error) {
	s.keys.Lock()
	defer s.keys.Unlock()
	key, err := s.key(op.GetIdempotencyKey())
	if err == nil {
		return key, false, checkKey(key, op)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	if err := s.putKey(op.GetIdempotencyKey(), fresh); err != nil {
		return nil, false, err
	}
	return fresh, true, nil
}

// Complete says that all objects of an open key are there.
func (s *Store) Complete(idempotencyKey string) error {
	s.keys.Lock()
	defer s.keys.Unlock()
	key, err := s.key(idempotencyKey)
	if err != nil {
		return fmt.Errorf("complete key %q: %w", idempotencyKey, err)
	}
	key.Open = false
	return s.putKey(idempotencyKey, key)
}

func checkKey(key *Key, op *providerv1.Operation) error {
	switch {
	case key.Fenced:
		return fault.New(providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED,
			"idempotency key %q was settled as unused before this request came: use a new key", op.GetIdempotencyKey()).
			With("idempotency_key", op.GetIdempotencyKey())
	case !bytes.Equal(key.Digest, op.GetRequestDigest()):
		return fault.New(providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED,
			"idempotency key %q was used for a different request", op.GetIdempotencyKey()).
			With("idempotency_key", op.GetIdempotencyKey())
	}
	return nil
}

// Settle answers what a key was spent on. A key that was not spent is fenced, so
// that a request which is still under way cannot be carried out after its sender
// was told that nothing was made.
func (s *Store) Settle(idempotencyKey string) (*Key, error) {
	s.keys.Lock()
	defer s.keys.Unlock()
	key, err := s.key(idempotencyKey)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key = &Key{Fenced: true}
	return key, s.putKey(idempotencyKey, key)
}

// Fence makes a key unusable, whatever it was spent on.
func (s *Store) Fence(idempotencyKey string) error {
	s.keys.Lock()
	defer s.keys.Unlock()
	if !validID(idempotencyKey) {
		return fmt.Errorf("fence key %q: invalid", idempotencyKey)
	}
	return s.putKey(idempotencyKey, &Key{Fenced: true})
}

// Forget gives a key back after a request that provably had no effect, so that
// the caller may try again with it.
func (s *Store) Forget(idempotencyKey string) error {
	s.keys.Lock()
	defer s.keys.Unlock()
	if err := os.Remove(s.keyPath(idempotencyKey)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget key: %w", err)
	}
	return nil
}

func (s *Store) keyPath(idempotencyKey string) string {
	return filepath.Join(s.dir, keysDir, idempotencyKey+".json")
}

func (s *Store) key(idempotencyKey string) (*Key, error) {
	if !validID(idempotencyKey) {
		return nil, fault.Field("operation.idempotency_key", idempotencyKey, "want 26 base32 characters")
	}
	data, err := os.ReadFile(s.keyPath(idempotencyKey))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	key := &Key{}
	if err := json.Unmarshal(data, key); err != nil {
		return nil, fmt.Errorf("read key %q: %w", idempotencyKey, err)
	}
	return key, nil
}

func (s *Store) putKey(idempotencyKey string, key *Key) error {
	data, err := json.Marshal(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	return WriteFile(s.keyPath(idempotencyKey), data)
}

func (s *Store) sweepKeys() error {
	dir := filepath.Join(s.dir, keysDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list keys: %w", err)
	}
	var errs []error
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || s.now().Sub(info.ModTime()) < keyWindow {
			continue
		}
		name, isKey := strings.CutSuffix(e.Name(), ".json")
		if isKey && s.keyInUse(name) {
			continue
		}
		errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}

// keyInUse reports whether an object made with the key still exists; a key that
// cannot be read counts as used.
func (s *Store) keyInUse(name string) bool {
	key, err := s.key(name)
	if err != nil {
		return true
	}
	for _, id := range key.IDs {
		for _, dir := range []string{s.SandboxDir(id), s.SnapshotDir(id)} {
			if _, err := os.Stat(dir); err == nil {
				return true
			}
		}
	}
	return false
}
