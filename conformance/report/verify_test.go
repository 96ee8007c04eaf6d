package report_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sandbar-dev/sandbar/conformance/report"
)

// evidence is a report on disk's terms: its file, the binary it is about, and
// what to hold it against.
type evidence struct {
	raw  []byte
	opts report.VerifyOptions
	key  string // private
}

func evidenceOf(t *testing.T, change ...func(*report.Report)) evidence {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "sandbar-provider-example")
	if err := os.WriteFile(binary, []byte("a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("a program"))
	private, public, err := report.NewKey("example.com")
	if err != nil {
		t.Fatal(err)
	}
	r := sample(t, append(slices.Clone(change), func(r *report.Report) { r.Plugin.SHA256 = hex.EncodeToString(sum[:]) })...)
	if err := r.Sign(private); err != nil {
		t.Fatal(err)
	}
	opts := report.VerifyOptions{Plugin: binary, Key: public, Suite: r.Suite.Version}
	for _, c := range r.Cases {
		opts.Cases = append(opts.Cases, report.Case{
			ID: c.ID, Title: c.Title, Profile: c.Profile, Level: c.Level, Requirements: c.Requirements, Needs: c.Needs, Denies: c.Denies,
		})
	}
	for _, p := range r.Profiles {
		opts.Profiles = append(opts.Profiles, report.Profile{Name: p.Name, Requires: p.Requires})
	}
	return evidence{raw: write(t, report.WriteJSON, r), opts: opts, key: private}
}

func TestVerifyAccepts(t *testing.T) {
	e := evidenceOf(t)
	v, err := report.Verify(e.raw, e.opts)
	if err != nil || v.Signer != "example.com" || !v.Signed {
		t.Fatalf("signer %q, checked %v, %v: want it to hold", v.Signer, v.Signed, err)
	}
	// Space and the order of keys are no content.
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(e.raw, &doc); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := report.Verify(again, e.opts); err != nil {
		t.Errorf("written in another way it does not hold: %v", err)
	}
	e.opts.Key = ""
	if v, err := report.Verify(e.raw, e.opts); err != nil || v.Signed || v.Signer != "example.com" {
		t.Errorf("without a key: signer %q, checked %v, %v: want the name, and that it is not checked", v.Signer, v.Signed, err)
	}
}

// TestSchemaAgrees holds our reading of the schema against a complete validator:
// for each change to a report both say the same.
func TestSchemaAgrees(t *testing.T) {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	text, err := jsonschema.UnmarshalJSON(bytes.NewReader(report.SchemaJSON()))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddResource("schema.json", text); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	e := evidenceOf(t)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.raw))
	if err != nil {
		t.Fatal(err)
	}
	verdicts := map[bool]int{}
	tamper(doc, "", func(path string) {
		raw, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		_, ours := report.Parse(raw)
		theirs := schema.Validate(doc)
		if (ours == nil) != (theirs == nil) {
			t.Errorf("%s: we say %v, the validator %v", path, ours, theirs)
		}
		verdicts[ours == nil]++
	})
	if verdicts[true] < 50 || verdicts[false] < 50 {
		t.Errorf("valid and not: %v: want many of both", verdicts)
	}
}

// TestVerifyCatchesEveryChange changes each value, drops each field and element,
// and turns each list around, one at a time. No such report may hold.
func TestVerifyCatchesEveryChange(t *testing.T) {
	e := evidenceOf(t)
	var doc any
	dec := json.NewDecoder(bytes.NewReader(e.raw))
	dec.UseNumber()
	if err := dec.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	tried := 0
	tamper(doc, "", func(path string) {
		tried++
		raw, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := report.Verify(raw, e.opts); err == nil {
			t.Errorf("it holds although %s", path)
		}
	})
	if tried < 300 {
		t.Errorf("only %d changes were tried", tried)
	}
}

