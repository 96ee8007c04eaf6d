package shell

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
	"github.com/sandbar-dev/sandbar/plugins/fake/userland"
)

// Posix is /bin/sh.
func Posix(p system.Process, argv []string) int { return start(p, argv, syntax.LangPOSIX) }

// Bash is /bin/bash.
func Bash(p system.Process, argv []string) int { return start(p, argv, syntax.LangBash) }

// shell is one shell process.
type shell struct {
	p    system.Process
	lang syntax.LangVariant
	// name is $0, pid is $$.
	name        string
	pid         int
	interactive bool
	flags       map[byte]bool
	pipefail    bool
	params      []string
	scope       *scope
	// owed is how much the variables grew since the process was charged for them.
	owed      int64
	functions map[string]*syntax.Stmt
	config    *expand.Config

	// last is $?, substituted the status of the last command substitution.
	last, substituted int
	// background is $!; jobs are the background processes not waited for.
	background int
	jobs       []int
	traps      map[string]string
	// trapping is set while a trap runs, exiting once exit began.
	trapping, exiting bool
	// tested counts the conditions around a command, where set -e does not apply.
	tested int
	// loops and calls count what break and return can leave; leave is what does.
	loops, calls int
	leave        leaving
	// final is a statement after which the shell ends: a program may replace it.
	final *syntax.Stmt
	opt   getopt
}

// leaving is a break, continue or return on its way.
type leaving struct {
	kind  string
	count int
}

// start runs a shell as it was called.
func start(p system.Process, argv []string, lang syntax.LangVariant) int {
	sh := &shell{
		p: p, lang: lang, name: argv[0], pid: p.PID(), flags: map[byte]bool{}, functions: map[string]*syntax.Stmt{}, traps: map[string]string{},
	}
	sh.importEnvironment()
	sh.configure()
	command, rest, code := sh.options(argv[1:])
	if code != 0 {
		return code
	}
	switch {
	case command != nil:
		if len(rest) > 0 {
			sh.name, sh.params = rest[0], rest[1:]
		}
		sh.script(strings.NewReader(*command), true)
	case len(rest) > 0 && !sh.flags['s']:
		text, err := system.ReadFile(p, rest[0])
		if err != nil {
			return sh.complain(127, "%s: %s", rest[0], userland.Message(err))
		}
		sh.name, sh.params = rest[0], rest[1:]
		sh.script(bytes.NewReader(text), true)
	default:
		sh.params = rest
		sh.interactive = sh.flags['i'] || (p.Terminal(0) != nil && p.Terminal(2) != nil)
		sh.converse()
	}
	sh.exit(sh.last)
	return sh.last
}

// options reads the shell's own options; command is that of -c.
func (sh *shell) options(args []string) (command *string, rest []string, code int) {
	wantsCommand := false
	for len(args) > 0 && len(args[0]) > 1 && (args[0][0] == '-' || args[0][0] == '+') {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			break
		}
		if strings.HasPrefix(arg, "--") {
			if arg == "--norc" || arg == "--noprofile" || arg == "--login" || arg == "--posix" {
				continue // there are no such files, and all of POSIX holds anyway
			}
			return nil, nil, sh.complain(2, "unsupported option %s", arg)
		}
		for _, c := range []byte(arg[1:]) {
			switch {
			case c == 'c':
				wantsCommand = true
			case c == 'o' && len(args) > 0:
				if !sh.option(args[0], arg[0] == '-') {
					return nil, nil, sh.complain(2, "unsupported option -o %s", args[0])
				}
				args = args[1:]
			case strings.IndexByte("aefnuxCsil", c) >= 0:
				sh.flags[c] = arg[0] == '-'
			default:
				return nil, nil, sh.complain(2, "unsupported option -%c", c)
			}
		}
	}
	if !wantsCommand {
		return nil, args, 0
	}
	if len(args) == 0 {
		return nil, nil, sh.complain(2, "-c needs a command")
	}
	return &args[0], args[1:], 0
}

