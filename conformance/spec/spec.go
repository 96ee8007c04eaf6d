// Package spec is the registry of the contract's requirements, read from the
// normative text in docs/spec: each paragraph that starts with an id and a level,
//
//	**REQ-EXEC-030 (MUST)** The exit is a code or a signal by name, …
//
// is one requirement. Nothing is written down twice: a case names ids, and what
// a failure quotes is the text itself.
package spec

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	text "github.com/sandbar-dev/sandbar/docs/spec"
	"github.com/sandbar-dev/sandbar/proto/pattern"
)

// Level is how binding a requirement is.
type Level string

// The levels, as RFC 2119 has them.
const (
	Must   Level = "MUST"
	Should Level = "SHOULD"
)

// Requirement is one demand of the contract.
type Requirement struct {
	// ID is REQ-AREA-NNN. It is never reused.
	ID    string
	Level Level
	// SDK is true if the SDK in plugins/sdk meets it for every driver built on it.
	SDK bool
	// Text is the paragraph without its id, on one line.
	Text string
	// File and Section say where it stands, relative to docs/spec.
	File, Section string
}

var heading = pattern.Lazy(`^\*\*(REQ-[A-Z]+-[0-9]{3}) \((MUST|SHOULD)\)( \[SDK\])?\*\*( \*\*\[SDK\]\*\*)?\s*(.*)$`)

var registry = sync.OnceValues(func() ([]Requirement, error) { return parse(text.Files) })

// All returns every requirement, sorted by id. The caller owns the slice.
func All() ([]Requirement, error) {
	all, err := registry()
	return slices.Clone(all), err
}

// Lookup finds a requirement by id.
func Lookup(id string) (Requirement, bool) {
	all, err := registry()
	if err != nil {
		return Requirement{}, false
	}
	i, found := slices.BinarySearchFunc(all, id, func(r Requirement, id string) int { return cmp.Compare(r.ID, id) })
	if !found {
		return Requirement{}, false
	}
	return all[i], true
}

// parse reads all Markdown files at the top of a file system.
func parse(files fs.FS) ([]Requirement, error) {
	names, err := fs.Glob(files, "*.md")
	if err != nil {
		return nil, fmt.Errorf("list the contract's text: %w", err)
	}
	var all []Requirement
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read the contract's text: %w", err)
		}
		found, err := parseFile(name, string(content))
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, func(a, b Requirement) int { return cmp.Compare(a.ID, b.ID) })
	for i := 1; i < len(all); i++ {
		if all[i].ID == all[i-1].ID {
			return nil, fmt.Errorf("%s stands in %s and in %s: ids are never reused", all[i].ID, all[i-1].File, all[i].File)
		}
	}
	return all, nil
}

func parseFile(name, content string) ([]Requirement, error) {
	var out []Requirement
	section := ""
	for paragraph := range strings.SplitSeq(content, "\n\n") {
		paragraph = strings.TrimSpace(paragraph)
		if title, ok := strings.CutPrefix(paragraph, "#"); ok {
			section = strings.TrimSpace(strings.TrimLeft(title, "#"))
			continue
		}
		if !strings.HasPrefix(paragraph, "**REQ-") || name == "README.md" {
			continue
		}
		line := strings.Join(strings.Fields(paragraph), " ")
		m := heading().FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("%s: %.60q: want **REQ-AREA-NNN (MUST or SHOULD)**, optionally [SDK], then the text", name, line)
		}
		if m[5] == "" {
			return nil, fmt.Errorf("%s: %s says nothing", name, m[1])
		}
		out = append(out, Requirement{
			ID: m[1], Level: Level(m[2]), SDK: m[3] != "" || m[4] != "", Text: m[5], File: name, Section: section,
		})
	}
	return out, nil
}
