package shell

import (
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
	"github.com/sandbar-dev/sandbar/plugins/fake/userland"
)

// builtin is a command that the shell runs itself.
type builtin func(sh *shell, args []string) int

// builtins are all there are. Their options:
//
//	cd        -L -P -, DIR
//	command   -v -V
//	exec      COMMAND, or redirections alone
//	read      -r -s -p PROMPT -n N -d DELIM -u FD -a ARRAY
//	set       -aefnuxC, -o NAME, --
//	trap      ACTION SIGNAL…, -, -p
//	type      NAME…
//	umask     MODE in octal
//	unset     -f -v
//	wait      PID…, %JOB
var builtins map[string]builtin

func init() { //nolint:gochecknoinits // builtins refer to the table themselves
	builtins = map[string]builtin{
		":": func(*shell, []string) int { return 0 }, ".": source, "break": leaveLoop, "cd": cd, "command": command,
		"continue": leaveLoop, "eval": func(sh *shell, args []string) int { return sh.eval(strings.Join(args[1:], " ")) },
		"exec": execBuiltin, "exit": exitBuiltin, "export": declareBuiltin, "getopts": getopts, "hash": func(*shell, []string) int { return 0 },
		"jobs": jobs, "local": declareBuiltin, "read": read, "readonly": declareBuiltin, "return": returnBuiltin, "set": set,
		"shift": shift, "source": source, "trap": trapBuiltin, "type": typeBuiltin, "umask": umask, "unset": unset, "wait": waitBuiltin,
		"kill": kill, "pwd": pwd,
	}
	for _, name := range []string{"echo", "printf", "test", "[", "true", "false"} {
		run := userland.Programs[name]
		builtins[name] = func(sh *shell, args []string) int { return run(sh.p, args) }
	}
	for _, name := range []string{"alias", "bg", "coproc", "fc", "fg", "shopt", "ulimit", "unalias"} {
		builtins[name] = func(sh *shell, args []string) int { return sh.complain(2, "%s: is not supported here", args[0]) }
	}
}

// print writes to standard output.
func (sh *shell) print(text string) int {
	if _, err := io.WriteString(system.Stdout(sh.p), text); err != nil {
		return sh.complain(1, "write error: %s", userland.Message(err))
	}
	return 0
}

func isNoProgram(err error) bool { return errors.Is(err, syscall.ENOEXEC) }

func formatSeconds(s float64) string { return strconv.FormatFloat(s, 'f', 2, 64) }

// number reads the optional number of exit and its like.
func (sh *shell) number(args []string, otherwise int) (int, bool) {
	if len(args) < 2 {
		return otherwise, true
	}
	n, err := strconv.Atoi(args[1])
	if err != nil || n < 0 {
		sh.complain(2, "%s: %s: want a number", args[0], args[1])
		return 2, false
	}
	return n, true
}

func exitBuiltin(sh *shell, args []string) int {
	code, _ := sh.number(args, sh.last)
	sh.exit(code & 0xff)
	return code
}

func returnBuiltin(sh *shell, args []string) int {
	code, _ := sh.number(args, sh.last)
	if sh.calls == 0 {
		return sh.complain(2, "return: only in a function or a sourced file")
	}
	sh.leave = leaving{"return", code & 0xff}
	return code & 0xff
}

func leaveLoop(sh *shell, args []string) int {
	n, ok := sh.number(args, 1)
	if !ok || sh.loops == 0 {
		return 0
	}
	sh.leave = leaving{args[0], min(max(n, 1), sh.loops)}
	return 0
}

func shift(sh *shell, args []string) int {
	n, ok := sh.number(args, 1)
	if !ok {
		return 2
	}
	if n > len(sh.params) {
		return sh.complain(1, "shift: there are %d parameters", len(sh.params))
	}
	sh.params = sh.params[n:]
	return 0
}

func declareBuiltin(sh *shell, args []string) int {
	d := newDeclaration(args[0])
	// The command's own scope ends with it: what it declares is outside.
	own := sh.scope
	sh.scope = own.parent
	defer func() { sh.scope = own }()
	status := 0
	for _, word := range args[1:] {
		if code := sh.declareWord(d, word); code != 0 {
			status = code
		}
	}
	if len(args) > 1 && !d.print {
		return status
	}
	var out strings.Builder
	all := map[string]expand.Variable{}
	sh.Each(func(name string, v expand.Variable) bool {
		all[name] = v
		return true
	})
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if v := all[name]; v.IsSet() && ((args[0] == "export" && v.Exported) || (args[0] == "readonly" && v.ReadOnly)) {
			out.WriteString(args[0] + " " + name + "=" + quote(v.String()) + "\n")
		}
	}
	return max(status, sh.print(out.String()))
}

func unset(sh *shell, args []string) int {
	status, functions, variables := 0, true, true
	for _, name := range args[1:] {
		switch {
		case name == "-f":
			variables = false
		case name == "-v":
			functions = false
		case variables && sh.Get(name).Declared():
			if err := sh.unset(name); err != nil {
				status = sh.complain(2, "unset: %v", err)
			}
		case functions:
			delete(sh.functions, name)
		}
	}
	return status
}

