package pattern_test

import (
	"testing"

	"github.com/sandbar-dev/sandbar/proto/pattern"
)

func TestLazy(t *testing.T) {
	name := pattern.Lazy("^[a-z]+$")
	if !name().MatchString("abc") || name().MatchString("ABC") {
		t.Errorf("%s matches abc: %t, ABC: %t", name(), name().MatchString("abc"), name().MatchString("ABC"))
	}
	if first := name(); first != name() {
		t.Error("the expression was compiled twice")
	}
}

// TestWrong: a wrong expression panics when it is used, not when it is made.
func TestWrong(t *testing.T) {
	wrong := pattern.Lazy("(")
	defer func() {
		if recover() == nil {
			t.Error("a wrong expression was compiled")
		}
	}()
	wrong()
}
