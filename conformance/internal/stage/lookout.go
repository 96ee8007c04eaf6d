package stage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
)

// sendScript sends a text by TCP or UDP with whatever the guest has for it
// (REQ-GUEST-003), and prints what comes back by TCP: 0 if it was sent, 9 if the
// guest has nothing, else anything.
const sendScript = `how=$1 host=$2 port=$3 text=$4
if command -v sandbar-probe > /dev/null 2>&1; then exec sandbar-probe send $how $host $port $text; fi
if command -v python3 > /dev/null 2>&1; then exec python3 -c '
import socket, sys
how, host, port, text = sys.argv[1:5]
kind = socket.SOCK_STREAM if how == "tcp" else socket.SOCK_DGRAM
family, kind, proto, _, to = socket.getaddrinfo(host, int(port), 0, kind)[0]
s = socket.socket(family, kind, proto)
s.settimeout(10)
s.connect(to)
s.sendall(text.encode())
if how == "tcp":
    s.shutdown(socket.SHUT_WR)
    while True:
        d = s.recv(65536)
        if not d:
            break
        sys.stdout.buffer.write(d)
' $how $host $port $text 2> /dev/null; fi
if command -v node > /dev/null 2>&1; then exec node -e '
const [how, host, port, text] = process.argv.slice(1);
const late = setTimeout(() => process.exit(1), 10000);
if (how == "tcp") {
  const c = require("net").connect(+port, host, () => c.end(text));
  c.on("error", () => process.exit(1)).on("end", () => clearTimeout(late)).pipe(process.stdout);
} else {
  const s = require("dgram").createSocket(host.includes(":") ? "udp6" : "udp4");
  s.on("error", () => process.exit(1));
  s.send(text, +port, host, e => process.exit(e ? 1 : 0));
}' $how $host $port $text; fi
if command -v perl > /dev/null 2>&1; then exec perl -MIO::Socket::IP -e '
alarm 10;
$s = IO::Socket::IP->new(Proto => $ARGV[0], PeerHost => $ARGV[1], PeerPort => $ARGV[2]) or exit 1;
$s->send($ARGV[3]) or exit 1;
exit 0 if $ARGV[0] eq "udp";
shutdown $s, 1;
while ($n = sysread $s, $d, 65536) { print $d }
exit(defined $n ? 0 : 1);
' $how $host $port $text; fi
exit 9`

// lookupScript prints the IPv4 address of a name: 9 if the guest has nothing to ask
// with.
const lookupScript = `if command -v sandbar-probe > /dev/null 2>&1; then exec sandbar-probe lookup $1; fi
if command -v python3 > /dev/null 2>&1; then exec python3 -c '
import socket, sys
print(socket.gethostbyname(sys.argv[1]))' $1 2> /dev/null; fi
if command -v node > /dev/null 2>&1; then exec node -e '
require("dns").lookup(process.argv[1], 4, (e, a) => { if (e) process.exit(1); console.log(a) })' $1; fi
if command -v perl > /dev/null 2>&1; then exec perl -MSocket -e '
$a = gethostbyname $ARGV[0] or exit 1; print inet_ntoa($a), "\n"' $1; fi
exit 9`

// StartSend starts sending a text from inside.
func (b *Box) StartSend(how, host string, port uint16, text string) *Command {
	return b.Start(Argv("sh", "-c", sendScript, "send", how, host, strconv.FormatUint(uint64(port), 10), text))
}

// StartLookup starts asking for the address of a name from inside.
func (b *Box) StartLookup(name string) *Command {
	return b.Start(Argv("sh", "-c", lookupScript, "lookup", name))
}

// Send sends a text from inside and says whether the guest took it as sent. The
// case is skipped if the guest has nothing to send with.
func (b *Box) Send(how string, to netip.AddrPort, text string) bool {
	return b.SendTo(how, to.Addr().String(), to.Port(), text)
}

// SendTo is Send to a host that may be a name.
func (b *Box) SendTo(how, host string, port uint16, text string) bool {
	return Sent(b.t, b.StartSend(how, host, port, text).Wait())
}

// Sent says whether a command that sends, or asks for a name, could do so. The case
// is skipped if the guest has nothing to do it with.
func Sent(t *engine.T, out Output) bool {
	if out.Exit.GetCode() == 9 {
		t.Skip(engine.Prerequisite, "python3, node, perl or sandbar-probe inside")
	}
	return out.Exit.GetCode() == 0
}

// Lookout sees what reaches this machine.
type Lookout struct {
	t *engine.T
	// Addresses are where it looks, by TCP and by UDP: on the loopback interface, and
	// on each other address of this machine.
	Addresses []netip.AddrPort

	mu  sync.Mutex
	got bytes.Buffer
}

// Watch looks out until the case ends.
func Watch(t *engine.T) *Lookout {
	l := &Lookout{t: t}
	var all sync.WaitGroup
	var open []io.Closer
	t.Cleanup(func(context.Context) {
		for _, c := range open {
			_ = c.Close() // what waits there returns
		}
		all.Wait()
	})
	for _, ip := range ownAddresses(t) {
		tcp, udp, err := bothAt(ip)
		if err != nil {
			t.Step("no look-out at %s: %v", ip, err)
			continue
		}
		open = append(open, tcp, udp)
		at := udp.LocalAddr().(*net.UDPAddr).AddrPort() //nolint:forcetypeassert // it is of a UDP socket
		l.Addresses = append(l.Addresses, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
		all.Go(func() { l.datagrams(udp) })
		all.Go(func() { l.connections(tcp) })
	}
	if len(l.Addresses) == 0 {
		t.Skip(engine.Prerequisite, "an address of this machine to listen on")
	}
	return l
}

// ownAddresses are those of this machine that a sandbox could know.
func ownAddresses(t *engine.T) []netip.Addr {
	found, err := net.InterfaceAddrs()
	if err != nil {
		t.Broken("the addresses of this machine: %v", err)
	}
	out := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	for _, a := range found {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().IsGlobalUnicast() {
			out = append(out, p.Addr())
		}
	}
	return out
}

// bothAt listens by TCP and by UDP on one port.
func bothAt(ip netip.Addr) (*net.TCPListener, *net.UDPConn, error) {
	const attempts = 20 // the port that one got may be taken for the other
	var last error
	for range attempts {
		tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
		if err != nil {
			return nil, nil, err
		}
		at := tcp.Addr().(*net.TCPAddr).AddrPort() //nolint:forcetypeassert // it is of a TCP listener
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err == nil {
			return tcp, udp, nil
		}
		last = errors.Join(err, tcp.Close())
	}
	return nil, nil, last
}

func (l *Lookout) saw(data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got.Write(data)
}

func (l *Lookout) datagrams(c *net.UDPConn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		l.saw(buf[:n])
	}
}

func (l *Lookout) connections(lis *net.TCPListener) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		c, err := lis.AcceptTCP()
		if err != nil {
			return
		}
		all.Go(func() {
			defer func() { _ = c.Close() }()
			_ = c.SetReadDeadline(time.Now().Add(Patience(l.t))) // a stranger may say nothing
			data, _ := io.ReadAll(io.LimitReader(c, 4<<10))      // what came is what counts
			l.saw(data)
		})
	}
}

// Saw says whether a text has come, however long ago.
func (l *Lookout) Saw(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.got.Bytes(), []byte(text))
}
