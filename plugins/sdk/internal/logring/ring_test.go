package logring_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/plugins/sdk/internal/logring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gate is a destination that takes nothing until it is opened.
type gate struct {
	entered chan struct{}
	open    chan struct{}
	buf     bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	select {
	case g.entered <- struct{}{}:
	default:
	}
	<-g.open
	return g.buf.Write(p)
}

func TestStuckReaderCostsLinesAndNeverTime(t *testing.T) {
	g := &gate{entered: make(chan struct{}, 1), open: make(chan struct{})}
	r := logring.New(g, 100, nil)
	_, _ = r.Write([]byte("first\n"))
	<-g.entered // the ring's goroutine is stuck in the destination
	for range 50 {
		if n, err := r.Write([]byte("0123456789\n")); n != 11 || err != nil {
			t.Fatal(n, err)
		}
	}
	if r.Dropped() != 41 { // 9 lines of 11 bytes fit
		t.Errorf("dropped %d, want 41", r.Dropped())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := r.Flush(ctx); err == nil {
		t.Error("Flush says that a stuck reader took everything")
	}
	close(g.open)
	if err := r.Flush(context.Background()); err != nil {
		t.Error(err)
	}
	r.Close()
	<-r.Done()
	got := g.buf.String()
	if !strings.HasPrefix(got, "first\n41 log lines were dropped\n") || strings.Count(got, "0123456789\n") != 9 {
		t.Errorf("the reader got %q", got)
	}
}
