package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/broker/state"
)

// The headers of a message, and what a secret begins with.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
	SecretPrefix    = "whsec_"
)

// secretBytes is within the 24 to 64 that the specification asks for.
const secretBytes = 32

func newSecret() []byte {
	b := make([]byte, secretBytes)
	rand.Read(b) // which never fails
	return b
}

// secretText is a secret as its receiver has it.
func secretText(secret []byte) string {
	return SecretPrefix + base64.StdEncoding.EncodeToString(secret)
}

// signature is that of version 1: HMAC-SHA256. No id has a dot in it, so that what
// is signed can be taken apart in one way only.
func signature(secret []byte, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// sign puts the headers of a message that is sent at a time, signed by all secrets
// that are valid then, the newest first.
func sign(h http.Header, w *state.Webhook, m message, at time.Time) {
	signatures := []string{signature(w.Secret, m.id, at, m.body)}
	if previousValid(w, at) {
		signatures = append(signatures, signature(w.Previous, m.id, at, m.body))
	}
	h.Set(HeaderID, m.id)
	h.Set(HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	h.Set(HeaderSignature, strings.Join(signatures, " "))
}

// previousValid reports whether the secret before this one still signs.
func previousValid(w *state.Webhook, at time.Time) bool {
	end := w.Body.GetPreviousSecretExpiresAt()
	return len(w.Previous) > 0 && end != nil && at.Before(end.AsTime())
}
