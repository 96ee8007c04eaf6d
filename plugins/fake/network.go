package fake

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// backlog is how many connections wait to be accepted.
const backlog = 128

// listener is a listening socket. The cloud's mutex guards it.
type listener struct {
	box     *box
	port    uint32
	program string
	changed bell
	waiting []*socket
	closed  bool
}

func (l *listener) read(*process, []byte) (int, error)  { return 0, syscall.ENOTCONN }
func (l *listener) write(*process, []byte) (int, error) { return 0, syscall.ENOTCONN }
func (l *listener) info(*process) system.Info {
	return system.Info{Kind: system.Socket, Mode: 0o777, ID: l}
}

func (l *listener) release(p *process) {
	p.cloud.mu.Lock()
	waiting := l.waiting
	l.waiting, l.closed = nil, true
	delete(l.box.live.ports, l.port)
	p.cloud.mu.Unlock()
	for _, conn := range waiting {
		conn.release(p)
	}
}

// Listen implements system.Process.
func (p *process) Listen(port uint16) (int, error) {
	p.Checkpoint()
	p.cloud.mu.Lock()
	if p.box.live.ports[uint32(port)] != nil {
		p.cloud.mu.Unlock()
		return 0, syscall.EADDRINUSE
	}
	l := &listener{box: p.box, port: uint32(port), program: p.argv[0]}
	p.box.live.ports[uint32(port)] = l
	p.cloud.mu.Unlock()
	return p.install(slot{open: newOpen(l, os.O_RDWR)}, 0)
}

// Accept implements system.Process.
func (p *process) Accept(fd int) (int, error) {
	p.Checkpoint()
	s := p.files[fd]
	if s.open == nil {
		return 0, syscall.EBADF
	}
	l, ok := s.open.file.(*listener)
	if !ok {
		return 0, syscall.EINVAL
	}
	for {
		p.cloud.mu.Lock()
		if len(l.waiting) > 0 {
			conn := l.waiting[0]
			l.waiting = l.waiting[1:]
			p.cloud.mu.Unlock()
			return p.install(slot{open: newOpen(conn, os.O_RDWR)}, 0)
		}
		wake := l.changed.wait()
		p.cloud.mu.Unlock()
		if err := p.await(wake); err != nil {
			return 0, err
		}
	}
}

// Connect implements system.Process.
func (p *process) Connect(network string, to netip.AddrPort) (int, error) {
	p.Checkpoint()
	conn, err := p.connect(network, to)
	if err != nil {
		return 0, err
	}
	return p.install(slot{open: newOpen(conn, os.O_RDWR)}, 0)
}

func (p *process) connect(network string, to netip.AddrPort) (*socket, error) {
	if !to.Addr().IsLoopback() {
		return p.leave(network, to)
	}
	p.cloud.mu.Lock()
	defer p.cloud.mu.Unlock()
	if l := p.box.live.ports[uint32(to.Port())]; l != nil && network == "tcp" {
		if conn := l.connect(); conn != nil {
			return conn, nil
		}
	}
	return nil, syscall.ECONNREFUSED
}

// Shutdown implements system.Process.
func (p *process) Shutdown(fd int) error {
	p.Checkpoint()
	s := p.files[fd]
	if s.open == nil {
		return syscall.EBADF
	}
	conn, ok := s.open.file.(*socket)
	if !ok {
		return syscall.ENOTCONN
	}
	conn.endWriting(p)
	return nil
}

// connect makes a connection to l and returns its other end. The caller holds the
// cloud's mutex. Nil: nobody accepts.
func (l *listener) connect() *socket {
	if l.closed || len(l.waiting) == backlog {
		return nil
	}
	in, out := newPipe(1), newPipe(1)
	l.waiting = append(l.waiting, &socket{in: in, out: out})
	l.changed.ring()
	return &socket{in: out, out: in}
}

// dial is connect from outside the sandbox.
func (l *listener) dial() *duplex {
	if s := l.connect(); s != nil {
		return &duplex{in: readEnd(s.in), out: writeEnd(s.out)}
	}
	return nil
}

// socket is the sandbox's end of a connection. The cloud's mutex guards ended.
type socket struct {
	in, out *pipe
	ended   bool
}

func (s *socket) read(p *process, b []byte) (int, error) {
	return p.reading(func() (int, <-chan struct{}, error) { return s.in.tryRead(b) })
}
func (s *socket) write(p *process, b []byte) (int, error) { return p.writing(s.out, b) }
func (s *socket) info(*process) system.Info {
	return system.Info{Kind: system.Socket, Mode: 0o777, ID: s}
}

func (s *socket) release(p *process) {
	s.endWriting(p)
	s.in.adds(-1, 0)
}

func (s *socket) endWriting(p *process) {
	p.cloud.mu.Lock()
	first := !s.ended
	s.ended = true
	p.cloud.mu.Unlock()
	if first {
		s.out.adds(0, -1)
	}
}

// duplex is the plugin's end of a connection, with half-close.
type duplex struct{ in, out *outside }

func (d *duplex) Read(b []byte) (int, error)  { return d.in.Read(b) }
func (d *duplex) Write(b []byte) (int, error) { return d.out.Write(b) }

// CloseWrite ends this side's direction.
func (d *duplex) CloseWrite() error { return d.out.Close() }

// Close ends both directions at once.
func (d *duplex) Close() error {
	_ = d.out.Close() // closing ends of pipes never fails
	return d.in.Close()
}

func (d *duplex) LocalAddr() net.Addr              { return memoryAddr{} }
func (d *duplex) RemoteAddr() net.Addr             { return memoryAddr{} }
func (d *duplex) SetDeadline(time.Time) error      { return nil }
func (d *duplex) SetReadDeadline(time.Time) error  { return nil }
func (d *duplex) SetWriteDeadline(time.Time) error { return nil }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "memory" }
