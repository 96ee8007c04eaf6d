package guest

import (
	"context"
	"errors"
	"io"
	"sync"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Tunnel is a connection to a port inside a guest. It has one reader and one writer;
// Close may come from anywhere.
type Tunnel struct {
	stream providerv1.ProviderService_OpenTunnelClient
	cancel context.CancelFunc
	rest   []byte
	once   sync.Once
}

// Dial connects to a port inside, and needs guests with port.tunnel. The connection
// ends with ctx.
func (g *Guest) Dial(ctx context.Context, port uint32) (*Tunnel, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := g.fleet.client.OpenTunnel(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	t := &Tunnel{stream: stream, cancel: cancel}
	target := &providerv1.TunnelOpen{Target: &providerv1.TunnelOpen_Port{Port: &providerv1.PortTarget{Sandbox: g.ref, Port: port}}}
	_ = t.send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Open{Open: target}}) // Recv says why it failed
	answer, err := stream.Recv()
	if err == nil && answer.GetFrame().GetOpened() == nil {
		err = errors.New("the tunnel did not begin with opened")
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return t, nil
}

func (t *Tunnel) send(f *providerv1.TunnelFrame) error {
	return t.stream.Send(&providerv1.OpenTunnelRequest{Frame: f})
}

// Read implements io.Reader.
func (t *Tunnel) Read(b []byte) (int, error) {
	for len(t.rest) == 0 {
		resp, err := t.stream.Recv()
		if err != nil {
			return 0, err
		}
		switch f := resp.GetFrame().GetFrame().(type) {
		case *providerv1.TunnelFrame_Data:
			t.rest = f.Data
		case *providerv1.TunnelFrame_HalfClose:
			return 0, io.EOF
		case *providerv1.TunnelFrame_Reset_:
			return 0, errors.New("the connection was reset: " + f.Reset_.GetReason())
		}
	}
	n := copy(b, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// Write implements io.Writer.
func (t *Tunnel) Write(b []byte) (int, error) {
	for at := 0; at < len(b); at += frame {
		data := b[at:min(at+frame, len(b))]
		if err := t.send(&providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Data{Data: data}}); err != nil {
			return at, err
		}
	}
	return len(b), nil
}

// Close ends the connection.
func (t *Tunnel) Close() error {
	t.once.Do(t.cancel)
	return nil
}
