package shim

import (
	"regexp"
	"testing"

	"pgregory.net/rapid"
)

func TestDerivedHostname(t *testing.T) {
	for id, want := range map[string]string{
		"sbx_2abc": "sbx-2abc",
		"plain":    "plain",
	} {
		if got := derivedHostname(id); got != want {
			t.Errorf("derived from %q: %q, want %q", id, got, want)
		}
	}
}

func TestDerivedHostnamesAreValidAndApart(t *testing.T) {
	label := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	ids := rapid.OneOf(rapid.StringMatching(`[ab_-]{1,6}`), rapid.StringMatching(`[aA_.é-]{1,80}`))
	rapid.Check(t, func(t *rapid.T) {
		a, b := ids.Draw(t, "a"), ids.Draw(t, "b")
		for _, id := range []string{a, b} {
			if got := derivedHostname(id); !label.MatchString(got) {
				t.Errorf("derived from %q: %q is no label of a host name", id, got)
			}
		}
		if a != b && derivedHostname(a) == derivedHostname(b) {
			t.Errorf("%q and %q both give %q", a, b, derivedHostname(a))
		}
	})
}