// complain writes a line to standard error and returns code.
func (sh *shell) complain(code int, format string, args ...any) int {
	_, _ = fmt.Fprintf(system.Stderr(sh.p), "%s: %s\n", sh.name, fmt.Sprintf(format, args...)) // the code says it too
	return code
}

// script parses and runs a whole text. last says that the shell ends with it.
func (sh *shell) script(r io.Reader, last bool) int {
	file, err := syntax.NewParser(syntax.Variant(sh.lang)).Parse(r, "")
	if err != nil {
		sh.last = sh.complain(2, "syntax error: %v", err)
		if last {
			sh.exit(2)
		}
		return sh.last
	}
	if n := len(file.Stmts); last && n > 0 {
		sh.final = file.Stmts[n-1]
	}
	return sh.statements(file.Stmts)
}

// converse reads commands from standard input, a line at a time, so that a
// command can read the lines after its own.
func (sh *shell) converse() {
	if sh.interactive {
		sh.p.Handle(system.SIGINT, system.Catch)
		sh.p.Handle(system.SIGTERM, system.Ignore)
	}
	parser := syntax.NewParser(syntax.Variant(sh.lang))
	lines := &lineReader{sh: sh}
	for {
		for stmts, err := range parser.InteractiveSeq(lines) {
			if err != nil {
				sh.last = sh.complain(2, "syntax error: %v", err)
				break
			}
			if parser.Incomplete() {
				lines.more = true
				continue
			}
			lines.more = false
			sh.statements(stmts)
		}
		if lines.ended || !sh.interactive {
			return
		}
	}
}

// lineReader is standard input by line, with prompts.
type lineReader struct {
	sh    *shell
	rest  []byte
	more  bool
	ended bool
}

