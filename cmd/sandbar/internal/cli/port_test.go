package cli_test

import (
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
)

// echoServer sends back what it gets, and half-closes when its peer does.
func echoServer(t *testing.T) (stop func(), port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			})
		}
	})
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("listening on %T", l.Addr())
	}
	return func() {
		_ = l.Close()
		wg.Wait()
	}, strconv.Itoa(addr.Port)
}

// carries sends a megabyte through a forwarded port, half-closes, and expects
// all of it back.
func carries(t *testing.T, port string) {
	t.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = c.Close() }()
	const total = 1 << 20
	go func() {
		_, _ = io.Copy(c, io.LimitReader(&pattern{}, total))
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	}()
	if n, err := io.Copy(&checker{t: t}, c); err != nil || n != total {
		t.Errorf("got %d bytes back, %v; want %d", n, err, total)
	}
}
