package conformance

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
)

// ParseKnownFailures reads a list of known failures: one entry on each line,
//
//	exec/signal-exit  expires=2027-03-01  issue=https://example.com/7  # signals become 128+n
//
// Empty lines and lines that start with # are comments. Nothing may be left out:
// a failure that nobody explains, or that never expires, is not known. name is
// the file's, for errors, which name every line that is wrong.
func ParseKnownFailures(r io.Reader, name string) ([]KnownFailure, error) {
	var out []KnownFailure
	var errs []error
	seen := map[string]int{}
	scanner := bufio.NewScanner(r)
	for n := 1; scanner.Scan(); n++ {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		entry, err := parseKnown(line)
		if first, again := seen[entry.Case]; err == nil && again {
			err = fmt.Errorf("%s stands on line %d already", entry.Case, first)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", name, n, err))
			continue
		}
		seen[entry.Case] = n
		out = append(out, entry)
	}
	if err := scanner.Err(); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", name, err))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

// parseKnown reads one entry.
func parseKnown(line string) (KnownFailure, error) {
	// A # begins the reason only after a space: addresses of issues hold some too.
	text, why, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " #")
	fields := strings.Fields(text)
	k := KnownFailure{Case: fields[0], Why: strings.TrimSpace(why)}
	if !exists(catalogue(), k.Case) {
		return k, noCase(k.Case)
	}
	set := map[string]bool{}
	for _, field := range fields[1:] {
		key, value, ok := strings.Cut(field, "=")
		if !ok || set[key] {
			return k, fmt.Errorf("%q: want expires=YYYY-MM-DD and issue=URL once each, then # and why", field)
		}
		set[key] = true
		if err := k.set(key, value); err != nil {
			return k, err
		}
	}
	switch {
	case !set["expires"]:
		return k, errors.New("expires is missing: want expires=YYYY-MM-DD, the day from which the failure counts again")
	case !set["issue"]:
		return k, errors.New("issue is missing: want issue=URL, where the failure is discussed")
	case k.Why == "":
		return k, errors.New("the reason is missing: want # and one sentence at the end")
	}
	return k, nil
}

// set takes one key of an entry.
func (k *KnownFailure) set(key, value string) error {
	switch key {
	case "expires":
		day, err := time.Parse(time.DateOnly, value)
		if err != nil {
			return fmt.Errorf("expires is %q: want a day as YYYY-MM-DD", value)
		}
		k.Expires = day
	case "issue":
		if u, err := url.Parse(value); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return fmt.Errorf("issue is %q: want a URL", value)
		}
		k.Issue = value
	default:
		return fmt.Errorf("%q is no key: want expires or issue", key)
	}
	return nil
}
