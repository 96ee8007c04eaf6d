package upstream

import (
	"net/netip"
	"net/url"
	"strings"

	"github.com/sandbar-dev/sandbar/proto/fault"
)

// CheckURL lets a token leave this machine encrypted only. field is what an operator
// knows the address as, and example a good one.
func CheckURL(field, text, example string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || strings.ContainsAny(text, "?#") || u.User != nil:
		return fault.Field(field, text, "want an address such as "+example)
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return fault.Field(field, text, "want https, or http to an address of this machine")
}

// CheckToken refuses what cannot be a token, such as two lines of a file.
func CheckToken(field, token string) error {
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fault.Field(field, "", "want a token, which is ASCII without spaces")
	}
	return nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
