package daemon_test

import (
	"io"
	"net"
	"testing"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/daemon"
)

// say sends a word to the server and waits until it has been read.
func say(t *testing.T, p daemon.Place, word string) {
	t.Helper()
	conn, err := net.Dial("unix", p.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, word); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, conn)
}