func source(sh *shell, args []string) int {
	if len(args) < 2 {
		return sh.complain(2, "%s: want a file", args[0])
	}
	text, err := sh.readable(args[1])
	if err != nil {
		code := sh.complain(2, "%s: %s: %s", args[0], args[1], userland.Message(err))
		if !sh.interactive && args[0] == "." {
			sh.exit(code)
		}
		return code
	}
	params := sh.params
	if len(args) > 2 {
		sh.params = args[2:]
		defer func() { sh.params = params }()
	}
	sh.calls++
	status := sh.eval(string(text))
	sh.calls--
	if sh.leave.kind == "return" {
		status, sh.leave = sh.leave.count, leaving{}
	}
	return status
}

func execBuiltin(sh *shell, args []string) int {
	if len(args) == 1 {
		return 0
	}
	code := sh.launch(args[1:])
	if !sh.interactive {
		sh.exit(code)
	}
	return code
}

// lookup says what a command's name means.
func (sh *shell) lookup(name string) (kind, file string) {
	if sh.functions[name] != nil {
		return "function", name
	}
	if builtins[name] != nil {
		return "shell builtin", name
	}
	if syntax.IsKeyword(name) {
		return "shell keyword", name
	}
	file, err := userland.Find(sh.p, name, sh.value("PATH"))
	if err != nil || sh.p.Access(file, 1) != nil {
		return "", ""
	}
	return "file", file
}

func command(sh *shell, args []string) int {
	if len(args) > 1 && (args[1] == "-v" || args[1] == "-V") {
		status := 0
		for _, name := range args[2:] {
			kind, file := sh.lookup(name)
			switch {
			case kind == "":
				status = 127
				if args[1] == "-V" {
					sh.complain(127, "%s: not found", name)
				}
			case args[1] == "-v":
				sh.print(file + "\n")
			default:
				sh.describe(name, kind, file)
			}
		}
		return status
	}
	if len(args) > 1 && len(args[1]) > 1 && args[1][0] == '-' {
		return sh.complain(2, "command: unsupported option %s", args[1])
	}
	if len(args) == 1 {
		return 0
	}
	if run := builtins[args[1]]; run != nil {
		return run(sh, args[1:])
	}
	pid, err := sh.fork(func(sub *shell) int { return sub.launch(args[1:]) })
	if err != nil {
		return sh.noRoom(err)
	}
	return sh.await(pid)
}

func (sh *shell) describe(name, kind, file string) {
	if kind == "file" {
		sh.print(name + " is " + file + "\n")
		return
	}
	sh.print(name + " is a " + kind + "\n")
}

func typeBuiltin(sh *shell, args []string) int {
	status := 0
	for _, name := range args[1:] {
		if strings.HasPrefix(name, "-") {
			return sh.complain(2, "type: unsupported option %s", name)
		}
		kind, file := sh.lookup(name)
		if kind == "" {
			status = sh.complain(127, "%s: not found", name)
			continue
		}
		sh.describe(name, kind, file)
	}
	return status
}

func umask(sh *shell, args []string) int {
	if len(args) == 1 {
		old := sh.p.Umask(0)
		sh.p.Umask(old)
		return sh.print("0" + strconv.FormatUint(uint64(old), 8) + "\n")
	}
	mask, err := strconv.ParseUint(args[1], 8, 9)
	if err != nil {
		return sh.complain(2, "umask: %s: want octal digits", args[1])
	}
	sh.p.Umask(uint32(mask))
	return 0
}

func jobs(sh *shell, args []string) int {
	if len(args) > 1 && args[1] != "-p" {
		return sh.complain(2, "jobs: unsupported option %s", args[1])
	}
	for i, pid := range sh.jobs {
		if len(args) > 1 {
			sh.print(strconv.Itoa(pid) + "\n")
			continue
		}
		state := "Running"
		if sh.p.Kill(pid, 0) != nil {
			state = "Done"
		}
		sh.print("[" + strconv.Itoa(i+1) + "] " + state + " " + strconv.Itoa(pid) + "\n")
	}
	return 0
}

// kill knows jobs, beside what the utility does.
func kill(sh *shell, args []string) int {
	args = slices.Clone(args)
	for i, arg := range args {
		if i > 0 && strings.HasPrefix(arg, "%") {
			pid, ok := sh.job(arg)
			if !ok {
				return sh.complain(1, "kill: %s: no such job", arg)
			}
			args[i] = strconv.Itoa(pid)
		}
	}
	status := userland.Programs["kill"](sh.p, args)
	sh.signals()
	return status
}

// pwd prints the folder by the name that led to it, or without links.
func pwd(sh *shell, args []string) int {
	switch {
	case len(args) == 1 || args[1] == "-L":
		return sh.print(sh.value("PWD") + "\n")
	case args[1] == "-P":
		return sh.print(sh.p.Dir() + "\n")
	}
	return sh.complain(2, "pwd: unsupported option %s", args[1])
}
