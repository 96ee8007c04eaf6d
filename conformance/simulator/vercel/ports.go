package vercel

import (
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/guest"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// portDomain is below which the ports of sandboxes have their addresses [S]. The
// simulator serves what comes to it under such a name, whoever asks: the vendor asks
// for no token there either [D].
const portDomain = ".vercel.run"

var notInSubdomain = regexp.MustCompile(`[^a-zA-Z0-9]+`)

// subdomain is made of the name [M].
func (sb *sandbox) subdomain(port int) string {
	return strings.ToLower(notInSubdomain.ReplaceAllString(sb.name, "-")) + "-" + strconv.Itoa(port)
}

// routes are the addresses of the ports that were asked for [M].
func (sb *sandbox) routes() []wireRoute {
	out := []wireRoute{}
	for _, port := range sb.ports {
		sub := sb.subdomain(port)
		out = append(out, wireRoute{URL: "https://" + sub + portDomain, Subdomain: sub, Port: port})
	}
	return out
}

// visited returns the subdomain that a request is for.
func visited(r *http.Request) (string, bool) {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.CutSuffix(strings.ToLower(host), portDomain)
}

// visit carries a request to a port of a guest, and what comes back. What the vendor
// says of a port that nothing listens on, or of a sandbox that has stopped, is not
// documented: 502 and 410 here [I].
func (s *Simulator) visit(w http.ResponseWriter, r *http.Request, subdomain string) {
	sn, port := s.byPort(subdomain)
	if sn == nil {
		notFound("There is no sandbox at " + r.Host).write(w)
		return
	}
	g, err := s.alive(sn)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	inside, err := g.Dial(sn.life, uint32(port))
	if guest.Reason(err) == providerv1.ErrorReason_ERROR_REASON_PORT_REFUSED {
		refuse(http.StatusBadGateway, "sandbox_not_listening", "Nothing listens on port "+strconv.Itoa(port)).write(w)
		return
	}
	if err != nil {
		s.fail(w, r, s.inGuest(sn, err))
		return
	}
	defer inside.Close()
	if err := inside.Carry(w, r); err != nil {
		s.fail(w, r, err)
	}
}

// byPort finds the session and the port of a subdomain.
func (s *Simulator) byPort(subdomain string) (*session, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sb := range s.sandboxes {
		if i := slices.IndexFunc(sb.ports, func(port int) bool { return sb.subdomain(port) == subdomain }); i >= 0 {
			return sb.session, sb.ports[i]
		}
	}
	return nil, 0
}

// checkPorts: there are 15 at most [D], and none twice [I].
func checkPorts(ports []int) error {
	if len(ports) > maxPorts {
		return badRequest("Invalid request: at most 15 ports")
	}
	for i, port := range ports {
		if port < 1 || port > 65535 || slices.Contains(ports[:i], port) {
			return badRequest("Invalid request: `ports` should be different numbers from 1 to 65535")
		}
	}
	return nil
}
