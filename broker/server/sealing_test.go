package server_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/broker/config"
	"github.com/sandbar-dev/sandbar/broker/seal"
	"github.com/sandbar-dev/sandbar/broker/server"
	"github.com/sandbar-dev/sandbar/broker/state/sqlite"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// storedSecret is what the database of a server has of a webhook's secret.
func storedSecret(t *testing.T, opts server.Options, id string) []byte {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(opts.StateDir, "state.db"))
	check(t, err)
	defer func() { check(t, store.Close()) }()
	w, err := store.Webhook(t.Context(), id)
	check(t, err)
	return w.Secret
}

// TestSealingKey: a server seals secrets with a key of its own, and with that of its
// configuration once there is one.
func TestSealingKey(t *testing.T) {
	opts := site(t)
	end := run(t, opts)
	c := client(t, opts)
	made, err := c.Webhooks.CreateWebhook(t.Context(), connect.NewRequest(&brokerv1.CreateWebhookRequest{Url: "https://receiver.invalid"}))
	check(t, err)
	id := made.Msg.GetWebhook().GetWebhookId()
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(made.Msg.GetSecret(), "whsec_"))
	check(t, err)
	first := storedSecret(t, opts, id)
	if len(secret) == 0 || len(first) != len(secret)+seal.Overhead || bytes.Contains(first, secret) {
		t.Errorf("the secret %x is stored as %x", secret, first)
	}
	info, err := os.Stat(filepath.Join(opts.StateDir, "sealing.key"))
	check(t, err)
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("the key's file has mode %o", mode)
	}
	_, err = c.Admin.StopServer(t.Context(), connect.NewRequest(&brokerv1.StopServerRequest{}))
	check(t, err)
	check(t, end())

	opts.Config = &config.Config{Sealing: config.Sealing{Key: config.Secret{Env: "KEY"}}}
	opts.LookupEnv = func(name string) (string, bool) { return "secret", name == "KEY" }
	if err := run(t, opts)(); err == nil || !strings.HasPrefix(err.Error(), "sealing.key is no sealing key: want 32 random bytes in base64") {
		t.Errorf("with a word for a key the server ended with %v", err)
	}

	raw := seal.NewKey()
	opts.LookupEnv = func(name string) (string, bool) { return base64.StdEncoding.EncodeToString(raw), name == "KEY" }
	end = run(t, opts)
	c = client(t, opts)
	keys, err := seal.New(raw)
	check(t, err)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !keys.Current(storedSecret(t, opts, id)) {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the secret is not sealed with the new key")
		}
	}
	if got, err := keys.Open(storedSecret(t, opts, id), "webhook "+id); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("with the new key it opens as %x, %v; want %x", got, err, secret)
	}
	_, err = c.Admin.StopServer(t.Context(), connect.NewRequest(&brokerv1.StopServerRequest{}))
	check(t, err)
	check(t, end())
}
