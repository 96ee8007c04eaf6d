package guard

import (
	_ "embed"
	"slices"
	"strings"
)

//go:embed capabilities.txt
var registryText string

// Capability is one line of the registry.
type Capability struct {
	// ID is area.feature[.detail]; it is never renamed or reused.
	ID string
	// Needs lists ids that must be declared with it.
	Needs []string
	// Meaning says in a few words what declaring it promises.
	Meaning string
}

var registry = parseRegistry(registryText)

func parseRegistry(text string) []Capability {
	var out []Capability
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		parts := strings.Split(line, "\t")
		if strings.HasPrefix(line, "#") || len(parts) != 3 {
			continue
		}
		c := Capability{ID: parts[0], Meaning: parts[2]}
		if parts[1] != "-" {
			c.Needs = strings.Split(parts[1], ",")
		}
		out = append(out, c)
	}
	return out
}

// Registry returns all known capabilities, sorted by id. The caller owns the
// slice.
func Registry() []Capability { return slices.Clone(registry) }

// Known reports whether id is in the registry.
func Known(id string) bool {
	_, ok := slices.BinarySearchFunc(registry, id, func(c Capability, id string) int { return strings.Compare(c.ID, id) })
	return ok
}

// Vendor reports whether id is a vendor's own extension, x-<vendor>.….
func Vendor(id string) bool { return strings.HasPrefix(id, "x-") }
