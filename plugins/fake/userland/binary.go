package userland

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

func sha256sum(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "btcSQ", map[string]byte{"binary": 'b', "text": 't', "check": 'c', "status": 'S', "quiet": 'Q'})
	if !ok {
		return 2
	}
	return each(p, "sha256sum", o.args, func(name string, in system.Descriptor) int {
		if o.has('c') {
			return check(p, in, o.has('S'), o.has('Q'))
		}
		sum, err := digest(in)
		if err != nil {
			return trouble(p, "sha256sum", name, err)
		}
		return print(p, "sha256sum", sum+"  "+name+"\n")
	})
}

func digest(in io.Reader) (string, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, struct{ io.Reader }{in}); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func check(p system.Process, list io.Reader, silent, quiet bool) int {
	code := 0
	lines(list, func(line []byte) int {
		want, name, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
		name = strings.TrimLeft(name, " *")
		if !ok || len(want) != 64 {
			code = complain(p, 1, "sha256sum: a line is not a checksum and a name")
			return 0
		}
		verdict := "FAILED"
		if in, ok := open(p, "sha256sum", name); ok {
			if got, err := digest(in); err == nil && got == want {
				verdict = "OK"
			}
			done(in)
		}
		if verdict != "OK" {
			code = 1
		}
		if silent || (quiet && verdict == "OK") {
			return 0
		}
		return print(p, "sha256sum", name+": "+verdict+"\n")
	})
	return code
}

// dump is one od.
type dump struct {
	p       system.Process
	address byte
	types   []string
	width   int
	all     bool
}

func od(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "A:bcj:N:t:vw:x", map[string]byte{"address-radix": 'A', "skip-bytes": 'j', "read-bytes": 'N', "format": 't', "width": 'w'})
	if !ok {
		return 2
	}
	d := dump{p: p, address: 'o', width: 16, all: o.has('v')}
	limits := map[byte]int64{'N': -1, 'j': 0, 'w': 16}
	for flag := range limits {
		if text, ok := o.set[flag]; ok {
			n, err := size(text)
			if err != nil || (flag == 'w' && n < 1) {
				return complain(p, 2, "od: -%c %s: want a number", flag, text)
			}
			limits[flag] = n
		}
	}
	d.width = int(limits['w'])
	if a := o.set['A']; o.has('A') {
		if len(a) != 1 || strings.IndexByte("doxn", a[0]) < 0 {
			return complain(p, 2, "od: -A %s: want d, o, x or n", a)
		}
		d.address = a[0]
	}
	for flag, kind := range map[byte]string{'b': "o1", 'c': "c", 'x': "x2", 't': o.set['t']} {
		if o.has(flag) {
			d.types = append(d.types, kind)
		}
	}
	if len(d.types) == 0 {
		d.types = []string{"o2"}
	}
	for _, kind := range d.types {
		if _, err := cell(kind, make([]byte, 8)); err != nil {
			return complain(p, 2, "od: -t %s: %v", kind, err)
		}
	}
	var inputs []io.Reader
	for _, name := range o.args {
		in, ok := open(p, "od", name)
		if !ok {
			return 1
		}
		inputs = append(inputs, in)
	}
	if len(inputs) == 0 {
		inputs = []io.Reader{system.Stdin(p)}
	}
	in := io.MultiReader(inputs...)
	skipped, err := io.CopyN(io.Discard, in, limits['j'])
	if err != nil {
		return complain(p, 1, "od: cannot skip beyond the end of the input")
	}
	if limits['N'] >= 0 {
		in = io.LimitReader(in, limits['N'])
	}
	return d.run(in, skipped)
}

func (d dump) run(in io.Reader, at int64) int {
	var before []byte
	repeated := false
	for {
		block := make([]byte, d.width)
		n, err := io.ReadFull(in, block)
		if n > 0 {
			block = block[:n]
			if !d.all && n == d.width && string(block) == string(before) {
				if !repeated && print(d.p, "od", "*\n") != 0 {
					return 1
				}
				repeated = true
			} else {
				repeated = false
				if print(d.p, "od", d.line(at, block)) != 0 {
					return 1
				}
			}
			before = block
			at += int64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			if d.address == 'n' {
				return 0
			}
			return print(d.p, "od", d.label(at)+"\n")
		}
		if err != nil {
			return complain(d.p, 1, "od: read error: %s", Message(err))
		}
	}
}

func (d dump) label(at int64) string {
	switch d.address {
	case 'x':
		return fmt.Sprintf("%06x", at)
	case 'd':
		return fmt.Sprintf("%07d", at)
	case 'n':
		return ""
	}
	return fmt.Sprintf("%07o", at)
}

func (d dump) line(at int64, block []byte) string {
	var out strings.Builder
	label := d.label(at)
	for i, kind := range d.types {
		if i > 0 {
			label = strings.Repeat(" ", len(label))
		}
		out.WriteString(label)
		step := width(kind)
		for j := 0; j < len(block); j += step {
			var whole [8]byte
			copy(whole[:step], block[j:])
			text, _ := cell(kind, whole[:]) // the kind was checked
			out.WriteString(text)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// width is how many bytes one cell of a type shows.
func width(kind string) int {
	if kind == "c" {
		return 1
	}
	return int(kind[1] - '0')
}

var charNames = map[byte]string{0: `\0`, 7: `\a`, 8: `\b`, 9: `\t`, 10: `\n`, 11: `\v`, 12: `\f`, 13: `\r`}

// cell shows the first bytes of b.
func cell(kind string, b []byte) (string, error) {
	if kind == "c" {
		if name := charNames[b[0]]; name != "" {
			return fmt.Sprintf(" %3s", name), nil
		}
		if b[0] >= ' ' && b[0] < 127 {
			return fmt.Sprintf(" %3c", b[0]), nil
		}
		return fmt.Sprintf(" %03o", b[0]), nil
	}
	if len(kind) != 2 || strings.IndexByte("dxou", kind[0]) < 0 || strings.IndexByte("1248", kind[1]) < 0 {
		return "", errors.New("want c, or one of d, o, u, x and one of 1, 2, 4, 8")
	}
	bytes := width(kind)
	var whole [8]byte
	copy(whole[:], b[:bytes])
	v := binary.LittleEndian.Uint64(whole[:])
	signed := int64(v<<(64-8*bytes)) >> (64 - 8*bytes)
	switch kind[0] {
	case 'x':
		return fmt.Sprintf(" %0*x", 2*bytes, v), nil
	case 'o':
		return fmt.Sprintf(" %0*o", map[int]int{1: 3, 2: 6, 4: 11, 8: 22}[bytes], v), nil
	case 'd':
		return fmt.Sprintf(" %*d", map[int]int{1: 4, 2: 6, 4: 11, 8: 20}[bytes], signed), nil
	}
	return fmt.Sprintf(" %*d", map[int]int{1: 3, 2: 5, 4: 10, 8: 20}[bytes], v), nil
}
