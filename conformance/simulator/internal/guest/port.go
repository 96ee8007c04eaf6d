package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Conn is a connection to a port of a guest. One goroutine may read and another
// write.
type Conn struct {
	stream providerv1.ProviderService_OpenTunnelClient
	life   context.Context //nolint:containedctx // of the connection
	cancel context.CancelFunc
	rest   []byte
	half   sync.Once
}

// Dial connects to a port of the guest. The caller closes the connection, which ends
// with ctx.
func (g *Guest) Dial(ctx context.Context, port uint32) (*Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := g.fleet.client.OpenTunnel(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	c := &Conn{stream: stream, life: ctx, cancel: cancel}
	open := &providerv1.TunnelOpen{Target: &providerv1.TunnelOpen_Port{Port: &providerv1.PortTarget{Sandbox: g.ref, Port: port}}}
	_ = c.send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Open{Open: open}}) // Recv says why it failed
	resp, err := stream.Recv()
	if err == nil && resp.GetFrame().GetOpened() == nil {
		err = errors.New("the first frame does not say that it is open")
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return c, nil
}

func (c *Conn) send(frame *providerv1.TunnelFrame) error {
	return c.stream.Send(&providerv1.OpenTunnelRequest{Frame: frame})
}

// Read implements io.Reader. io.EOF says that the guest sends no more.
func (c *Conn) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		resp, err := c.stream.Recv()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, fmt.Errorf("read from a guest's port: %w", err)
		}
		switch f := resp.GetFrame().GetFrame().(type) {
		case *providerv1.TunnelFrame_Data:
			c.rest = f.Data
		case *providerv1.TunnelFrame_HalfClose:
			return 0, io.EOF
		case *providerv1.TunnelFrame_Reset_:
			return 0, errors.New("the guest reset the connection: " + f.Reset_.GetReason())
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Write implements io.Writer.
func (c *Conn) Write(b []byte) (int, error) {
	for sent := 0; sent < len(b); {
		n := min(len(b)-sent, frame)
		if err := c.send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Data{Data: b[sent : sent+n]}}); err != nil {
			return sent, fmt.Errorf("write to a guest's port: %w", err)
		}
		sent += n
	}
	return len(b), nil
}

// CloseWrite says that no more will be written.
func (c *Conn) CloseWrite() {
	c.half.Do(func() {
		_ = c.send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_HalfClose{HalfClose: &providerv1.TunnelHalfClose{}}}) // it may have ended
		_ = c.stream.CloseSend()
	})
}

// Close ends the connection.
func (c *Conn) Close() { c.cancel() }

// Carry passes a visitor's request on, and what comes back, as an edge of the vendor's
// does. What an upgrade makes of it goes both ways. There is one request on a connection,
// because the next may be for somebody else: what comes behind it is dropped. It
// takes the visitor's connection over; an error says that it has not.
func (c *Conn) Carry(w http.ResponseWriter, r *http.Request) error {
	upgrade := len(r.Header["Upgrade"]) > 0
	r.Header.Set("Connection", "close")
	if upgrade {
		r.Header.Set("Connection", "Upgrade")
	}
	if err := r.Write(c); err != nil { // before its body is not to be read any more
		return fmt.Errorf("pass a request on: %w", err)
	}
	outside, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("take a visitor's connection over: %w", err)
	}
	defer context.AfterFunc(c.life, func() { _ = outside.Close() })() // what reads and writes there returns
	var inward sync.WaitGroup
	inward.Go(func() {
		to := io.Discard
		if upgrade {
			to = c
		}
		_, _ = io.Copy(to, buffered) // ends with the visitor, or below
		c.CloseWrite()
	})
	_, _ = io.Copy(outside, c) // the visitor sees where it ends
	_ = outside.Close()
	inward.Wait()
	return nil
}
