package userland

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// unescape replaces backslash sequences. Octal numbers are \NNN, and also \0NNN if
// zero is set, as for echo and %b. stop says that \c ended the output.
func unescape(text string, zero bool) (out string, stop bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		switch c := text[i]; {
		case strings.IndexByte("abefnrtv", c) >= 0:
			b.WriteByte("\a\b\x1b\f\n\r\t\v"[strings.IndexByte("abefnrtv", c)])
		case c == '\\' || (!zero && (c == '"' || c == '\'')):
			b.WriteByte(c)
		case c == 'c':
			return b.String(), true
		case c >= '0' && c <= '7':
			limit := 3
			if zero && c == '0' {
				limit = 4
			}
			i += number(&b, text[i:], limit, 8) - 1
		case c == 'x' && i+1 < len(text) && isHex(text[i+1]):
			i += number(&b, text[i+1:], 2, 16)
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return b.String(), false
}

func isHex(c byte) bool { return strings.IndexByte("0123456789abcdefABCDEF", c) >= 0 }

// number writes the byte that digits at the start of text mean, and returns how
// many there are.
func number(b *strings.Builder, text string, limit, base int) int {
	n := 0
	for n < limit && n < len(text) && isHex(text[n]) && (base == 16 || text[n] < '8') {
		n++
	}
	v, _ := strconv.ParseUint(text[:n], base, 16) // digits were checked
	b.WriteByte(byte(v))
	return n
}

// formatter is one printf.
type formatter struct {
	p    system.Process
	out  strings.Builder
	args []string
	code int
	stop bool
}

func printf(p system.Process, argv []string) int {
	args := argv[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return complain(p, 2, "printf: want FORMAT [ARGUMENT]…")
	}
	f := &formatter{p: p, args: args[1:]}
	for {
		before := len(f.args)
		if !f.once(args[0]) {
			return 2
		}
		if len(f.args) == 0 || len(f.args) == before || f.stop {
			break
		}
	}
	return max(f.code, print(p, "printf", f.out.String()))
}

func (f *formatter) next() string {
	if len(f.args) == 0 {
		return ""
	}
	arg := f.args[0]
	f.args = f.args[1:]
	return arg
}

// once formats the arguments that one pass over the format takes.
func (f *formatter) once(format string) bool {
	for format != "" && !f.stop {
		literal, rest, found := strings.Cut(format, "%")
		text, stop := unescape(literal, false)
		f.out.WriteString(text)
		f.stop = stop
		if !found || stop {
			return true
		}
		if strings.HasPrefix(rest, "%") {
			f.out.WriteByte('%')
			format = rest[1:]
			continue
		}
		end := strings.IndexFunc(rest, func(r rune) bool { return !strings.ContainsRune("#-+ 0123456789.*", r) })
		if end < 0 {
			complain(f.p, 2, "printf: the format ends within a conversion")
			return false
		}
		flags := rest[:end]
		for strings.Contains(flags, "*") {
			flags = strings.Replace(flags, "*", strconv.FormatInt(f.integer(f.next()), 10), 1)
		}
		if !f.convert("%"+flags, rest[end]) {
			return false
		}
		format = rest[end+1:]
	}
	return true
}

func (f *formatter) convert(flags string, verb byte) bool {
	switch verb {
	case 's':
		fmt.Fprintf(&f.out, flags+"s", f.next())
	case 'b':
		var text string
		text, f.stop = unescape(f.next(), true)
		fmt.Fprintf(&f.out, flags+"s", text)
	case 'c':
		arg := f.next()
		fmt.Fprintf(&f.out, flags+"s", arg[:min(1, len(arg))])
	case 'q':
		fmt.Fprintf(&f.out, flags+"s", "'"+strings.ReplaceAll(f.next(), "'", `'\''`)+"'")
	case 'd', 'i':
		fmt.Fprintf(&f.out, flags+"d", f.integer(f.next()))
	case 'u':
		fmt.Fprintf(&f.out, flags+"d", uint64(f.integer(f.next())))
	case 'o', 'x', 'X':
		fmt.Fprintf(&f.out, flags+string(verb), uint64(f.integer(f.next())))
	case 'e', 'E', 'f', 'g', 'G':
		arg := f.next()
		v, err := strconv.ParseFloat(arg, 64)
		if err != nil && arg != "" {
			f.code = complain(f.p, 1, "printf: %s: want a number", arg)
		}
		fmt.Fprintf(&f.out, flags+string(verb), v)
	default:
		complain(f.p, 2, "printf: unsupported conversion %%%c", verb)
		return false
	}
	return true
}

// integer reads a number as C writes it, or a character after a quote.
func (f *formatter) integer(arg string) int64 {
	if len(arg) > 1 && (arg[0] == '\'' || arg[0] == '"') {
		return int64([]rune(arg[1:])[0])
	}
	v, err := strconv.ParseInt(strings.TrimSpace(arg), 0, 64)
	if err != nil && arg != "" {
		f.code = complain(f.p, 1, "printf: %s: want a whole number", arg)
	}
	return v
}
