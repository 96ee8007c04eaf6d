package runner

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestCloseLeavesNobodyWaiting: a runner that waits for somebody to read is told that
// nobody does, and leaves, and what it ran ends at its next line.
func TestCloseLeavesNobodyWaiting(t *testing.T) {
	pool, start := here(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := start(ctx, nil, "exe_"+strings.ToLower(rand.Text()), &providerv1.ExecSpec{Argv: []string{"/bin/sh", "-c", "while echo line; do :; done"}})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Stdout().Read(make([]byte, 100)); n == 0 || err != nil {
		t.Fatalf("%d bytes came, %v", n, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.order.Host.(*machine).left:
	case <-ctx.Done():
		t.Error("the runner waits on")
	}
	pool.Close()
}
