package spec

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestTextIsReadable(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 90 {
		t.Fatalf("%d requirements were read from docs/spec: want at least 90", len(all))
	}
	got, ok := Lookup("REQ-CAP-004")
	if !ok || got.Level != Must || !got.SDK || got.File != "capabilities.md" || got.Section != "Capabilities" ||
		!strings.HasPrefix(got.Text, "Use of an undeclared capability is refused") {
		t.Fatalf("REQ-CAP-004 was read as %+v", got)
	}
	if _, ok := Lookup("REQ-CAP-999"); ok {
		t.Fatal("a requirement that does not exist was found")
	}
}

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		name, content, err string
		want               []Requirement
	}{
		{
			name:    "levels, SDK, lines joined",
			content: "# A\n\n**REQ-A-001 (MUST) [SDK]** One\ntwo.\n\nProse.\n\n## B\n\n**REQ-A-002 (SHOULD)** Three.\n",
			want: []Requirement{
				{ID: "REQ-A-001", Level: Must, SDK: true, Text: "One two.", File: "a.md", Section: "A"},
				{ID: "REQ-A-002", Level: Should, Text: "Three.", File: "a.md", Section: "B"},
			},
		},
		{name: "no level", content: "**REQ-A-001** One.", err: "want **REQ-AREA-NNN"},
		{name: "no text", content: "**REQ-A-001 (MUST)**", err: "says nothing"},
		{name: "twice", content: "**REQ-A-001 (MUST)** One.\n\n**REQ-A-001 (MUST)** Two.", err: "never reused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parse(fstest.MapFS{"a.md": {Data: []byte(tc.content)}})
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("got error %v, want one with %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}
