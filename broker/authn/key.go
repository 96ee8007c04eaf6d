package authn

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// KeyPrefix makes API keys recognizable, to people and to scanners of leaked
// secrets.
const KeyPrefix = "sbk_"

// keyIDLength is that of the part of a key that may be seen, after the prefix: 60
// bits, so that no two are the same.
const keyIDLength = 12

// NewKey returns a fresh API key: its id, which is how it begins and is no secret,
// the whole of it, and what is stored instead. Its secret part has 130 bits of
// entropy, so a plain hash of it cannot be searched.
func NewKey() (id, key string, hash []byte) {
	id = KeyPrefix + strings.ToLower(rand.Text()[:keyIDLength])
	key = id + "_" + strings.ToLower(rand.Text())
	return id, key, hashKey(key)
}

func hashKey(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

// HashKey returns the form in which the configuration has a key: its SHA-256 in
// hex.
func HashKey(key string) string { return hex.EncodeToString(hashKey(key)) }

// KeyID returns the id of a key, or "" of what cannot be one that NewKey made.
func KeyID(key string) string {
	i := strings.LastIndexByte(key, '_')
	if i != len(KeyPrefix)+keyIDLength || !strings.HasPrefix(key, KeyPrefix) {
		return ""
	}
	return key[:i]
}
