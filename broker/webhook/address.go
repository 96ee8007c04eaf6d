package webhook

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
)

// Policy says where messages may go. The zero value is for tenants whom nobody
// trusts: https, to addresses that everybody can reach.
type Policy struct {
	// AllowHTTP lets URLs of plain http in.
	AllowHTTP bool
	// AllowNetworks are networks that may be reached although they are not the
	// public's: the operator's own, or this machine.
	AllowNetworks []netip.Prefix
}

// errForbidden is the end of a connection that the policy does not let be made.
// It does not name the address: a tenant would learn from it which names there are
// in the broker's own network.
var errForbidden = errors.New("the address is in a network that this broker may not reach")

// reserved are networks that netip does not already tell from the public ones.
// What stands for an address of version 4 is refused as a whole: a translator on
// the way would lead anywhere.
var reserved = prefixes(
	"0.0.0.0/8",        // this network
	"100.64.0.0/10",    // shared by providers; the metadata of one cloud
	"168.63.129.16/32", // the host of another cloud's machines
	"192.0.0.0/24",     // protocol assignments
	"192.0.2.0/24",     // documentation
	"192.88.99.0/24",   // relays to version 6
	"198.18.0.0/15",    // measurements
	"198.51.100.0/24",  // documentation
	"203.0.113.0/24",   // documentation
	"240.0.0.0/4",      // reserved, and broadcast
	"::/96",            // version 4, compatible
	"::ffff:0:0:0/96",  // version 4, translated
	"64:ff9b::/96",     // version 4, translated
	"64:ff9b:1::/48",   // version 4, translated
	"100::/64",         // discarded
	"2001::/23",        // protocol assignments, Teredo
	"2001:db8::/32",    // documentation
	"2002::/16",        // version 4, tunnelled
	"3fff::/20",        // documentation
	"5f00::/16",        // segments of routes
	"fec0::/10",        // sites of old
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, text := range list {
		out[i] = netip.MustParsePrefix(text)
	}
	return out
}

// permits reports whether an address may be connected to. own are those of this
// machine, which are its network even where everybody can reach them.
func (p Policy) permits(a netip.Addr, own []netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, n := range p.AllowNetworks {
		if n.Contains(a) {
			return true
		}
	}
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, n := range reserved {
		if n.Contains(a) {
			return false
		}
	}
	for _, o := range own {
		if o == a {
			return false
		}
	}
	return true
}

// control refuses a connection to an address, after its name was looked up and
// before anything is sent.
func (p Policy) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", errForbidden, err)
	}
	own, err := ownAddresses()
	if err != nil {
		return fmt.Errorf("list this machine's addresses: %w", err)
	}
	if !p.permits(to.Addr(), own) {
		return errForbidden
	}
	return nil
}

// ownAddresses are those of this machine now.
func ownAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, ip.Unmap())
			}
		}
	}
	return out, nil
}

// maxURL is far above any receiver's.
const maxURL = 2048

// checkURL says what is wrong with a URL; "" is right. A name is not looked up: it
// may stand for something else when it matters.
func (p Policy) checkURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case len(text) > maxURL:
		return fmt.Sprintf("want at most %d bytes", maxURL)
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return "want a URL such as https://example.com/hook"
	case u.User != nil:
		return "want a URL without a user: the signature says who sends"
	case u.Fragment != "" || strings.Contains(text, "#"):
		return "want a URL without a fragment, which is not sent"
	case u.Scheme == "http" && !p.AllowHTTP:
		return "want https://; the broker's configuration does not allow http (webhooks.allow_http)"
	case u.Scheme != "https" && u.Scheme != "http":
		return "want https://"
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && !p.permits(a, nil) {
		return "want an address that is not in the broker's own network; its configuration allows others (webhooks.allow_networks)"
	}
	return ""
}
