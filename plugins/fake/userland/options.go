package userland

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// options is how a program was called.
type options struct {
	set  map[byte]string
	args []string
}

func (o options) has(flag byte) bool {
	_, ok := o.set[flag]
	return ok
}

// parse reads options anywhere among the arguments. spec lists the flags; one
// with a value is followed by a colon. long names are other names of flags. It
// complains about what it does not know; the program then returns 2.
func parse(p system.Process, argv []string, spec string, long map[string]byte) (options, bool) {
	o := options{set: map[byte]string{}}
	refuse := func(format string, args ...any) (options, bool) {
		complain(p, 2, "%s: %s", argv[0], fmt.Sprintf(format, args...))
		return o, false
	}
	for rest := argv[1:]; len(rest) > 0; {
		arg := rest[0]
		rest = rest[1:]
		switch {
		case arg == "--":
			o.args = append(o.args, rest...)
			return o, true
		case strings.HasPrefix(arg, "--"):
			name, value, given := strings.Cut(arg[2:], "=")
			flag, known := long[name]
			takes := strings.Contains(spec, string(flag)+":")
			switch {
			case !known:
				return refuse("unsupported option %s", arg)
			case takes && !given && len(rest) == 0, given && !takes:
				return refuse("option --%s: wrong number of values", name)
			case takes && !given:
				value, rest = rest[0], rest[1:]
			}
			o.set[flag] = value
		case len(arg) < 2 || arg[0] != '-':
			o.args = append(o.args, arg)
		default:
			for i := 1; i < len(arg); i++ {
				at := strings.IndexByte(spec, arg[i])
				if at < 0 || arg[i] == ':' {
					return refuse("unsupported option -%c", arg[i])
				}
				if at+1 == len(spec) || spec[at+1] != ':' {
					o.set[arg[i]] = ""
					continue
				}
				value := arg[i+1:]
				if value == "" {
					if len(rest) == 0 {
						return refuse("option -%c needs a value", arg[i])
					}
					value, rest = rest[0], rest[1:]
				}
				o.set[arg[i]] = value
				break
			}
		}
	}
	return o, true
}

// units are the suffixes of sizes.
var units = map[string]int64{
	"": 1, "c": 1, "w": 2, "b": 512, "k": 1 << 10, "K": 1 << 10, "KiB": 1 << 10, "kB": 1e3, "KB": 1e3,
	"M": 1 << 20, "MiB": 1 << 20, "MB": 1e6, "G": 1 << 30, "GiB": 1 << 30, "GB": 1e9,
}

// size reads a number of bytes or lines such as 10, 4K or 1MB.
func size(text string) (int64, error) {
	digits := strings.TrimRight(text, "bcwkKMGiB")
	unit, known := units[text[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !known || n < 0 || (n > 0 && n*unit/unit != n) {
		return 0, fmt.Errorf("%q: want a number, with or without a suffix such as K or M", text)
	}
	return n * unit, nil
}

// shorthand turns an old form such as -5 into -n 5.
func shorthand(argv []string) []string {
	out := make([]string, 0, len(argv)+1)
	for i, arg := range argv {
		if _, err := strconv.ParseUint(strings.TrimPrefix(arg, "-"), 10, 63); i == 1 && strings.HasPrefix(arg, "-") && err == nil {
			out = append(out, "-n", arg[1:])
			continue
		}
		out = append(out, arg)
	}
	return out
}
