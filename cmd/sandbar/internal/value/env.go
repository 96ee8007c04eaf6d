package value

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Env collects NAME=VALUE pairs. NAME alone takes the value from lookup and is
// left out when lookup has none; later pairs win.
func Env(into map[string]string, pairs []string, lookup func(string) (string, bool)) error {
	for _, pair := range pairs {
		name, val, has := strings.Cut(pair, "=")
		if name == "" || strings.ContainsAny(name, " \t\x00") {
			return fmt.Errorf("%q is not an environment entry; write NAME=VALUE, or NAME to pass yours on", pair)
		}
		if !has {
			var ok bool
			if val, ok = lookup(name); !ok {
				continue
			}
		}
		into[name] = val
	}
	return nil
}

// EnvFile reads NAME=VALUE lines. Empty lines and lines that start with # are
// skipped; values are taken as they are, quotes included.
func EnvFile(into map[string]string, r io.Reader, lookup func(string) (string, bool)) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimLeft(sc.Text(), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		if err := Env(into, []string{line}, lookup); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return sc.Err()
}

// Labels parses NAME=VALUE pairs; unlike an environment entry, a label always
// has a value of its own.
func Labels(pairs []string) (map[string]string, error) {
	out := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		name, val, has := strings.Cut(pair, "=")
		if !has || name == "" {
			return nil, fmt.Errorf("%q is not a label; write NAME=VALUE", pair)
		}
		out[name] = val
	}
	return out, nil
}
