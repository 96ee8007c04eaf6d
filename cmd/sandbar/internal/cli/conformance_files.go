package cli

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/report"
)

// writers are the forms of a report, by the name that --report takes.
var writers = map[string]func(io.Writer, *report.Report) error{
	"json":  report.WriteJSON,
	"junit": report.WriteJUnit,
	"md":    func(w io.Writer, r *report.Report) error { return report.WriteMarkdown(w, r) },
	"html":  func(w io.Writer, r *report.Report) error { return report.WriteHTML(w, r) },
	"badge": report.WriteBadge,
}

// outputs are files to write, by form.
type outputs map[string]string

// parseOutputs reads KIND=FILE flags.
func parseOutputs(values []string) (outputs, error) {
	out := outputs{}
	for _, v := range values {
		kind, file, ok := strings.Cut(v, "=")
		if _, known := writers[kind]; !ok || !known || file == "" {
			return nil, badFlag("report", v, "is not KIND=FILE, where KIND is one of "+strings.Join(slices.Sorted(maps.Keys(writers)), ", "))
		}
		if _, twice := out[kind]; twice {
			return nil, badFlag("report", v, "is there twice; write each kind once")
		}
		if info, err := os.Stat(filepath.Dir(file)); err != nil || !info.IsDir() {
			return nil, badFlag("report", v, "is in a folder that does not exist") // known before the run, not after it
		}
		out[kind] = file
	}
	return out, nil
}

// write makes all files from one report.
func (o outputs) write(r *report.Report) error {
	for _, kind := range slices.Sorted(maps.Keys(o)) {
		var buf bytes.Buffer
		if err := writers[kind](&buf, r); err != nil {
			return err
		}
		if err := os.WriteFile(o[kind], buf.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write the %s report: %w", kind, err)
		}
	}
	return nil
}
