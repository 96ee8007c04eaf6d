package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// badge is what shields.io reads from an endpoint.
type badge struct {
	SchemaVersion int    `json:"schemaVersion"`
	Label         string `json:"label"`
	Message       string `json:"message"`
	Color         string `json:"color"`
	IsError       bool   `json:"isError,omitempty"`
}

// WriteBadge writes the verdict as the JSON of a shields.io endpoint. It names
// the minor of the suite, because conformance is to a version of the contract.
func WriteBadge(w io.Writer, r *Report) error {
	b := badge{SchemaVersion: 1, Label: "sandbar " + Minor(r.Suite.Version), Message: r.Summary(), Color: "yellow"}
	switch r.Verdict {
	case Conformant:
		b.Color = "brightgreen"
	case Not:
		b.Color, b.IsError = "red", true
	case Partial, Absent:
	}
	raw, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("write the badge: %w", err)
	}
	_, err = w.Write(append(raw, '\n'))
	return err
}

// Minor is the first two parts of a suite's version.
func Minor(version string) string {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return version
	}
	return parts[0] + "." + parts[1]
}
