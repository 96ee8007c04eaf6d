package report

import (
	"fmt"
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/spec"
)

// maxShown bounds a message of a call in text for people; the JSON has more.
const maxShown = 600

// Text says in words how a case ended that did not pass: what was wrong, which
// requirement says so, what the case did, what was said, and what the plugin
// logged. rerun is a command that runs it again; it may be empty.
func (c Case) Text(rerun string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s (%.0f ms)\n", strings.ToUpper(c.Outcome), c.ID, c.Title, c.ElapsedMS)
	if c.Outcome == UnexpectedPass {
		b.WriteString("  - it passed, and stands among the known failures: take the entry out\n")
		return b.String()
	}
	for _, p := range c.Problems {
		fmt.Fprintf(&b, "  - %s\n", strings.ReplaceAll(strings.TrimSpace(p), "\n", "\n    "))
	}
	for _, id := range c.Requirements {
		if r, ok := spec.Lookup(id); ok {
			fmt.Fprintf(&b, "  %s (%s) %s [docs/spec/%s]\n", r.ID, r.Level, r.Text, r.File)
		}
	}
	if len(c.Steps) > 0 {
		b.WriteString("  what it did:\n")
	}
	for _, s := range c.Steps {
		fmt.Fprintf(&b, "  %8.1f ms  %s\n", s.AtMS, s.Text)
	}
	if len(c.Calls) > 0 {
		b.WriteString("  what was said:\n")
	}
	for _, call := range c.Calls {
		fmt.Fprintf(&b, "    %s (%.1f ms)\n", call.Method, call.TookMS)
		for _, m := range call.Sent {
			fmt.Fprintf(&b, "      > %s\n", cut(m))
		}
		for _, m := range call.Received {
			fmt.Fprintf(&b, "      < %s\n", cut(m))
		}
		if call.Error != "" {
			fmt.Fprintf(&b, "      < %s\n", call.Error)
		}
	}
	if c.Stderr != "" {
		fmt.Fprintf(&b, "  the plugin's last words:\n    %s\n", strings.ReplaceAll(strings.TrimSpace(c.Stderr), "\n", "\n    "))
	}
	if rerun != "" {
		fmt.Fprintf(&b, "  again: %s\n", rerun)
	}
	return b.String()
}

func cut(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown], "") + "…"
}
