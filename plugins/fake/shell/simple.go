package shell

import (
	"io"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
	"github.com/sandbar-dev/sandbar/plugins/fake/userland"
)

// simple runs a simple command: assignments, a function, a builtin or a program.
func (sh *shell) simple(st *syntax.Stmt, call *syntax.CallExpr) int {
	sh.substituted = 0
	args := sh.fields(call.Args...)
	if len(args) == 0 {
		undo, ok := sh.redirect(st.Redirs)
		defer undo()
		for _, as := range call.Assigns {
			ok = ok && sh.assignTo(as, false)
		}
		if !ok {
			return 1
		}
		sh.show(call.Assigns, nil)
		return sh.substituted
	}
	sh.show(call.Assigns, args)
	body, isFunction := sh.functions[args[0]]
	run, isBuiltin := builtins[args[0]]
	if !isFunction && !isBuiltin {
		return sh.external(st, call, args)
	}
	if args[0] == "exec" && len(args) == 1 && !isFunction {
		return sh.forGood(st.Redirs)
	}
	undo, ok := sh.redirect(st.Redirs)
	defer undo()
	if !ok {
		return 1
	}
	sh.push(isFunction)
	defer sh.pop()
	for _, as := range call.Assigns {
		if !sh.assignTo(as, true) {
			return 1
		}
	}
	if isFunction {
		return sh.call(body, args[1:])
	}
	return run(sh, args)
}

// call runs a function.
func (sh *shell) call(body *syntax.Stmt, args []string) int {
	params, loops := sh.params, sh.loops
	sh.params, sh.loops = args, 0
	sh.calls++
	status := sh.statement(body)
	sh.calls--
	sh.params, sh.loops = params, loops
	if sh.leave.kind == "return" {
		status, sh.leave = sh.leave.count, leaving{}
	}
	return status
}

// show is set -x.
func (sh *shell) show(assigns []*syntax.Assign, args []string) {
	if !sh.flags['x'] {
		return
	}
	var words []string
	for _, as := range assigns {
		words = append(words, as.Name.Value+"="+sh.literal(as.Value))
	}
	_, _ = io.WriteString(system.Stderr(sh.p), "+ "+strings.Join(append(words, args...), " ")+"\n") // it is a remark
}

// external runs a program, in a process of its own unless the shell ends with it.
func (sh *shell) external(st *syntax.Stmt, call *syntax.CallExpr, args []string) int {
	run := func(sub *shell) int {
		if code := sub.forGood(st.Redirs); code != 0 {
			return code
		}
		sub.push(false)
		for _, as := range call.Assigns {
			if !sub.assignTo(as, true) {
				return 1
			}
		}
		return sub.launch(args)
	}
	if st == sh.final && !st.Negated && len(sh.traps) == 0 {
		return run(sh)
	}
	pid, err := sh.fork(run)
	if err != nil {
		return sh.noRoom(err)
	}
	return sh.await(pid)
}

// launch replaces the shell by a program, and returns the code of a failure.
func (sh *shell) launch(args []string) int {
	file, err := userland.Find(sh.p, args[0], sh.value("PATH"))
	if err == nil {
		err = sh.p.Exec(file, args, sh.environ())
		if isNoProgram(err) {
			err = sh.p.Exec("/bin/sh", append([]string{"sh", file}, args[1:]...), sh.environ())
		}
	}
	code := userland.NotFound(err)
	if code == 127 {
		return sh.complain(code, "%s: not found", args[0])
	}
	return sh.complain(code, "%s: %s", args[0], userland.Message(err))
}

// assignTo is one assignment; exported for one that is before a command.
func (sh *shell) assignTo(as *syntax.Assign, exported bool) bool {
	name := as.Name.Value
	v := sh.assigned(sh.Get(name), as)
	if exported {
		v.Exported = true
		if sh.scope.holder(name).vars[name].ReadOnly {
			sh.complain(1, "%s: is read only", name)
			return false
		}
		sh.put(sh.scope, name, v)
		return true
	}
	return sh.set(name, v)
}

// assigned is the variable that an assignment makes of the old one.
func (sh *shell) assigned(old expand.Variable, as *syntax.Assign) expand.Variable {
	v := expand.Variable{Set: true, Kind: expand.String, Exported: old.Exported, Local: old.Local}
	switch {
	case as.Array != nil:
		return sh.array(old, as)
	case as.Index != nil:
		return sh.element(old, as)
	case old.Kind == expand.Indexed && as.Append:
		v.Kind, v.List = expand.Indexed, slices.Clone(old.List)
		v.List[0] += sh.literal(as.Value)
	case as.Append:
		v.Str = old.String() + sh.literal(as.Value)
	default:
		v.Str = sh.literal(as.Value)
	}
	return v
}
