package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
)

// KeyBytes is the length of a key, for AES-256.
const KeyBytes = 32

// A sealed secret is the version, the key's id, a random nonce and the ciphertext
// with its tag. The first two are authenticated too.
const (
	version   = 1
	idBytes   = 8
	headBytes = 1 + idBytes
	// Overhead is how much longer a sealed secret is. What is stored and is no longer
	// than that is not sealed: so secrets of up to so many bytes can be told from
	// sealed ones.
	Overhead = headBytes + 12 + 16
)

var (
	// ErrNoKey says that a secret is sealed with a key that is not there.
	ErrNoKey = errors.New("it is sealed with a key that this broker does not have")
	// ErrBroken says that a secret was changed since it was sealed, or is another's.
	ErrBroken = errors.New("it is not as it was sealed")
)

// Keys seal secrets with the newest of them and open what any of them sealed. A nil
// *Keys seals nothing, and opens what is not sealed.
type Keys struct {
	newest key
	all    []key
}

type key struct {
	id   []byte
	aead cipher.AEAD
}

// New returns keys of KeyBytes each, the newest first.
func New(newest []byte, before ...[]byte) (*Keys, error) {
	k := &Keys{}
	for _, raw := range append([][]byte{newest}, before...) {
		if len(raw) != KeyBytes {
			return nil, fmt.Errorf("a sealing key has %d bytes: want %d", len(raw), KeyBytes)
		}
		block, err := aes.NewCipher(raw)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(append([]byte("sandbar sealing key\x00"), raw...))
		k.all = append(k.all, key{id: sum[:idBytes], aead: aead})
	}
	k.newest = k.all[0]
	return k, nil
}

// Seal returns what may be stored of a secret; of says whose it is, and Open has to
// be told the same.
func (k *Keys) Seal(secret []byte, of string) []byte {
	if k == nil {
		return secret
	}
	head := append([]byte{version}, k.newest.id...)
	return k.newest.aead.Seal(head, nil, secret, bound(head, of)) //nolint:gosec // it makes a random nonce itself, and takes none
}

// Open returns the secret of what is stored, also if that is not sealed. ErrNoKey,
// ErrBroken.
func (k *Keys) Open(stored []byte, of string) ([]byte, error) {
	if !sealed(stored) {
		return stored, nil
	}
	head := stored[:headBytes]
	if head[0] != version {
		return nil, fmt.Errorf("%w: a newer broker sealed it", ErrBroken)
	}
	if k != nil {
		for _, one := range k.all {
			if !bytes.Equal(one.id, head[1:]) {
				continue
			}
			secret, err := one.aead.Open(nil, nil, stored[headBytes:], bound(head, of))
			if err != nil {
				return nil, ErrBroken
			}
			return secret, nil
		}
	}
	return nil, fmt.Errorf("%w: key %s", ErrNoKey, hex.EncodeToString(head[1:]))
}

// Current reports whether Seal would seal with the same key what is stored; also if
// there is no key, or no secret.
func (k *Keys) Current(stored []byte) bool {
	return k == nil || len(stored) == 0 || sealed(stored) && bytes.Equal(stored[1:headBytes], k.newest.id)
}

func sealed(stored []byte) bool { return len(stored) > Overhead }

// bound is what is authenticated beside the secret.
func bound(head []byte, of string) []byte { return append(bytes.Clone(head), of...) }

// NewKey returns a new key.
func NewKey() []byte {
	k := make([]byte, KeyBytes)
	rand.Read(k) // which never fails
	return k
}

// ParseKey reads a key as a file or the environment has it: in base64, with white
// space around it or none.
func ParseKey(text []byte) ([]byte, error) {
	text = bytes.TrimSpace(text)
	k := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(k, text)
	if err != nil || n != KeyBytes {
		return nil, fmt.Errorf("is no sealing key: want %d random bytes in base64, such as `openssl rand -base64 %d` prints", KeyBytes, KeyBytes)
	}
	return k[:n], nil
}
