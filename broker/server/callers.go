package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandbar-dev/sandbar/broker/api"
	"github.com/sandbar-dev/sandbar/broker/authn"
	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

type peerKey struct{}

// withPeer notes who is at the other end of a Unix socket, as the kernel says.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || controlErr != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred)
}

// sameUser admits this user and root. The socket's mode says the same; this
// still holds where a folder's mode was changed.
func sameUser(r *http.Request) (authz.Principal, error) {
	cred, ok := r.Context().Value(peerKey{}).(*unix.Ucred)
	if ok && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid()) {
		return authz.Local(strconv.FormatUint(uint64(cred.Uid), 10)), nil
	}
	return authz.Principal{}, fault.New(providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID,
		"this broker belongs to user %d: run your own, or use its TCP address with an API key", os.Geteuid())
}

var _ api.Authenticator = sameUser

// authenticator recognizes callers over TCP.
func (s *server) authenticator() (api.Authenticator, error) {
	var keys []authn.ConfiguredKey
	for _, k := range s.opts.Config.APIKeys {
		key, err := k.Key()
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	var issuers []authn.Issuer
	for _, o := range s.opts.Config.OIDC {
		i, err := o.Trusted()
		if err != nil {
			return nil, err
		}
		i.Log = s.opts.Log
		if i.Client, err = issuerClient(o.CA, s.opts.Proxy); err != nil {
			return nil, fmt.Errorf("oidc: certificates for %s: %w", o.Issuer, err)
		}
		issuers = append(issuers, i)
	}
	auth, err := authn.NewAuthenticator(s.access, keys, issuers)
	if err != nil {
		return nil, err
	}
	return func(r *http.Request) (authz.Principal, error) {
		return auth.Bearer(r.Context(), r.Header.Get("Authorization"))
	}, nil
}

// issuerTimeout bounds one request to an issuer.
const issuerTimeout = 10 * time.Second

// issuerClient returns a client that trusts the certificates in a file, or the
// system's. It keeps no connection: issuers are asked every ten minutes.
func issuerClient(file string, proxy func(*http.Request) (*url.URL, error)) (*http.Client, error) {
	t := &http.Transport{Proxy: proxy, DisableKeepAlives: true}
	if file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM form", file)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: t, Timeout: issuerTimeout}, nil
}
