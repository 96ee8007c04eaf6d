package forward_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/forward"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tunnel is the far end of one connection: what the client sent, and what it is
// told.
type tunnel struct {
	sent chan *providerv1.TunnelFrame
	told chan *providerv1.TunnelFrame
	ctx  context.Context
}

func (t *tunnel) Send(f *providerv1.TunnelFrame) error {
	if data := f.GetData(); data != nil {
		f = data2(string(data)) // the caller uses its buffer again
	}
	select {
	case t.sent <- f:
		return nil
	case <-t.ctx.Done():
		return io.EOF
	}
}

func (t *tunnel) Receive() (*providerv1.TunnelFrame, error) {
	select {
	case f, ok := <-t.told:
		if !ok {
			return nil, io.EOF
		}
		return f, nil
	case <-t.ctx.Done():
		return nil, t.ctx.Err()
	}
}

func data2(s string) *providerv1.TunnelFrame {
	return &providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Data{Data: []byte(s)}}
}

var (
	opened    = &providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Opened{Opened: &providerv1.TunnelOpened{}}}
	halfClose = &providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_HalfClose{HalfClose: &providerv1.TunnelHalfClose{}}}
	reset     = &providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Reset_{Reset_: &providerv1.TunnelReset{Reason: "gone"}}}
)

// serve starts a forwarder and connects to it once.
func serve(t *testing.T, open func(context.Context) (*tunnel, error)) (conn net.Conn, failed chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	failed = make(chan error, 1)
	done := make(chan error, 1)
	go func() {
		done <- forward.Serve(ctx, l, forward.Options{
			Target: &providerv1.PortTarget{Port: 80},
			Open:   func(ctx context.Context) (forward.Tunnel, error) { return open(ctx) },
			Failed: func(err error) { failed <- err },
		})
	}()
	conn, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = conn.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return conn, failed
}

func TestHalfCloseKeepsTheOtherHalf(t *testing.T) {
	tun := make(chan *tunnel, 1)
	conn, _ := serve(t, func(ctx context.Context) (*tunnel, error) {
		u := &tunnel{sent: make(chan *providerv1.TunnelFrame, 8), told: make(chan *providerv1.TunnelFrame, 8), ctx: ctx}
		u.told <- opened
		tun <- u
		return u, nil
	})
	u := <-tun
	if f := <-u.sent; f.GetOpen().GetPort().GetPort() != 80 {
		t.Fatalf("the first frame is %v", f)
	}
	if _, err := io.WriteString(conn, "question"); err != nil {
		t.Fatal(err)
	}
	if f := <-u.sent; string(f.GetData()) != "question" {
		t.Errorf("sent %v", f)
	}
	tcp, _ := conn.(*net.TCPConn)
	if err := tcp.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if f := <-u.sent; f.GetHalfClose() == nil {
		t.Errorf("sent %v, want the half-close", f)
	}
	u.told <- data2("answer")
	u.told <- halfClose
	close(u.told)
	if got, err := io.ReadAll(conn); err != nil || string(got) != "answer" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestResetIsAReset(t *testing.T) {
	tun := make(chan *tunnel, 1)
	conn, _ := serve(t, func(ctx context.Context) (*tunnel, error) {
		u := &tunnel{sent: make(chan *providerv1.TunnelFrame, 8), told: make(chan *providerv1.TunnelFrame, 8), ctx: ctx}
		u.told <- opened
		tun <- u
		return u, nil
	})
	(<-tun).told <- reset
	if _, err := io.ReadAll(conn); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("err = %v, want a reset", err)
	}
}

func TestRefusedTunnelIsTold(t *testing.T) {
	why := errors.New("nothing listens")
	conn, failed := serve(t, func(context.Context) (*tunnel, error) { return nil, why })
	if err := <-failed; !errors.Is(err, why) {
		t.Errorf("failed with %v, want %v", err, why)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection stayed open")
	}
}
