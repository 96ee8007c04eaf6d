package report

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
)

// VerifyOptions say what a report is held against.
type VerifyOptions struct {
	// Plugin is the path of the binary that the report claims to be about.
	Plugin string
	// Key is the public key of who signed; empty: the signature is not checked.
	Key string
	// Suite is the version of the suite whose Cases and Profiles follow; reports of
	// another cannot be verified with it.
	Suite string
	// Cases of the suite, and its profiles, without what came of them.
	Cases    []Case
	Profiles []Profile
}

// Verified is what is known of a report that holds.
type Verified struct {
	Report *Report
	// Signer is the name in the signature; Signed is true if the signature was
	// checked against a key, and is false for a name that is only claimed.
	Signer string
	Signed bool
}

// Verify checks that a report has the right form, is as it was sealed, says of
// itself only what follows from its results, is about the binary it is held
// against, and leaves out no case. The error names everything that does not
// agree.
//
// Without a key, somebody who changes results and seals the report anew is not
// caught: a signature is what says whose word it is.
func Verify(raw []byte, opts VerifyOptions) (Verified, error) {
	r, err := Parse(raw)
	if err != nil {
		return Verified{}, err
	}
	errs := []error{checkDigest(r, raw)}
	signer, err := checkSignature(r, opts.Key)
	errs = append(errs, err)
	if r.Suite.Version != opts.Suite {
		errs = append(errs, fmt.Errorf("the report is of suite %s, and this is suite %s: verify it with the suite that made it", r.Suite.Version, opts.Suite))
	} else {
		errs = append(errs, checkCatalogue(r, opts)...)
	}
	errs = append(errs, checkResults(r)...)
	errs = append(errs, checkVerdicts(r)...)
	errs = append(errs, checkBinary(r, opts.Plugin))
	if err := errors.Join(errs...); err != nil {
		return Verified{}, err
	}
	return Verified{Report: r, Signer: signer, Signed: signer != "" && opts.Key != ""}, nil
}

func checkDigest(r *Report, raw []byte) error {
	got, err := digest(raw)
	if err != nil {
		return err
	}
	if got != r.Digest {
		return fmt.Errorf("the report was changed after it was sealed: its digest is %s, and its content has %s", r.Digest, got)
	}
	return nil
}

// checkCatalogue finds cases that are missing, made up, moved or altered.
func checkCatalogue(r *Report, opts VerifyOptions) []error {
	var errs []error
	for i, p := range opts.Profiles {
		if i >= len(r.Profiles) || r.Profiles[i].Name != p.Name || !slices.Equal(r.Profiles[i].Requires, p.Requires) {
			errs = append(errs, fmt.Errorf("profile %s does not stand as number %d, or requires something else", p.Name, i+1))
		}
	}
	if len(r.Profiles) > len(opts.Profiles) {
		errs = append(errs, fmt.Errorf("the report has %d profiles, the suite %d", len(r.Profiles), len(opts.Profiles)))
	}
	byID := map[string]Case{}
	for i, c := range r.Cases {
		if i > 0 && c.ID <= r.Cases[i-1].ID {
			errs = append(errs, fmt.Errorf("case %s stands after %s: cases are sorted by id, each once", c.ID, r.Cases[i-1].ID))
		}
		byID[c.ID] = c
	}
	for _, want := range opts.Cases {
		got, ok := byID[want.ID]
		delete(byID, want.ID)
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("case %s is missing", want.ID))
		case !same(got, want):
			errs = append(errs, fmt.Errorf("case %s is not described as the suite describes it", want.ID))
		}
	}
	for id := range byID {
		errs = append(errs, fmt.Errorf("the suite has no case %s", id))
	}
	return errs
}

// same compares what a case is, not what came of it.
func same(a, b Case) bool {
	return a.Title == b.Title && a.Profile == b.Profile && a.Level == b.Level && a.Denies == b.Denies && a.Provisional == b.Provisional &&
		slices.Equal(a.Requirements, b.Requirements) && slices.Equal(a.Needs, b.Needs)
}

// checkResults finds results that contradict what else the report says.
func checkResults(r *Report) []error {
	var errs []error
	declared := r.Capabilities.Declared()
	for _, c := range r.Cases {
		known := slices.ContainsFunc(r.KnownFailures, func(k KnownFailure) bool { return k.Case == c.ID })
		switch c.Outcome {
		case Skip:
			switch {
			case c.Skip.Reason == "capability_not_declared" && slices.Contains(declared, c.Skip.Detail):
				errs = append(errs, fmt.Errorf("case %s was skipped because %s is not declared, and it is", c.ID, c.Skip.Detail))
			case c.Skip.Reason == "capability_declared" && !slices.Contains(declared, c.Skip.Detail):
				errs = append(errs, fmt.Errorf("case %s was skipped because %s is declared, and it is not", c.ID, c.Skip.Detail))
			case c.Skip.Reason == skipNotSelected && slices.Contains(r.Run.Profiles, c.Profile):
				errs = append(errs, fmt.Errorf("case %s was skipped because profile %s was not selected, and it was", c.ID, c.Profile))
			}
			continue
		case Fail, KnownFail, Error:
			if len(c.Problems) == 0 {
				errs = append(errs, fmt.Errorf("case %s ended with %s, and nothing says why", c.ID, c.Outcome))
			}
		case Pass:
			if len(c.Problems) > 0 {
				errs = append(errs, fmt.Errorf("case %s passed, and has problems", c.ID))
			}
		}
		if c.Outcome == KnownFail && (!known || r.expired(c.ID)) || c.Outcome == UnexpectedPass && !known || c.Outcome == Pass && known {
			errs = append(errs, fmt.Errorf("case %s ended with %s, which the list of known failures contradicts", c.ID, c.Outcome))
		}
		for _, id := range c.Needs {
			if !slices.Contains(declared, id) {
				errs = append(errs, fmt.Errorf("case %s ran, and needs %s, which is not declared", c.ID, id))
			}
		}
	}
	return errs
}

// checkVerdicts judges again, and compares.
func checkVerdicts(r *Report) []error {
	again := *r
	again.Profiles = slices.Clone(r.Profiles)
	again.Judge(r.Capabilities.Declared())
	var errs []error
	if again.Verdict != r.Verdict {
		errs = append(errs, fmt.Errorf("the verdict is %s, and the results say %s", r.Verdict, again.Verdict))
	}
	for i, p := range r.Profiles {
		if !reflect.DeepEqual(p, again.Profiles[i]) {
			errs = append(errs, fmt.Errorf("profile %s is %s (%s), and the results say %s (%s)", p.Name, p.Verdict, count(p), again.Profiles[i].Verdict, count(again.Profiles[i])))
		}
	}
	if !reflect.DeepEqual(again.Capabilities, r.Capabilities) {
		errs = append(errs, errors.New("the lists of capabilities do not follow from the results, or do not partition the registry"))
	}
	return errs
}

func count(p Profile) string {
	return strings.TrimSuffix(fmt.Sprintf("%d MUST cases, counts %+v, %s", p.Executed, p.Counts, p.Reason), ", ")
}

func checkBinary(r *Report, path string) error {
	if r.Plugin.SHA256 == "" {
		return fmt.Errorf("the report is about no binary, because the target was %s: only reports about a binary can be verified", r.Plugin.Target)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("the plugin's binary: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("the plugin's binary: %w", err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != r.Plugin.SHA256 {
		return fmt.Errorf("the report is about another binary: %s has SHA-256 %s, the one that was tested %s", path, got, r.Plugin.SHA256)
	}
	return nil
}
