package vercel

import (
	"cmp"
	"compress/gzip"
	"net/http"
	"path"

	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/guest"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// callFiles is the three calls that there are about files [S].
func (s *Simulator) callFiles(w http.ResponseWriter, r *http.Request, sn *session) error {
	g, err := s.alive(sn)
	if err != nil {
		return err
	}
	switch r.PathValue("call") {
	case "write":
		err = writeFiles(r, g)
	case "mkdir":
		err = makeDirectory(r, g)
	case "read":
		return s.readFile(w, r, sn, g)
	default:
		return notFound("No filesystem op: " + r.PathValue("call")) // [M]
	}
	if err != nil {
		return s.inGuest(sn, err)
	}
	answer(w, http.StatusOK, struct{}{})
	return nil
}

// writeFiles unpacks a tar.gz below the folder that a header names [S, M].
func writeFiles(r *http.Request, g *guest.Guest) error {
	if r.Header.Get("Content-Type") != "application/gzip" {
		return badRequest("Invalid request: content-type should be application/gzip")
	}
	content, err := gzip.NewReader(r.Body)
	if err != nil {
		return badRequest("Invalid request: the body is no gzip: " + err.Error())
	}
	return g.Unpack(r.Context(), inHome(r.Header.Get("X-Cwd")), content)
}

type fileBody struct {
	Path string `json:"path"`
	CWD  string `json:"cwd"`
}

func (b fileBody) name() string {
	if path.IsAbs(b.Path) {
		return b.Path
	}
	return path.Join(inHome(b.CWD), b.Path)
}

// inHome is an absolute folder, of which none is the home [M].
func inHome(dir string) string {
	if dir = cmp.Or(dir, homeDir); path.IsAbs(dir) {
		return dir
	}
	return path.Join(homeDir, dir)
}

// makeDirectory is not recursive [M].
func makeDirectory(r *http.Request, g *guest.Guest) error {
	var b fileBody
	if err := read(r, &b); err != nil {
		return err
	}
	err := g.MakeDirectory(r.Context(), b.name(), false)
	if err != nil && guest.Reason(err) == providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND {
		return badRequest("mkdir failed: " + guest.Message(err)) // [M]
	}
	return err
}

// readFile answers the bytes, or 404 if there is no such file [S].
func (s *Simulator) readFile(w http.ResponseWriter, r *http.Request, sn *session, g *guest.Guest) error {
	var b fileBody
	if err := read(r, &b); err != nil {
		return err
	}
	found := false
	err := g.ReadFile(r.Context(), b.name(), func() {
		found = true
		w.Header().Set("Content-Type", "application/octet-stream")
		w.WriteHeader(http.StatusOK)
	}, w)
	if err == nil {
		return nil
	}
	if found {
		panic(http.ErrAbortHandler) // a file that is cut must not look whole
	}
	return s.inGuest(sn, err)
}
