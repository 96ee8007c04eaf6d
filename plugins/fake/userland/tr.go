package userland

import (
	"fmt"
	"io"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// classes are the character classes of tr.
var classes = map[string]func(byte) bool{
	"upper":  func(c byte) bool { return c >= 'A' && c <= 'Z' },
	"lower":  func(c byte) bool { return c >= 'a' && c <= 'z' },
	"digit":  func(c byte) bool { return c >= '0' && c <= '9' },
	"xdigit": isHex,
	"alpha":  func(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' },
	"alnum":  func(c byte) bool { return (c|0x20 >= 'a' && c|0x20 <= 'z') || (c >= '0' && c <= '9') },
	"space":  func(c byte) bool { return c == ' ' || (c >= '\t' && c <= '\r') },
	"blank":  func(c byte) bool { return c == ' ' || c == '\t' },
	"cntrl":  func(c byte) bool { return c < ' ' || c == 127 },
	"print":  func(c byte) bool { return c >= ' ' && c < 127 },
	"graph":  func(c byte) bool { return c > ' ' && c < 127 },
	"punct": func(c byte) bool {
		return c > ' ' && c < 127 && (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9')
	},
}

// charset expands a set of tr.
func charset(text string) ([]byte, error) {
	var out []byte
	plain, _ := unescape(text, false)
	for i := 0; i < len(plain); i++ {
		if rest := plain[i:]; strings.HasPrefix(rest, "[:") {
			if end := strings.Index(rest, ":]"); end > 0 {
				in, known := classes[rest[2:end]]
				if !known {
					return nil, fmt.Errorf("no class %s", rest[2:end])
				}
				for c := range 256 {
					if in(byte(c)) {
						out = append(out, byte(c))
					}
				}
				i += end + 1
				continue
			}
		}
		if i+2 < len(plain) && plain[i+1] == '-' {
			if plain[i+2] < plain[i] {
				return nil, fmt.Errorf("range %q is empty", plain[i:i+3])
			}
			for c := int(plain[i]); c <= int(plain[i+2]); c++ {
				out = append(out, byte(c))
			}
			i += 2
			continue
		}
		out = append(out, plain[i])
	}
	return out, nil
}

// table is what tr does to each byte.
type table struct {
	to      [256]byte
	drop    [256]bool
	squeeze [256]bool
}

func tr(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "cCdst", map[string]byte{"complement": 'c', "delete": 'd', "squeeze-repeats": 's', "truncate-set1": 't'})
	if !ok {
		return 2
	}
	want := 2
	if o.has('d') != o.has('s') && len(o.args) < 2 {
		want = 1
	}
	if len(o.args) != want {
		return complain(p, 2, "tr: want %d sets", want)
	}
	sets := make([][]byte, 2)
	for i, text := range o.args {
		var err error
		if sets[i], err = charset(text); err != nil {
			return complain(p, 2, "tr: %v", err)
		}
	}
	if o.has('c') || o.has('C') {
		sets[0] = complement(sets[0])
	}
	t := newTable(sets[0], sets[1], o.has('d'), o.has('s'), o.has('t'))
	last := -1
	buf, out := make([]byte, blockSize), make([]byte, 0, blockSize)
	for {
		n, err := system.Stdin(p).Read(buf)
		out = out[:0]
		for _, c := range buf[:n] {
			if t.drop[c] {
				continue
			}
			c = t.to[c]
			if t.squeeze[c] && last == int(c) {
				continue
			}
			last = int(c)
			out = append(out, c)
		}
		if code := print(p, "tr", string(out)); code != 0 {
			return code
		}
		if err == io.EOF { //nolint:errorlint // the calls of package system return it bare
			return 0
		}
		if err != nil {
			return trouble(p, "tr", "-", err)
		}
	}
}

func complement(set []byte) []byte {
	var in [256]bool
	for _, c := range set {
		in[c] = true
	}
	var out []byte
	for c := range 256 {
		if !in[c] {
			out = append(out, byte(c))
		}
	}
	return out
}

func newTable(from, to []byte, drop, squeeze, truncate bool) *table {
	t := &table{}
	for c := range t.to {
		t.to[c] = byte(c)
	}
	squeezed := from
	if len(to) > 0 {
		squeezed = to
	}
	for i, c := range from {
		switch {
		case drop:
			t.drop[c] = true
		case len(to) == 0 || (truncate && i >= len(to)):
		default:
			t.to[c] = to[min(i, len(to)-1)]
		}
	}
	for _, c := range squeezed {
		t.squeeze[c] = squeeze
	}
	return t
}
