package shim

import (
	"bufio"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
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

// ListPorts implements sdk.PortLister: the guest kernel's own tables, which show
// what listens in it and nothing else.
func (g *guest) ListPorts(ctx context.Context, _ *providerv1.ListPortsRequest) (*providerv1.ListPortsResponse, error) {
	out := &providerv1.ListPortsResponse{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		r, err := g.sb.ReadFile(ctx, table, 0, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a guest without IPv6
		}
		if err != nil {
			return nil, endedOr(err)
		}
		ports, err := listening(r)
		_ = r.Close()
		if err != nil {
			return nil, fileFault(err, table)
		}
		out.Ports = append(out.Ports, ports...)
	}
	slices.SortFunc(out.GetPorts(), func(a, b *providerv1.Port) int {
		return cmp.Or(cmp.Compare(a.GetPort(), b.GetPort()), strings.Compare(a.GetAddress(), b.GetAddress()))
	})
	return out, nil
}

// tcpListen is the state LISTEN in /proc/net/tcp.
const tcpListen = "0A"

// listening returns the listeners of a table as Linux prints it: the second
// field is address and port in hex, the address in words of host byte order, and
// the fourth is the state.
func listening(table io.Reader) ([]*providerv1.Port, error) {
	var out []*providerv1.Port
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 4 || f[3] != tcpListen {
			continue
		}
		address, port, ok := strings.Cut(f[1], ":")
		number, err := strconv.ParseUint(port, 16, 16)
		if !ok || err != nil {
			continue
		}
		out = append(out, &providerv1.Port{Port: uint32(number), Address: tableAddress(address)})
	}
	return out, lines.Err()
}

// tableAddress decodes an address of the table; empty if it is malformed.
func tableAddress(text string) string {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return ""
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	a, ok := netip.AddrFromSlice(raw)
	if !ok {
		return ""
	}
	return a.Unmap().String()
}
