package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"connectrpc.com/connect"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/forward"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/value"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

type portsCmd struct {
	Sandbox string `arg:"" help:"Id or name."`
}

// Run lists the ports that something listens on.
func (c *portsCmd) Run(ctx context.Context, a *app) error {
	ports, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) ([]*providerv1.Port, error) {
		res, err := cl.ListPorts(ctx, request(&providerv1.ListPortsRequest{Sandbox: ref(c.Sandbox)}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetPorts(), nil
	})
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Messages(a.stdout, ports)
	}
	rows := make([][]string, 0, len(ports))
	for _, p := range ports {
		rows = append(rows, []string{strconv.FormatUint(uint64(p.GetPort()), 10), p.GetAddress(), p.GetProcess()})
	}
	return render.Table(a.stdout, []string{"PORT", "ADDRESS", "PROCESS"}, rows)
}

type portCmd struct {
	Address string     `default:"127.0.0.1" help:"Local address to listen on." placeholder:"IP"`
	Local   *int       `help:"Local port, 0 for any; default: the same port." placeholder:"PORT"`
	Sandbox string     `arg:"" help:"Id or name."`
	Port    value.Port `arg:"" help:"Port inside, 1 to 65535."`
}

// Run forwards connections until it is interrupted, which is its normal end.
func (c *portCmd) Run(ctx context.Context, a *app) error {
	local := int(c.Port)
	if c.Local != nil {
		local = *c.Local
	}
	if local < 0 || local > 65535 {
		return badFlag("local", strconv.Itoa(local), "is not a port; write a number from 0 to 65535")
	}
	if _, err := a.getSandbox(ctx, c.Sandbox, false); err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(c.Address, strconv.Itoa(local)))
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("port %d of this machine cannot be used (%w); choose another with --local, or any with --local 0", local, unwrapErrno(err))
	}
	if err != nil {
		return err
	}
	if a.JSON {
		err = render.Value(a.stdout, map[string]any{"local": l.Addr().String(), "sandbox": c.Sandbox, "port": c.Port})
	} else {
		err = a.out("%s -> %s:%d", l.Addr(), c.Sandbox, c.Port)
	}
	if err != nil {
		_ = l.Close()
		return err
	}
	return forward.Serve(ctx, l, forward.Options{
		Target: &providerv1.PortTarget{Sandbox: ref(c.Sandbox), Port: uint32(c.Port)},
		Open: func(ctx context.Context) (forward.Tunnel, error) {
			cl, err := a.connect(ctx)
			if err != nil {
				return nil, err
			}
			return tunnelStream{cl.OpenTunnel(ctx)}, nil
		},
		Failed: func(err error) { a.warn("%s", oneLine(err.Error())) },
	})
}

func unwrapErrno(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// tunnelStream is a tunnel over the API.
type tunnelStream struct {
	stream *connect.BidiStreamForClient[providerv1.OpenTunnelRequest, providerv1.OpenTunnelResponse]
}

func (s tunnelStream) Send(f *providerv1.TunnelFrame) error {
	return s.stream.Send(&providerv1.OpenTunnelRequest{Frame: f})
}

func (s tunnelStream) Receive() (*providerv1.TunnelFrame, error) {
	msg, err := s.stream.Receive()
	if err != nil {
		return nil, err
	}
	return msg.GetFrame(), nil
}
