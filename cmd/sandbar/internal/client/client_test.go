package client_test

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"unix:///run/s.sock": "unix:///run/s.sock", "https://h": "https://h", "https://h:1/": "https://h:1",
		"http://127.0.0.1:80": "http://127.0.0.1:80", "http://localhost:1": "http://localhost:1", "http://[::1]:1": "http://[::1]:1",
	} {
		if got, err := client.ParseAddress(in); err != nil || got.String() != want {
			t.Errorf("%q = %q, %v; want %q", in, got, err, want)
		}
	}
	for in, says := range map[string]string{
		"":                                    "want unix://",
		"host:80":                             "want unix://",
		"ftp://h":                             "want unix://",
		"https://h/path":                      "want unix://",
		"http://h":                            "this machine only",
		"http://10.0.0.1":                     "this machine only",
		"unix://rel":                          "must be absolute",
		"unix:///" + strings.Repeat("x", 100): "at most 100 bytes",
	} {
		if got, err := client.ParseAddress(in); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q = %q, %v; want %q", in, got, err, says)
		}
	}
	if _, err := client.ParseAddress("https://user:secret@h"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("err = %v, want one without the password", err)
	}
}

// TestHalfAnAnswer: a broker that dies in the middle of an answer is a lost
// connection, and nothing that it said.
func TestHalfAnAnswer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.ReadFull(conn, make([]byte, 24)) // the client's preface
		_ = conn.Close()
	}()
	c := client.New(client.Address{Socket: socket}, client.Options{})
	defer c.Close()
	_, err = c.ListSandboxes(t.Context(), connect.NewRequest(&brokerv1.ListSandboxesRequest{}))
	_ = l.Close()
	<-done
	var f *fault.Error
	if !errors.As(err, &f) || f.Wire || f.Reason != providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE {
		t.Errorf("err = %#v, want UPSTREAM_UNAVAILABLE that the broker did not say", err)
	}
}