// tamper makes each change to a document in turn, calls check, and takes it back.
func tamper(v any, path string, check func(string)) {
	switch x := v.(type) {
	case map[string]any:
		for key, old := range x {
			at := path + "." + key
			for _, other := range others(old) {
				x[key] = other
				check(at + " was changed")
			}
			delete(x, key)
			check(at + " was dropped")
			x[key+"s"] = old
			check(at + " was renamed")
			delete(x, key+"s")
			x[key] = old
			tamper(old, at, check)
		}
	case []any:
		for i, old := range x {
			at := fmt.Sprintf("%s[%d]", path, i)
			for _, other := range others(old) {
				x[i] = other
				check(at + " was changed")
			}
			x[i] = old
			tamper(old, at, check)
		}
		if len(x) > 1 {
			x[0], x[1] = x[1], x[0]
			check(path + " was reordered")
			x[0], x[1] = x[1], x[0]
		}
	}
}

// others are values that could stand in a value's place.
func others(v any) []any {
	switch x := v.(type) {
	case string:
		switch {
		case len(x) == 64:
			return []any{hex64('0')}
		case strings.HasSuffix(x, "Z"):
			return []any{"2026-01-01T00:00:00Z"}
		}
		swap := map[string]string{
			"pass": "fail", "fail": "pass", "known_fail": "pass", "error": "pass", "skip": "pass", "MUST": "SHOULD", "SHOULD": "MUST",
			"conformant": "partial", "partial": "conformant", "absent": "conformant", "core": "exec", "exec": "core", "binary": "broker",
		}
		if other, ok := swap[x]; ok {
			return []any{other}
		}
		if x == "" {
			return []any{"x"}
		}
		return []any{x + "x", ""}
	case json.Number:
		if x == "0" {
			return []any{json.Number("7"), json.Number("-1"), json.Number("0.5"), "0"}
		}
		return []any{x + "1", nil}
	case bool:
		return []any{!x}
	case []any:
		if len(x) == 0 {
			return []any{[]any{"x"}}
		}
		return []any{x[1:], append(slices.Clone(x), x[0])}
	case map[string]any:
		return []any{map[string]any{}}
	}
	return nil
}

// TestVerifyCatchesLiars: a report that was changed and sealed anew agrees with
// its digest. Verdicts, the catalogue and the binary give it away, and a
// signature the rest.
func TestVerifyCatchesLiars(t *testing.T) {
	drop := func(i int) func(*report.Report) {
		return func(r *report.Report) { r.Cases = slices.Delete(r.Cases, i, i+1) }
	}
	for name, tc := range map[string]struct {
		lie  func(*report.Report)
		want string
	}{
		"another overall verdict":  {func(r *report.Report) { r.Verdict = report.Conformant }, "the verdict is conformant"},
		"another profile verdict":  {func(r *report.Report) { r.Profiles[1].Verdict = report.Conformant }, "profile exec is conformant"},
		"another count":            {func(r *report.Report) { r.Profiles[1].Counts.Error = 0 }, "profile exec"},
		"no reason":                {func(r *report.Report) { r.Profiles[1].Reason = "" }, "profile exec"},
		"a requirement of its own": {func(r *report.Report) { r.Profiles[2].Requires = []string{} }, "profile files does not stand"},
		"a case dropped":           {drop(2), "case exec/error is missing"},
		"a case made up": {func(r *report.Report) {
			r.Cases = append(r.Cases, one("zz/made-up", "core", report.Must, report.Pass))
		}, "no case zz/made-up"},
		"a case renamed":        {func(r *report.Report) { r.Cases[2].ID = "exec/errors" }, "case exec/error is missing"},
		"a case of lower level": {func(r *report.Report) { r.Cases[2].Level = report.Should }, "exec/error is not described"},
		"a case provisional":    {func(r *report.Report) { r.Cases[2].Provisional = true }, "exec/error is not described"},
		"a case moved":          {func(r *report.Report) { r.Cases[2].Profile = "network" }, "exec/error is not described"},
		"cases reordered":       {func(r *report.Report) { r.Cases[0], r.Cases[1] = r.Cases[1], r.Cases[0] }, "sorted by id"},
		"a failure made a skip": {func(r *report.Report) {
			r.Cases[3].Outcome, r.Cases[3].Skip = report.Skip, &report.Skipped{Reason: "capability_not_declared", Detail: "exec.signal"}
		}, "is not declared, and it is"},
		"a failure made a pass":     {func(r *report.Report) { r.Cases[1].Outcome = report.Pass }, "passed, and has problems"},
		"a known failure unlisted":  {func(r *report.Report) { r.KnownFailures = []report.KnownFailure{} }, "list of known failures contradicts"},
		"a known failure prolonged": {func(r *report.Report) { r.KnownFailures[0].Expires = "2027-01-01" }, "list of known failures contradicts"},
		"a capability verified": {func(r *report.Report) {
			r.Capabilities.Verified, r.Capabilities.Unverified = r.Capabilities.Unverified, r.Capabilities.Verified
		}, "lists of capabilities"},
		"a capability forgotten": {func(r *report.Report) { r.Capabilities.Unchecked = r.Capabilities.Unchecked[1:] }, "lists of capabilities"},
		"another binary":         {func(r *report.Report) { r.Plugin.SHA256 = hex64('d') }, "another binary"},
		"no binary":              {func(r *report.Report) { r.Plugin.SHA256, r.Plugin.Target = "", "in_process" }, "about no binary"},
		"another suite":          {func(r *report.Report) { r.Suite.Version = "1.0.1" }, "is of suite 1.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			e := evidenceOf(t)
			e.opts.Key = ""
			_, err := report.Verify(resealed(t, e, tc.lie, ""), e.opts)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v: want %q in it", err, tc.want)
			}
		})
	}
}

