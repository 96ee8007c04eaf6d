package relational

import (
	"regexp"
	"testing"

	"pgregory.net/rapid"
)

// TestWhatPeopleCopy: a cursor and a page token are one word to a shell and no flag
// to a command, whatever they hold.
func TestWhatPeopleCopy(t *testing.T) {
	word := regexp.MustCompile(`^[0-9a-z]+$`)
	rapid.Check(t, func(t *rapid.T) {
		stream := rapid.Uint32().Draw(t, "stream")
		p := position{rapid.Int64Min(0).Draw(t, "txid"), rapid.Int64Min(1).Draw(t, "seq")}
		c := p.cursor(stream)
		if back, err := parseCursor(c, stream); !word.MatchString(c) || err != nil || back != p {
			t.Errorf("the cursor of %+v is %q, which is %+v: %v", p, c, back, err)
		}
		tok := token(p.seq, stream)
		if seq, err := parseToken(tok, stream); !word.MatchString(tok) || err != nil || seq != p.seq {
			t.Errorf("the token of row %d is %q, which is row %d: %v", p.seq, tok, seq, err)
		}
	})
}
