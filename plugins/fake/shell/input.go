package shell

import (
	"path"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
	"github.com/sandbar-dev/sandbar/plugins/fake/userland"
)

func cd(sh *shell, args []string) int {
	physical := false
	for len(args) > 1 && (args[1] == "-L" || args[1] == "-P" || args[1] == "--") {
		physical = args[1] == "-P"
		args = append([]string{args[0]}, args[2:]...)
	}
	target, show := sh.value("HOME"), false
	switch {
	case len(args) > 2:
		return sh.complain(2, "cd: want one folder")
	case len(args) == 2 && args[1] == "-":
		target, show = sh.value("OLDPWD"), true
	case len(args) == 2:
		target = args[1]
	}
	if target == "" {
		return sh.complain(2, "cd: there is no such place")
	}
	logical := target
	if !strings.HasPrefix(logical, "/") {
		logical = sh.value("PWD") + "/" + logical
	}
	logical = path.Clean(logical)
	to := logical
	if physical {
		to = target
	}
	if err := sh.p.Chdir(to); err != nil {
		return sh.complain(2, "cd: %s: %s", target, userland.Message(err))
	}
	if physical {
		logical = sh.p.Dir()
	}
	sh.assign("OLDPWD", sh.value("PWD"))
	sh.assign("PWD", logical)
	if show {
		return sh.print(logical + "\n")
	}
	return 0
}

// reading is how read was called.
type reading struct {
	raw, silent   bool
	prompt, array string
	fd, limit     int
	delim         byte
	names         []string
}

func (sh *shell) readOptions(args []string) (reading, bool) {
	r := reading{delim: '\n'}
	for i := 1; i < len(args); i++ {
		arg := args[i]
		if len(arg) < 2 || arg[0] != '-' {
			r.names = args[i:]
			break
		}
		for j := 1; j < len(arg); j++ {
			switch c := arg[j]; c {
			case 'r':
				r.raw = true
				continue
			case 's':
				r.silent = true
				continue
			case 'p', 'n', 'd', 'u', 'a':
				value := arg[j+1:]
				if value == "" {
					if i++; i == len(args) {
						sh.complain(2, "read: -%c needs a value", c)
						return r, false
					}
					value = args[i]
				}
				if !r.take(c, value) {
					sh.complain(2, "read: -%c %s: want a number", c, value)
					return r, false
				}
			default:
				sh.complain(2, "read: unsupported option -%c", c)
				return r, false
			}
			break
		}
	}
	return r, true
}

// take sets an option that has a value.
func (r *reading) take(option byte, value string) bool {
	var err error
	switch option {
	case 'p':
		r.prompt = value
	case 'a':
		r.array = value
	case 'd':
		r.delim = (value + "\x00")[0]
	case 'n':
		r.limit, err = strconv.Atoi(value)
	case 'u':
		r.fd, err = strconv.Atoi(value)
	}
	return err == nil
}

func read(sh *shell, args []string) int {
	r, ok := sh.readOptions(args)
	if !ok {
		return 2
	}
	for _, name := range r.names {
		if !syntax.ValidName(name) {
			return sh.complain(2, "read: %s: not a name", name)
		}
	}
	terminal := sh.p.Terminal(r.fd)
	if r.prompt != "" && terminal != nil {
		_, _ = system.Stderr(sh.p).Write([]byte(r.prompt)) // who cannot see it needs none
	}
	if r.silent && terminal != nil {
		modes := terminal.Modes()
		quiet := modes
		quiet.Echo = false
		terminal.SetModes(quiet)
		defer terminal.SetModes(modes)
	}
	line, err := sh.readLine(r.fd, r.delim, r.limit)
	for err == nil && !r.raw && continued(line) {
		var more []byte
		more, err = sh.readLine(r.fd, r.delim, 0)
		line = append(line[:len(line)-1], more...)
	}
	// The command's own variables last as long as it does, what it reads stays.
	own := sh.scope
	fields := func(n int) []string { return expand.ReadFields(sh.config, string(line), n, r.raw) }
	var values []string
	switch {
	case r.array != "":
		values = fields(-1)
	case len(r.names) > 0:
		values = fields(len(r.names))
	default:
		r.names, values = []string{"REPLY"}, []string{string(line)}
	}
	sh.scope = own.parent
	defer func() { sh.scope = own }()
	if r.array != "" {
		sh.set(r.array, expand.Variable{Set: true, Kind: expand.Indexed, List: values})
	} else {
		for i, name := range r.names {
			value := ""
			if i < len(values) {
				value = values[i]
			}
			if !sh.assign(name, value) {
				return 2
			}
		}
	}
	if err != nil {
		return 1
	}
	return 0
}

// continued says whether a line ends with a backslash that is not quoted itself.
func continued(line []byte) bool {
	n := len(line) - len(strings.TrimRight(string(line), `\`))
	return n%2 == 1
}

// getopt is where getopts stands: which argument, and which letter of it.
type getopt struct{ arg, letter int }

func getopts(sh *shell, args []string) int {
	if len(args) < 3 {
		return sh.complain(2, "getopts: want OPTSTRING NAME [ARG]…")
	}
	spec, name, words := args[1], args[2], sh.params
	if len(args) > 3 {
		words = args[3:]
	}
	own := sh.scope
	sh.scope = own.parent
	defer func() { sh.scope = own }()
	if n, err := strconv.Atoi(sh.value("OPTIND")); err == nil && n-1 != sh.opt.arg {
		sh.opt = getopt{arg: max(n-1, 0)}
	}
	_ = sh.unset("OPTARG") // it may be unset
	done := func() int {
		sh.assign(name, "?")
		sh.assign("OPTIND", strconv.Itoa(sh.opt.arg+1))
		return 1
	}
	if sh.opt.arg >= len(words) {
		return done()
	}
	word := words[sh.opt.arg]
	if len(word) < 2 || word[0] != '-' {
		return done()
	}
	if word == "--" {
		sh.opt.arg++
		return done()
	}
	letter, rest := word[1+sh.opt.letter], word[2+sh.opt.letter:]
	sh.opt.letter++
	if rest == "" {
		sh.opt = getopt{arg: sh.opt.arg + 1}
	}
	at := strings.IndexByte(strings.TrimPrefix(spec, ":"), letter)
	quiet, result, argument := strings.HasPrefix(spec, ":"), string(letter), ""
	takes := at >= 0 && strings.HasPrefix(strings.TrimPrefix(spec, ":")[at+1:], ":")
	switch {
	case at < 0 || letter == ':':
		result, argument = "?", string(letter)
		if !quiet {
			argument = ""
			sh.complain(0, "getopts: unknown option -%c", letter)
		}
	case takes && rest != "":
		argument, sh.opt = rest, getopt{arg: sh.opt.arg + 1}
	case takes && sh.opt.arg < len(words):
		argument, sh.opt = words[sh.opt.arg], getopt{arg: sh.opt.arg + 1}
	case takes && quiet:
		result, argument = ":", string(letter)
	case takes:
		result = "?"
		sh.complain(0, "getopts: option -%c needs a value", letter)
	}
	sh.assign(name, result)
	if argument != "" || takes {
		sh.assign("OPTARG", argument)
	}
	sh.assign("OPTIND", strconv.Itoa(sh.opt.arg+1))
	return 0
}
