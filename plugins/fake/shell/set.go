package shell

import (
	"maps"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
)

// longOptions are the options of set -o.
var longOptions = map[string]byte{
	"allexport": 'a', "errexit": 'e', "noglob": 'f', "noexec": 'n', "nounset": 'u', "xtrace": 'x', "noclobber": 'C',
}

// option sets an option by its name.
func (sh *shell) option(name string, on bool) bool {
	if name == "pipefail" {
		sh.pipefail = on
		return true
	}
	flag, known := longOptions[name]
	if known {
		sh.flags[flag] = on
	}
	return known
}

func set(sh *shell, args []string) int {
	rest := args[1:]
	if len(rest) == 0 {
		var out strings.Builder
		for _, pair := range sh.listing() {
			out.WriteString(pair + "\n")
		}
		return sh.print(out.String())
	}
	defer func() { sh.configure() }()
	for len(rest) > 0 && len(rest[0]) > 0 && (rest[0][0] == '-' || rest[0][0] == '+') {
		arg := rest[0]
		rest = rest[1:]
		if arg == "--" || arg == "-" {
			sh.params = slices.Clone(rest)
			return 0
		}
		for _, c := range []byte(arg[1:]) {
			switch {
			case c == 'o' && len(rest) > 0:
				if !sh.option(rest[0], arg[0] == '-') {
					return sh.complain(2, "set: unsupported option -o %s", rest[0])
				}
				rest = rest[1:]
			case strings.IndexByte("aefnuxC", c) >= 0:
				sh.flags[c] = arg[0] == '-'
			default:
				return sh.complain(2, "set: unsupported option -%c", c)
			}
		}
	}
	if len(rest) > 0 {
		sh.params = slices.Clone(rest)
	}
	return 0
}

// listing is all variables as assignments.
func (sh *shell) listing() []string {
	all := map[string]string{}
	sh.Each(func(name string, v expand.Variable) bool {
		if v.IsSet() {
			all[name] = name + "=" + quote(v.String())
		}
		return true
	})
	out := make([]string, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name])
	}
	return out
}
