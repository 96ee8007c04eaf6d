package client

import (
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/sandbar-dev/sandbar/proto/fault"
)

// maxSocketPath is what every Unix holds in sun_path with room to spare; the
// kernel's own error for more is "invalid argument", which helps nobody.
const maxSocketPath = 100

// Address says where a broker listens.
type Address struct {
	// Socket is the path of a Unix socket; empty for TCP.
	Socket string
	// URL is scheme and host of a TCP server; empty for a socket.
	URL string
}

// String returns the form that ParseAddress takes.
func (a Address) String() string {
	if a.Socket != "" {
		return "unix://" + a.Socket
	}
	return a.URL
}

// ParseAddress reads unix:///path, https://host[:port], or http://host:port for
// a loopback host. Plain HTTP to any other host is refused, because it would
// show the API key and everything else to the network.
func ParseAddress(s string) (Address, error) {
	const want = "want unix:///path/to/socket or https://host[:port]"
	if path, ok := strings.CutPrefix(s, "unix://"); ok {
		if err := CheckSocketPath(path); err != nil {
			return Address{}, err
		}
		return Address{Socket: path}, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return Address{}, fault.Field("server", redact(s, u), want)
	}
	switch u.Scheme {
	case "https":
	case "http":
		if !loopback(u.Hostname()) {
			return Address{}, fault.Field("server", s, "plain HTTP is for this machine only; want https://"+u.Host)
		}
	default:
		return Address{}, fault.Field("server", s, want)
	}
	return Address{URL: u.Scheme + "://" + u.Host}, nil
}

// CheckSocketPath reports whether a path can be the path of a Unix socket.
func CheckSocketPath(path string) error {
	if !filepath.IsAbs(path) {
		return fault.Field("server", "unix://"+path, "the path of the socket must be absolute, as in unix:///run/sandbar.sock")
	}
	if len(path) > maxSocketPath {
		return fault.Field("server", "unix://"+path, "the path of a Unix socket is at most 100 bytes long; set XDG_RUNTIME_DIR or --server to a shorter one")
	}
	return nil
}

// redact keeps a password in a mistyped URL out of the error message.
func redact(s string, u *url.URL) string {
	if u != nil && u.User != nil {
		return u.Redacted()
	}
	return s
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
