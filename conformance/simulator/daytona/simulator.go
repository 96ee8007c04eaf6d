package daytona

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/faults"
	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/guest"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// DefaultKey is the API key that is accepted where nobody says otherwise.
const DefaultKey = "simulated-key"

// Options of a simulator.
type Options struct {
	// Guests is the provider that guests are sandboxes of, configured.
	Guests providerv1.ProviderServiceClient
	// Key is the API key that is accepted; default: DefaultKey.
	Key string
	// Creates is how many sandboxes may be asked for in a minute; default 600, as at
	// the vendor [D].
	Creates int
	// Quota is how many sandboxes there may be at once; default: no limit.
	Quota int
	// Minute is how long a minute is of the vendor's intervals and times to live;
	// default: a minute.
	Minute time.Duration
	// Log receives what no client can be told; default: discard.
	Log *slog.Logger
}

// Simulator is the vendor's API as an http.Handler. Close it.
type Simulator struct {
	opts   Options
	fleet  *guest.Fleet
	mux    *http.ServeMux
	faults faults.List
	org    string

	// life ends with the simulator, work is what it waits for.
	life context.Context //nolint:containedctx // commands outlive the requests that start them
	end  context.CancelFunc
	work sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	seq       int64
	sandboxes map[string]*sandbox
	window    window
}

// New returns a simulator.
func New(ctx context.Context, opts Options) (*Simulator, error) {
	if opts.Guests == nil {
		return nil, errors.New("the simulator has no guests: want a provider")
	}
	const perMinute = 600
	opts.Key, opts.Creates, opts.Minute = cmp.Or(opts.Key, DefaultKey), cmp.Or(opts.Creates, perMinute), cmp.Or(opts.Minute, time.Minute)
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	fleet, err := guest.NewFleet(ctx, opts.Guests, "daytona")
	if err != nil {
		return nil, err
	}
	s := &Simulator{opts: opts, fleet: fleet, org: newID(), sandboxes: map[string]*sandbox{}}
	s.life, s.end = context.WithCancel(context.Background())
	s.routes()
	return s, nil
}

// Close ends all sandboxes and deletes all guests. Requests must have ended.
func (s *Simulator) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.end()
	for _, sb := range s.sandboxes {
		sb.stopTimers()
	}
	s.mu.Unlock()
	s.work.Wait()
	if err := s.fleet.Close(ctx); err != nil {
		return fmt.Errorf("close the simulator: %w", err)
	}
	return nil
}

// spawn runs a goroutine that Close waits for. The caller does not hold mu.
func (s *Simulator) spawn(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.work.Go(do)
	}
}

// newID is a UUID, as ids are at the vendor [S].
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// route is a handler that answers by writing, or with the error that it returns.
type route func(http.ResponseWriter, *http.Request) error

func (s *Simulator) routes() {
	s.mux = http.NewServeMux()
	add := func(toolbox bool, routes map[string]route) {
		for pattern, do := range routes {
			s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
				if err := do(w, r); err != nil {
					s.fail(w, r, err, toolbox)
				}
			})
		}
	}
	add(false, map[string]route{
		"POST /sandbox":                              s.createSandbox,
		"GET /sandbox":                               s.listSandboxes,
		"GET /sandbox/{id}":                          s.getSandbox,
		"DELETE /sandbox/{id}":                       s.deleteSandbox,
		"POST /sandbox/{id}/{call}":                  s.callSandbox,
		"POST /sandbox/{id}/{call}/{n}":              s.setSandbox,
		"GET /sandbox/{id}/ports/{port}/preview-url": s.previewURL,
		"PUT /sandbox/{id}/labels":                   s.putLabels,
		"/":                                          func(_ http.ResponseWriter, r *http.Request) error { return notSimulated(r.Method + " " + r.URL.Path) },
	})
	const session = "/toolbox/{id}/process/session"
	add(true, map[string]route{
		"POST " + session:                                      s.inToolbox(createSession),
		"GET " + session:                                       s.inToolbox(listSessions),
		"GET " + session + "/{session}":                        s.inToolbox(getSession),
		"DELETE " + session + "/{session}":                     s.inToolbox(s.deleteSession),
		"POST " + session + "/{session}/exec":                  s.inToolbox(s.runInSession),
		"GET " + session + "/{session}/command/{command}":      s.inToolbox(getCommand),
		"GET " + session + "/{session}/command/{command}/logs": s.inToolbox(s.commandLogs),
		"POST /toolbox/{id}/process/execute":                   s.inToolbox(s.execute),
		"POST /toolbox/{id}/files/bulk-upload":                 s.inToolbox(bulkUpload),
		"POST /toolbox/{id}/files/bulk-download":               s.inToolbox(bulkDownload),
		"POST /toolbox/{id}/files/folder":                      s.inToolbox(makeFolder),
		"GET /toolbox/{id}/files/download":                     s.inToolbox(download),
		"GET /toolbox/{id}/work-dir":                           s.inToolbox(folder),
		"GET /toolbox/{id}/user-home-dir":                      s.inToolbox(folder),
		"/toolbox/":                                            func(_ http.ResponseWriter, r *http.Request) error { return notSimulated(r.Method + " " + r.URL.Path) },
	})
}

// fail answers with an error.
func (s *Simulator) fail(w http.ResponseWriter, r *http.Request, err error, toolbox bool) {
	var p *problem
	if !errors.As(err, &p) {
		s.opts.Log.Error("the simulator failed", "method", r.Method, "path", r.URL.Path, "error", err)
		p = refuse(http.StatusInternalServerError, "The simulator failed: "+err.Error())
	}
	shown := *p
	shown.toolbox = toolbox
	shown.write(w, r)
}

// ServeHTTP implements http.Handler. The vendor serves the control API below /api,
// which is a part of the address that clients are given [S].
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case previewHost.MatchString(r.Host):
		s.preview(w, r)
		return
	case strings.HasPrefix(r.URL.Path, faults.AdminPrefix):
		faults.Admin{Faults: &s.faults, State: s.state, Evict: s.Evict}.ServeHTTP(w, r)
		return
	}
	r.URL.Path = strings.TrimPrefix(r.URL.Path, "/api")
	say := func(w http.ResponseWriter, f *faults.Fault) {
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		}
		(&problem{status: f.Status, code: f.Code, message: cmp.Or(f.Message, http.StatusText(f.Status)), toolbox: strings.HasPrefix(r.URL.Path, "/toolbox/")}).write(w, r)
	}
	s.faults.Around(w, r, say, func(w http.ResponseWriter, r *http.Request) {
		if !s.permit(r) {
			refuse(http.StatusUnauthorized, "Unauthorized").write(w, r) // [O]
			return
		}
		s.mux.ServeHTTP(w, r)
	})
}

// permit checks the key.
func (s *Simulator) permit(r *http.Request) bool {
	key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return subtle.ConstantTimeCompare([]byte(key), []byte(s.opts.Key)) == 1
}
