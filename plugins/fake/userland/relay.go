package userland

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// relay carries a connection to a port as plugins/internal/runner/relay.pl does: standard input
// goes there, and what comes back goes to standard output.
func relay(p system.Process, port string, addresses []string) int {
	p.Handle(system.SIGPIPE, system.Ignore)
	conn, err := 0, error(syscall.EINVAL)
	for _, address := range addresses {
		var to netip.AddrPort
		if to, err = netip.ParseAddrPort(net.JoinHostPort(address, port)); err == nil {
			conn, err = p.Connect("tcp", to)
		}
		if err == nil {
			break
		}
	}
	errno := syscall.EINVAL
	if errors.As(err, &errno); err != nil {
		return complain(p, 1, "refused %d", int(errno))
	}
	complain(p, 0, "open")
	child, err := p.Fork(func(p system.Process) int {
		_ = p.Close(1) // it is open
		if carry(p, 0, conn) == nil {
			_ = p.Shutdown(conn) // its peer may have gone
		}
		return 0
	})
	if err == nil {
		_ = p.Close(0) // the child has it
		if err = carry(p, conn, 1); err == nil {
			complain(p, 0, "end")
			_ = p.Close(1) // it is open
			_, _ = p.Wait(child)
			return 0
		}
		_ = p.Kill(child, system.SIGKILL) // it may have ended
	}
	if !errors.As(err, &errno) {
		errno = syscall.EIO
	}
	return complain(p, 1, "reset %d", int(errno))
}

// carry moves bytes to the end of what they come from.
func carry(p system.Process, from, to int) error {
	buf := make([]byte, blockSize)
	for {
		n, err := p.Read(from, buf)
		if n > 0 {
			if _, err := p.Write(to, buf[:n]); err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
