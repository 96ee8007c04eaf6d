package authn

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestRotation: a key that the issuer begins to use is fetched, one that it
// withdraws stops being good, and keys that never were do not flood it.
func TestRotation(t *testing.T) {
	d := newDesk(t, nil)
	check(t, second(d.bearer(t, d.signer.sign(t, d.claims(nil)))))
	next := newSigner(t, "next", jose.ES256)
	d.set(func() { d.keys.Keys = append(d.keys.Keys, next.public()) })
	d.pass(fetchPause)
	check(t, second(d.bearer(t, next.sign(t, d.claims(nil)))))
	if n := d.fetches.Load(); n != 2 {
		t.Errorf("keys were fetched %d times, want 2", n)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := d.bearer(t, newSigner(t, "x", jose.ES256).sign(t, d.claims(nil)))
			refused(t, err, invalid, `the key "x"`)
		})
	}
	wg.Wait()
	if n := d.fetches.Load(); n != 2 {
		t.Errorf("keys that never were made %d fetches, want none", n-2)
	}
	d.set(func() { d.keys.Keys = []jose.JSONWebKey{next.public()} })
	d.pass(keysFresh)
	_, err := d.bearer(t, d.signer.sign(t, d.claims(map[string]any{"jti": "2"})))
	refused(t, err, invalid, `signed with the key "first", which the issuer`)
	check(t, second(d.bearer(t, next.sign(t, d.claims(map[string]any{"jti": "2"})))))
}

func second[A any](_ A, err error) error { return err }

// TestIssuerDown: keys that are known go on for a day; what takes asking the issuer
// says so.
func TestIssuerDown(t *testing.T) {
	const unavailable = providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE
	d := newDesk(t, nil)
	d.set(func() { d.down = true })
	_, err := d.bearer(t, d.signer.sign(t, d.claims(nil)))
	refused(t, err, unavailable, "cannot be asked for it now")
	if err == nil || strings.Contains(err.Error(), "internals") {
		t.Errorf("the caller is shown what the issuer said: %v", err)
	}
	d.set(func() { d.down = false })
	_, err = d.bearer(t, d.signer.sign(t, d.claims(nil)))
	refused(t, err, unavailable, "cannot be asked") // it is left alone for a while
	d.pass(fetchPause)
	check(t, second(d.bearer(t, d.signer.sign(t, d.claims(nil)))))

	d.set(func() { d.down = true })
	for i, age := range []time.Duration{keysFresh, keysKept - keysFresh - time.Minute} {
		d.pass(age)
		check(t, second(d.bearer(t, d.signer.sign(t, d.claims(map[string]any{"jti": i})))))
	}
	next := newSigner(t, "next", jose.ES256)
	d.pass(fetchPause)
	_, err = d.bearer(t, next.sign(t, d.claims(nil)))
	refused(t, err, unavailable, `the key "next" of the token is not known, and the issuer`)
	d.pass(time.Minute)
	_, err = d.bearer(t, d.signer.sign(t, d.claims(map[string]any{"jti": "late"})))
	refused(t, err, unavailable, `the key "first"`)
}

// TestImpostor: who answers at the issuer's address must be the issuer.
func TestImpostor(t *testing.T) {
	d := newDesk(t, nil)
	d.set(func() { d.as = "https://other.example.com" })
	_, err := d.bearer(t, d.signer.sign(t, d.claims(nil)))
	refused(t, err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "cannot be asked")
}
