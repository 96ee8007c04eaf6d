package api

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Authenticator decides whether a request may go on. The error is a fault.
type Authenticator func(*http.Request) error

// keyPrefix makes API keys recognizable, to people and to scanners of leaked
// secrets.
const keyPrefix = "sbk_"

// NewKey returns a fresh API key and the hash to put into the configuration. The
// key has 130 bits of entropy, so a plain hash of it cannot be searched.
func NewKey() (key, hash string) {
	key = keyPrefix + strings.ToLower(rand.Text())
	return key, HashKey(key)
}

// HashKey returns the form in which a key is stored: its SHA-256 in hex.
func HashKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// KeyAuth returns an authenticator for "Authorization: Bearer sbk_…". hashes are
// what HashKey returns; none means that nobody may call.
func KeyAuth(hashes []string) (Authenticator, error) {
	sums := make([][]byte, len(hashes))
	for i, h := range hashes {
		b, err := hex.DecodeString(h)
		if err != nil || len(b) != sha256.Size {
			return nil, fmt.Errorf("API key hash %d is %q: want 64 hex digits, the SHA-256 of the key", i+1, h)
		}
		sums[i] = b
	}
	return func(r *http.Request) error {
		key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || !strings.HasPrefix(key, keyPrefix) {
			return unauthenticated("no API key: send the header \"Authorization: Bearer sbk_…\"")
		}
		sum := sha256.Sum256([]byte(key))
		found := 0
		for _, s := range sums { // all of them, so that time tells nothing
			found |= subtle.ConstantTimeCompare(s, sum[:])
		}
		if found == 0 {
			return unauthenticated("the API key is not known to this broker")
		}
		return nil
	}, nil
}

func unauthenticated(message string) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID, "%s", message)
}

// authenticated refuses before a request's body is read, in the protocol the
// client speaks.
func authenticated(auth Authenticator, next http.Handler) http.Handler {
	errs := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := auth(r)
		if err == nil {
			next.ServeHTTP(w, r)
			return
		}
		if errs.IsSupported(r) {
			_ = errs.Write(w, r, wireError(err)) // the client has left if it fails
			return
		}
		http.Error(w, err.Error(), http.StatusUnauthorized)
	})
}