// Read implements io.Reader.
func (l *lineReader) Read(b []byte) (int, error) {
	if len(l.rest) == 0 {
		l.prompt()
		line, err := l.sh.readLine(0, '\n', 0)
		if l.rest = line; err == nil {
			l.rest = append(l.rest, '\n')
		}
		if len(l.rest) == 0 {
			l.ended = true
			return 0, io.EOF
		}
	}
	n := copy(b, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func (l *lineReader) prompt() {
	if !l.sh.interactive {
		return
	}
	text := "$ "
	if uid, _ := l.sh.p.User(); uid == 0 {
		text = "# "
	}
	if ps1 := l.sh.value("PS1"); ps1 != "" {
		text = ps1
	}
	if l.more {
		text = "> "
	}
	_, _ = io.WriteString(system.Stderr(l.sh.p), text) // who cannot see it needs none
}

// readLine reads bytes up to delim, one by one as others may read on. limit, if
// not 0, is how many at most. Traps run while it waits. io.EOF: the input ended
// before delim.
func (sh *shell) readLine(fd int, delim byte, limit int) ([]byte, error) {
	var line []byte
	one := make([]byte, 1)
	for {
		n, err := sh.p.Read(fd, one)
		switch {
		case n > 0 && one[0] == delim:
			return line, nil
		case n > 0:
			if line = append(line, one[0]); len(line) == limit {
				return line, nil
			}
		case interrupted(err):
			if sh.signals() && sh.interactive {
				return nil, nil
			}
		case err != nil:
			return line, err
		}
	}
}

// exit ends the shell, after its trap.
func (sh *shell) exit(code int) {
	if action, set := sh.traps["EXIT"]; set && !sh.exiting {
		sh.exiting = true
		sh.last = code
		sh.leave, sh.tested = leaving{}, 1
		sh.eval(action)
	}
	sh.p.Exit(code)
}

// eval runs a text in this shell.
func (sh *shell) eval(text string) int { return sh.script(strings.NewReader(text), false) }

// fork starts a copy of the shell that runs f and ends with what it returns.
func (sh *shell) fork(f func(*shell) int) (int, error) {
	sub := *sh
	sub.scope, sub.owed = sh.scope.clone(), 0
	sub.functions = maps.Clone(sh.functions)
	sub.params = slices.Clone(sh.params)
	sub.flags = maps.Clone(sh.flags)
	sub.jobs, sub.interactive, sub.final, sub.trapping = nil, false, nil, false
	sub.traps = map[string]string{}
	for name, action := range sh.traps {
		if action == "" {
			sub.traps[name] = action
		}
	}
	return sh.p.Fork(func(p system.Process) int {
		sub.p = p
		sub.configure()
		code := f(&sub)
		sub.exit(code)
		return code
	})
}

// noRoom complains about a fork that failed.
func (sh *shell) noRoom(err error) int { return sh.complain(254, "fork: %s", userland.Message(err)) }

// await waits for a child in the foreground.
func (sh *shell) await(pid int) int {
	for {
		status, err := sh.p.Wait(pid)
		if interrupted(err) {
			continue // the trap runs after the command
		}
		if err != nil {
			return 127
		}
		if s := status.Signal; s != 0 && s != system.SIGINT && s != system.SIGPIPE {
			words := map[system.Signal]string{system.SIGKILL: "Killed", system.SIGTERM: "Terminated", system.SIGHUP: "Hangup"}
			text := words[s]
			if text == "" {
				text = s.String()
			}
			_, _ = io.WriteString(system.Stderr(sh.p), text+"\n") // the code says it too
		}
		return status.ExitCode()
	}
}

// capture runs f in a subshell and writes what that writes to w.
func (sh *shell) capture(w io.Writer, f func(*shell) int) error {
	r, out, err := sh.p.Pipe()
	if err != nil {
		return err
	}
	pid, err := sh.fork(func(sub *shell) int {
		sub.plug(out, 1)
		if r != 1 {
			_ = sub.p.Close(r) // it is open
		}
		return f(sub)
	})
	_ = sh.p.Close(out) // it is open
	if err != nil {
		_ = sh.p.Close(r) // it is open
		sh.substituted = sh.noRoom(err)
		return nil
	}
	text, err := system.ReadAll(sh.p, system.Descriptor{P: sh.p, FD: r})
	defer sh.p.Alloc(-int64(cap(text))) // what is kept of it is a variable's
	_ = sh.p.Close(r)                   // it is open
	if err != nil {
		return err
	}
	sh.substituted = sh.await(pid)
	_, err = w.Write(bytes.ReplaceAll(text, []byte{0}, nil))
	return err
}

// substitute is $(…).
func (sh *shell) substitute(w io.Writer, cs *syntax.CmdSubst) error {
	if name := onlyInput(cs.Stmts); name != nil {
		file := sh.literal(name)
		text, err := system.ReadFile(sh.p, file)
		defer sh.p.Alloc(-int64(cap(text))) // as below
		if err != nil {
			sh.substituted = sh.complain(1, "%s: %s", file, userland.Message(err))
			return nil
		}
		_, err = w.Write(text)
		return err
	}
	if len(cs.Stmts) == 0 {
		sh.substituted = 0
		return nil
	}
	return sh.capture(w, func(sub *shell) int {
		sub.final = cs.Stmts[len(cs.Stmts)-1]
		return sub.statements(cs.Stmts)
	})
}

// onlyInput returns the word of $(<word).
func onlyInput(stmts []*syntax.Stmt) *syntax.Word {
	if len(stmts) != 1 || stmts[0].Cmd != nil || len(stmts[0].Redirs) != 1 || stmts[0].Redirs[0].Op != syntax.RdrIn {
		return nil
	}
	return stmts[0].Redirs[0].Word
}

var errNotSupported = errors.New("process substitution is not supported")

// readable opens a file for the builtins that read scripts.
func (sh *shell) readable(name string) ([]byte, error) {
	if !strings.Contains(name, "/") {
		for dir := range strings.SplitSeq(sh.value("PATH"), ":") {
			if info, err := sh.p.Stat(dir+"/"+name, true); err == nil && info.Kind == system.Regular {
				name = dir + "/" + name
				break
			}
		}
	}
	if info, err := sh.p.Stat(name, true); err == nil && info.Kind == system.Directory {
		return nil, &os.PathError{Op: "open", Path: name, Err: errors.New("is a directory")}
	}
	return system.ReadFile(sh.p, name)
}
