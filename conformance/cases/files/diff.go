package files

import (
	"slices"
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// diffs are the cases about what a sandbox changed.
func diffs() []engine.Case {
	return []engine.Case{{
		ID: "fs/diff", Title: "DiffFiles lists what was added, modified and deleted since creation, each once, in order, and nothing else.",
		Profile: engine.Files, Requirements: []string{"REQ-DIFF-001"}, Needs: []string{"fs.diff"}, Cost: 10,
		Run: diff,
	}}
}

func diff(t *engine.T) {
	box := stage.Create(t)
	if untouched := changes(box.Diff("")); len(untouched) != 0 {
		t.Errorf("a sandbox in which nothing was done changed %q: want nothing", untouched)
	}
	// A file of the image can be modified and deleted; which one there is, the
	// sandbox says.
	victim := box.Line(`for f in /etc/passwd /etc/group /etc/profile; do if [ -f $f ]; then echo $f; break; fi; done`)
	box.Sh(`mkdir -p /tmp/new/deep; echo x > /tmp/new/deep/file; echo y > /tmp/gone; rm /tmp/gone; ls -l /etc > /dev/null`).Code(0)
	want := []string{"ADDED /tmp/new", "ADDED /tmp/new/deep", "ADDED /tmp/new/deep/file"}
	if victim != "" {
		box.Sh("echo '# changed' >> " + victim).Code(0)
		want = append(want, "MODIFIED "+victim)
	}
	check := func() {
		t.Step("compare the differences")
		list := box.Diff("")
		got := changes(list)
		if !slices.IsSortedFunc(list, func(a, b *providerv1.FileChange) int { return strings.Compare(a.GetPath(), b.GetPath()) }) {
			t.Errorf("DiffFiles gives %q: want them in byte order of path", got)
		}
		sorted := slices.Sorted(slices.Values(want))
		// A folder in which something changed may be told as modified itself.
		got = slices.DeleteFunc(got, func(c string) bool { return c == "MODIFIED /tmp" || c == "MODIFIED /etc" })
		slices.Sort(got)
		if !slices.Equal(got, sorted) {
			t.Errorf("DiffFiles gives %q: want %q", got, sorted)
		}
	}
	check()
	if victim != "" {
		box.Sh("rm " + victim).Code(0)
		want[len(want)-1] = "DELETED " + victim
		check()
	}
}

func changes(list []*providerv1.FileChange) []string {
	out := []string{}
	for _, c := range list {
		out = append(out, strings.TrimPrefix(c.GetKind().String(), "FILE_CHANGE_KIND_")+" "+c.GetPath())
	}
	return out
}
