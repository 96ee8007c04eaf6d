package daytona

import (
	"crypto/subtle"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/guest"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Where a preview's token may be [O]: a header, or a query. Its cookie, which a page
// of the vendor's sets, is not here.
const previewHeader, previewQuery = "X-Daytona-Preview-Token", "DAYTONA_SANDBOX_AUTH_KEY"

// previewHost is of addresses that lead to a port of a sandbox [S].
var previewHost = regexp.MustCompile(`^([0-9]{1,5})-([0-9a-f]{8}-[0-9a-f-]{27})\.`)

// previewURL answers where a port is reached, and with what token, whether or not
// something listens [S, O].
func (s *Simulator) previewURL(w http.ResponseWriter, r *http.Request) error {
	const most = 65535
	port, err := strconv.ParseUint(r.PathValue("port"), 10, 32)
	if err != nil || port < 1 || port > most {
		return badRequest("Invalid port")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sb := s.find(r.PathValue("id"))
	if sb == nil {
		return noSandbox(r.PathValue("id"))
	}
	answer(w, http.StatusOK, map[string]string{
		"sandboxId": sb.id, "token": sb.token, "url": "http://" + strconv.FormatUint(port, 10) + "-" + sb.id + "." + domain(r.Host),
	})
	return nil
}

// domain is below which previews are: names below localhost lead to this machine.
func domain(host string) string {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return host
	}
	if net.ParseIP(name) != nil {
		name = "localhost"
	}
	return net.JoinHostPort(name, port)
}

// preview passes a request on to a port of a sandbox. Who may not is sent to a login
// at the vendor [O], which there is not here.
func (s *Simulator) preview(w http.ResponseWriter, r *http.Request) {
	host := previewHost.FindStringSubmatch(r.Host)
	sb, life, err := s.alive(host[2])
	if err != nil {
		s.fail(w, r, err, false)
		return
	}
	s.mu.Lock()
	g, allowed := sb.guest, sb.public || s.opens(r, sb)
	s.mu.Unlock()
	port, _ := strconv.ParseUint(host[1], 10, 32) // it is digits
	switch {
	case g == nil:
		badRequest("Sandbox is not running").write(w, r) // it has just ended
		return
	case !allowed:
		refuse(http.StatusUnauthorized, "missing authentication: provide a preview access token").write(w, r)
		return
	case !s.fleet.Has("port.tunnel"):
		notSimulated("previews, with guests without tunnels").write(w, r)
		return
	}
	inside, err := g.Dial(life, uint32(port))
	if guest.Reason(err) == providerv1.ErrorReason_ERROR_REASON_PORT_REFUSED {
		refuse(http.StatusBadGateway, "nothing listens on port "+host[1]).write(w, r) // [I]
		return
	}
	if err != nil {
		s.fail(w, r, err, false)
		return
	}
	defer inside.Close()
	if err := inside.Carry(w, r); err != nil {
		s.fail(w, r, err, false)
	}
}

// opens reports whether a request has a token, and takes it away. The caller holds mu.
func (s *Simulator) opens(r *http.Request, sb *sandbox) bool {
	is := func(got, want string) bool { return subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1 }
	query := r.URL.Query()
	key, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case bearer && is(key, s.opts.Key):
		r.Header.Del("Authorization")
	case is(r.Header.Get(previewHeader), sb.token):
		r.Header.Del(previewHeader)
	case is(query.Get(previewQuery), sb.token):
		query.Del(previewQuery)
		r.URL.RawQuery = query.Encode()
	default:
		return false
	}
	return true
}