func hex64(digit byte) string { return strings.Repeat(string(digit), 64) }

// resealed is a report with a lie in it, its digest made good, and signed with a
// key or not at all.
func resealed(t *testing.T, e evidence, lie func(*report.Report), key string) []byte {
	t.Helper()
	r, err := report.Parse(e.raw)
	if err != nil {
		t.Fatal(err)
	}
	lie(r)
	if err := r.Seal(); err != nil {
		t.Fatal(err)
	}
	if key != "" {
		if err := r.Sign(key); err != nil {
			t.Fatal(err)
		}
	}
	return write(t, report.WriteJSON, r)
}

// TestSignature: what only a signature can say.
func TestSignature(t *testing.T) {
	faster := func(r *report.Report) { r.Measurements[0].P50MS = 1 }
	e := evidenceOf(t)
	unsigned := e.opts
	unsigned.Key = ""
	if _, err := report.Verify(resealed(t, e, faster, ""), unsigned); err != nil {
		t.Fatalf("without a key a number can be changed and sealed anew: %v", err)
	}
	if _, err := report.Verify(resealed(t, e, faster, ""), e.opts); err == nil || !strings.Contains(err.Error(), "not signed") {
		t.Errorf("got %v: want it refused, because its signature is gone", err)
	}
	other, _, err := report.NewKey("example.com")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := report.Verify(resealed(t, e, faster, other), e.opts); err == nil || !strings.Contains(err.Error(), "signature does not hold") {
		t.Errorf("got %v: want it refused, because another key signed it", err)
	}
	var old struct{ Signature string }
	if err := json.Unmarshal(e.raw, &old); err != nil {
		t.Fatal(err)
	}
	raw := resealed(t, e, faster, e.key)
	var fresh map[string]any
	if err := json.Unmarshal(raw, &fresh); err != nil {
		t.Fatal(err)
	}
	fresh["signature"] = old.Signature
	raw, err = json.Marshal(fresh)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := report.Verify(raw, e.opts); err == nil || !strings.Contains(err.Error(), "signature is over another report") {
		t.Errorf("got %v: want it refused, because the signature is the old one", err)
	}
	if _, _, err := report.NewKey("two words"); err == nil {
		t.Error("a key's name may not hold a space: want it refused")
	}
}

func TestTwoReadersSeeOneReport(t *testing.T) {
	e := evidenceOf(t)
	raw := bytes.Replace(e.raw, []byte(`"verdict": "partial"`), []byte(`"verdict": "conformant", "verdict": "partial"`), 1)
	if _, err := report.Verify(raw, e.opts); err == nil {
		t.Error("a report that names a field twice holds: want it refused")
	}
	if _, err := report.Verify(append(slices.Clone(e.raw), e.raw...), e.opts); err == nil {
		t.Error("two reports in one file hold: want them refused")
	}
}
