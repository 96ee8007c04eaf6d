package daytona

import (
	"archive/tar"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"path"
	"strconv"
	"strings"
)

// maxUpload bounds a file that is uploaded, which is in memory here.
const maxUpload = 64 << 20

// bulkUpload takes parts files[i].path and files[i].file, and makes the folders that
// they are in [S, O].
func bulkUpload(w http.ResponseWriter, r *http.Request, c call) error {
	form, err := r.MultipartReader()
	if err != nil {
		answer(w, http.StatusBadRequest, map[string]any{"errors": []string{"invalid multipart form"}}) // [O]
		return nil                                                                                     //nolint:nilerr // it is answered
	}
	names := map[string]string{}
	var errs []string
	written := []map[string]any{}
	for {
		part, err := form.NextPart()
		if err == io.EOF { //nolint:errorlint // it is that, by its documentation
			break
		}
		if err != nil {
			errs = append(errs, "reading part: "+err.Error())
			break
		}
		content, err := io.ReadAll(io.LimitReader(part, maxUpload+1))
		if err != nil || len(content) > maxUpload {
			errs = append(errs, "reading part: it is cut, or larger than the simulator takes")
			break
		}
		if index, ok := strings.CutSuffix(part.FormName(), "].path"); ok {
			names[index] = strings.TrimSpace(string(content))
			continue
		}
		index, _ := strings.CutSuffix(part.FormName(), "].file")
		name := names[index]
		if name == "" {
			errs = append(errs, part.FormName()+": missing .path metadata")
			continue
		}
		if err := writeFile(r, c, inHome(name), content); err != nil {
			errs = append(errs, name+": create: "+err.Error())
			continue
		}
		written = append(written, map[string]any{"path": name, "bytes": len(content)})
	}
	if len(errs) > 0 {
		answer(w, http.StatusBadRequest, map[string]any{"errors": errs, "files": written})
		return nil
	}
	answer(w, http.StatusOK, map[string]any{"files": written})
	return nil
}

func writeFile(r *http.Request, c call, name string, content []byte) error {
	if err := c.guest.MakeDirectory(r.Context(), path.Dir(name), true); err != nil {
		return err
	}
	var archive bytes.Buffer
	out := tar.NewWriter(&archive)
	const mode = 0o644
	if err := out.WriteHeader(&tar.Header{Name: path.Base(name), Mode: mode, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	if _, err := out.Write(content); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return c.guest.Unpack(r.Context(), path.Dir(name), &archive)
}

// inHome is an absolute path, of which none is the home.
func inHome(name string) string {
	if name = cmp.Or(name, homeDir); path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(homeDir, name)
}

// needPath is what a query has to have [O].
func needPath(r *http.Request) (string, error) {
	name := r.URL.Query().Get("path")
	if name == "" {
		return "", &problem{status: http.StatusBadRequest, code: "BAD_REQUEST", message: "path is required"}
	}
	return inHome(name), nil
}

// makeFolder makes parents too, and one that exists is right [O].
func makeFolder(w http.ResponseWriter, r *http.Request, c call) error {
	name, err := needPath(r)
	if err != nil {
		return err
	}
	if err := c.guest.MakeDirectory(r.Context(), name, true); err != nil {
		return c.refused(err)
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// download answers the bytes of a file.
func download(w http.ResponseWriter, r *http.Request, c call) error {
	name, err := needPath(r)
	if err != nil {
		return err
	}
	found := false
	err = c.guest.ReadFile(r.Context(), name, func() {
		found = true
		w.Header().Set("Content-Type", "application/octet-stream")
		w.WriteHeader(http.StatusOK)
	}, w)
	if err != nil && found {
		panic(http.ErrAbortHandler) // a file that is cut must not look whole
	}
	if err != nil {
		return c.refused(err)
	}
	return nil
}

// bulkDownload answers parts: file, or error with what would have been answered about
// it [S, O].
func bulkDownload(w http.ResponseWriter, r *http.Request, c call) error {
	var b struct {
		Paths []string `json:"paths"`
	}
	if err := read(r, &b); err != nil {
		return err
	}
	if len(b.Paths) == 0 {
		return &problem{status: http.StatusBadRequest, code: "BAD_REQUEST", message: `request body must be {"paths": [ ... ]} and non-empty`}
	}
	out := multipart.NewWriter(w)
	if err := out.SetBoundary("DAYTONA-FILE-BOUNDARY"); err != nil {
		return err
	}
	w.Header().Set("Content-Type", out.FormDataContentType())
	w.WriteHeader(http.StatusOK)
	for _, name := range b.Paths {
		var content bytes.Buffer
		field, kind := "file", "application/octet-stream"
		if err := c.guest.ReadFile(r.Context(), inHome(name), func() {}, &content); err != nil {
			var p *problem
			if !errors.As(c.refused(err), &p) {
				p = &problem{status: http.StatusInternalServerError, code: "INTERNAL_SERVER_ERROR", message: err.Error()}
			}
			field, kind = "error", "application/json; charset=utf-8"
			content.Reset()
			_ = json.NewEncoder(&content).Encode(map[string]any{"statusCode": p.status, "code": p.code, "message": p.message}) // to memory
		}
		part, err := out.CreatePart(textproto.MIMEHeader{
			"Content-Type": {kind}, "Content-Disposition": {multipart.FileContentDisposition(field, name)},
			"Content-Length": {strconv.Itoa(content.Len())},
		})
		if err == nil {
			_, err = part.Write(content.Bytes())
		}
		if err != nil {
			panic(http.ErrAbortHandler) // the client has left, or must not take this for whole
		}
	}
	if out.Close() != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// folder is where commands start, and the home, which is the same [O].
func folder(w http.ResponseWriter, _ *http.Request, _ call) error {
	answer(w, http.StatusOK, map[string]string{"dir": homeDir})
	return nil
}
