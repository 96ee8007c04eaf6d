package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/conformance"
	"github.com/sandbar-dev/sandbar/conformance/report"
)

type conformanceVerifyCmd struct {
	File   string `arg:"" type:"path" help:"Report, as --report json=FILE wrote it."`
	Plugin string `required:"" type:"path" placeholder:"PATH" help:"The plugin's binary that the report claims to be about."`
	Key    string `type:"path" placeholder:"FILE" help:"Public key of who signed the report; without it the signature is not checked."`
}

// Run verifies a report.
func (c *conformanceVerifyCmd) Run(a *app) error {
	raw, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("the report: %w", err)
	}
	key, err := readKey("key", c.Key)
	if err != nil {
		return err
	}
	v, err := conformance.Verify(raw, c.Plugin, key)
	if err != nil {
		return &reportError{err}
	}
	if a.JSON {
		return render.Value(a.stdout, map[string]any{
			"verdict": v.Report.Verdict, "plugin": v.Report.Plugin, "digest": v.Report.Digest, "signer": v.Signer, "signature_checked": v.Signed,
		})
	}
	signed := "not signed"
	switch {
	case v.Signed:
		signed = "signed by " + v.Signer
	case v.Signer != "":
		signed = "signed by whoever calls himself " + v.Signer + ": give --key to know"
	}
	return a.out("%s %s: %s\nthe report is whole, and about this binary; %s",
		render.Cell(v.Report.Plugin.Name), render.Cell(v.Report.Plugin.Version), v.Report.Summary(), render.Cell(signed))
}

// reportError is a report that does not hold. It ends with 1: the suite has done
// its work.
type reportError struct{ error }

func (e *reportError) Unwrap() error { return e.error }

type conformanceReportCmd struct {
	Files  []string `arg:"" name:"file" type:"existingfile" help:"Reports, as --report json=FILE wrote them, in the order of the columns."`
	Report []string `placeholder:"KIND=FILE,…" help:"Files to write: md, html. Default: Markdown to standard output."`
}

// Run makes one document from several reports. It judges none of them anew: see
// sandbar conformance verify.
func (c *conformanceReportCmd) Run(a *app) error {
	files, err := parseOutputs(c.Report)
	if err != nil {
		return err
	}
	for kind := range files {
		if _, ok := several[kind]; !ok {
			return badFlag("report", kind, "cannot hold several reports; write md or html")
		}
	}
	var all []*report.Report
	for _, file := range c.Files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("the report: %w", err)
		}
		r, err := report.Parse(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, r)
	}
	if len(files) == 0 {
		return report.WriteMarkdown(a.stdout, all...)
	}
	for kind, file := range files {
		var buf bytes.Buffer
		if err := several[kind](&buf, all...); err != nil {
			return err
		}
		if err := os.WriteFile(file, buf.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write the %s report: %w", kind, err)
		}
	}
	return nil
}

// several are the forms that can hold more than one report.
var several = map[string]func(io.Writer, ...*report.Report) error{"md": report.WriteMarkdown, "html": report.WriteHTML}
