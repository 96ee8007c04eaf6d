package shim

import (
	"context"
	"errors"
	"net"
	"strconv"
	"syscall"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// DialPort implements sdk.PortDialer.
func (g *guest) DialPort(ctx context.Context, target *providerv1.PortTarget) (net.Conn, error) {
	port := strconv.FormatUint(uint64(target.GetPort()), 10)
	hosts := []string{"127.0.0.1", "::1"}
	if a := target.GetAddress(); a != "" {
		hosts = []string{a}
	}
	var last error
	for _, host := range hosts {
		conn, err := g.sb.Dial(ctx, "tcp", net.JoinHostPort(host, port))
		if err == nil {
			return conn, nil
		}
		last = err
	}
	if errors.Is(last, syscall.ECONNREFUSED) || errors.Is(last, syscall.EADDRNOTAVAIL) || errors.Is(last, syscall.EAFNOSUPPORT) {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_PORT_REFUSED,
			"nothing listens on port %s of the sandbox", port).With("port", port)
	}
	return nil, endedOr(last)
}
