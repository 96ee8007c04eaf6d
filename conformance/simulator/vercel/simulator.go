package vercel

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/faults"
	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/guest"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// What a simulator accepts where nobody says otherwise.
const (
	DefaultToken   = "simulated-token"
	DefaultTeam    = "team_simulated"
	DefaultProject = "prj_simulated"
)

// Options of a simulator.
type Options struct {
	// Guests is the provider that guests are sandboxes of, configured.
	Guests providerv1.ProviderServiceClient
	// Token, Team and Project are the ones that are accepted; default: those above.
	Token, Team, Project string
	// MaxTimeout is the longest that a session may be asked to live; default 5 h, as
	// on the vendor's paid plans [D].
	MaxTimeout time.Duration
	// Log receives what no client can be told; default: discard.
	Log *slog.Logger
}

// Simulator is the vendor's API as an http.Handler. Close it.
type Simulator struct {
	opts   Options
	fleet  *guest.Fleet
	mux    *http.ServeMux
	faults faults.List

	// life ends with the simulator, work is what it waits for.
	life context.Context //nolint:containedctx // commands outlive the requests that start them
	end  context.CancelFunc
	work sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	seq       int64
	sandboxes map[string]*sandbox
	sessions  map[string]*session
	snapshots map[string]*snapshot
}

// New returns a simulator.
func New(ctx context.Context, opts Options) (*Simulator, error) {
	if opts.Guests == nil {
		return nil, errors.New("the simulator has no guests: want a provider")
	}
	opts.Token, opts.Team, opts.Project = cmp.Or(opts.Token, DefaultToken), cmp.Or(opts.Team, DefaultTeam), cmp.Or(opts.Project, DefaultProject)
	const paidPlans = 5 * time.Hour
	opts.MaxTimeout = cmp.Or(opts.MaxTimeout, paidPlans)
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	fleet, err := guest.NewFleet(ctx, opts.Guests, "vercel")
	if err != nil {
		return nil, err
	}
	s := &Simulator{
		opts: opts, fleet: fleet,
		sandboxes: map[string]*sandbox{}, sessions: map[string]*session{}, snapshots: map[string]*snapshot{},
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.routes()
	return s, nil
}

// Close ends all sessions and deletes all guests. Requests must have ended.
func (s *Simulator) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.end()
	for _, sn := range s.sessions {
		if sn.timer != nil {
			sn.timer.Stop()
		}
	}
	s.mu.Unlock()
	s.work.Wait()
	if err := s.fleet.Close(ctx); err != nil {
		return fmt.Errorf("close the simulator: %w", err)
	}
	return nil
}

// spawn runs a goroutine that Close waits for.
func (s *Simulator) spawn(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.work.Go(do)
	}
}

func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()) }

func millis(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.UnixMilli()
}

// route is a handler that answers by writing, or with the error that it returns.
type route func(http.ResponseWriter, *http.Request) error

// routes are those of reference §4: the vendor's own client uses them all [S].
func (s *Simulator) routes() {
	s.mux = http.NewServeMux()
	for pattern, do := range map[string]route{
		"POST /v2/sandboxes":                              s.createSandbox,
		"POST /v3/sandboxes":                              s.createSandbox,
		"GET /v2/sandboxes":                               s.listSandboxes,
		"GET /v2/sandboxes/{name}":                        s.getSandbox,
		"PATCH /v2/sandboxes/{name}":                      s.updateSandbox,
		"DELETE /v2/sandboxes/{name}":                     s.deleteSandbox,
		"POST /v2/sandboxes/{name}/{call}":                s.callSandbox,
		"GET /v2/sandboxes/sessions":                      s.listSessions,
		"GET /v2/sandboxes/sessions/{id}":                 s.inSession(s.getSession),
		"POST /v2/sandboxes/sessions/{id}/stop":           s.inSession(s.stopSession),
		"POST /v2/sandboxes/sessions/{id}/{call}":         s.inSession(s.callSession),
		"POST /v3/sandboxes/sessions/{id}/{call}":         s.inSession(s.callSession),
		"GET /v2/sandboxes/sessions/{id}/cmd":             s.inSession(s.listCommands),
		"GET /v2/sandboxes/sessions/{id}/cmd/{cmd}":       s.inSession(s.getCommand),
		"GET /v2/sandboxes/sessions/{id}/cmd/{cmd}/logs":  s.inSession(s.commandLogs),
		"POST /v2/sandboxes/sessions/{id}/cmd/{cmd}/kill": s.inSession(s.killCommand),
		"POST /v2/sandboxes/sessions/{id}/fs/{call}":      s.inSession(s.callFiles),
		"GET /v2/sandboxes/snapshots":                     s.listSnapshots,
		"GET /v2/sandboxes/snapshots/{id}":                s.getSnapshot,
		"DELETE /v2/sandboxes/snapshots/{id}":             s.deleteSnapshot,
		"GET /v2/sandboxes/drives":                        func(http.ResponseWriter, *http.Request) error { return notSimulated("drives") },
		"DELETE /v2/sandboxes/drives/{name}":              func(http.ResponseWriter, *http.Request) error { return notSimulated("drives") },
		"GET /v2/sandboxes/snapshots/tree":                func(http.ResponseWriter, *http.Request) error { return notSimulated("snapshot tree") },
		"/": func(_ http.ResponseWriter, r *http.Request) error {
			return notFound("No route for " + r.Method + " " + r.URL.Path)
		},
	} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := do(w, r); err != nil {
				s.fail(w, r, err)
			}
		})
	}
}

// fail answers with an error.
func (s *Simulator) fail(w http.ResponseWriter, r *http.Request, err error) {
	var p *problem
	if !errors.As(err, &p) {
		s.opts.Log.Error("the simulator failed", "method", r.Method, "path", r.URL.Path, "error", err)
		p = refuse(http.StatusInternalServerError, "internal_server_error", "The simulator failed: "+err.Error())
	}
	p.write(w)
}

// ServeHTTP implements http.Handler. The vendor serves the same paths below /api on
// another host, which its own client uses [S].
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if subdomain, ok := visited(r); ok {
		s.visit(w, r, subdomain)
		return
	}
	if strings.HasPrefix(r.URL.Path, faults.AdminPrefix) {
		faults.Admin{Faults: &s.faults, State: s.state, Evict: s.Evict}.ServeHTTP(w, r)
		return
	}
	r.URL.Path = strings.TrimPrefix(r.URL.Path, "/api")
	s.faults.Around(w, r, sayFault, func(w http.ResponseWriter, r *http.Request) {
		if err := s.permit(r); err != nil {
			err.write(w)
			return
		}
		s.mux.ServeHTTP(w, r)
	})
}

// permit checks the token and whose sandboxes are asked about. A token that is none
// is refused with 403 and invalidToken [D, REST API errors]; that a team or project
// is not there is 403 or 404 [I].
func (s *Simulator) permit(r *http.Request) *problem {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if subtle.ConstantTimeCompare([]byte(token), []byte(s.opts.Token)) != 1 {
		p := refuse(http.StatusForbidden, "forbidden", "Not authorized")
		p.more = map[string]any{"invalidToken": true}
		return p
	}
	if team := r.URL.Query().Get("teamId"); team != "" && team != s.opts.Team {
		return refuse(http.StatusForbidden, "forbidden", "Not authorized: Trying to access resource under scope \""+team+"\".")
	}
	// The list calls name it project, the others projectId [S].
	for _, name := range []string{"project", "projectId"} {
		if project := r.URL.Query().Get(name); project != "" && project != s.opts.Project {
			return notFound("Project not found: " + project)
		}
	}
	return nil
}
