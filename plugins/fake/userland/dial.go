package userland

import (
	"errors"
	"io"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// send sends text to an address, and by TCP prints what comes back.
func send(p system.Process, network, address, text string) int {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return complain(p, 1, "sandbar-probe: %s: want an IP address", address)
	}
	conn, err := p.Connect(network, to)
	if err == nil {
		_, err = p.Write(conn, []byte(text))
	}
	if err == nil {
		err = p.Shutdown(conn)
	}
	if err != nil {
		return complain(p, 1, "sandbar-probe: %s: %s", address, Message(err))
	}
	if network == "udp" {
		return 0
	}
	buf := make([]byte, blockSize)
	for {
		n, err := p.Read(conn, buf)
		if code := print(p, "sandbar-probe", string(buf[:n])); code != 0 {
			return code
		}
		if errors.Is(err, io.EOF) {
			return 0
		}
		if err != nil {
			return complain(p, 1, "sandbar-probe: %s: %s", address, Message(err))
		}
	}
}

// lookup asks the resolver for the IPv4 addresses of a name, and prints them.
func lookup(p system.Process, name string) int {
	answer, err := ask(p, name)
	if err != nil {
		return complain(p, 1, "sandbar-probe: %s: %s", name, Message(err))
	}
	found := 0
	for _, r := range answer.Answers {
		if a, ok := r.Body.(*dnsmessage.AResource); ok {
			if code := print(p, "sandbar-probe", netip.AddrFrom4(a.A).String()+"\n"); code != 0 {
				return code
			}
			found++
		}
	}
	if found == 0 {
		return complain(p, 1, "sandbar-probe: %s: the answer has no address: %s", name, answer.RCode)
	}
	return 0
}

func ask(p system.Process, text string) (*dnsmessage.Message, error) {
	name, err := dnsmessage.NewName(text + ".")
	if err != nil {
		return nil, err
	}
	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 1, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	packet, err := query.Pack()
	if err != nil {
		return nil, err
	}
	conn, err := p.Connect("udp", system.Resolver)
	if err != nil {
		return nil, err
	}
	if _, err := p.Write(conn, packet); err != nil {
		return nil, err
	}
	buf := make([]byte, blockSize)
	n, err := p.Read(conn, buf)
	if err != nil {
		return nil, err
	}
	answer := &dnsmessage.Message{}
	return answer, answer.Unpack(buf[:n])
}
