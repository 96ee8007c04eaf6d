package shell

import (
	"io"
	"slices"

	"mvdan.cc/sh/v3/syntax"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
	"github.com/sandbar-dev/sandbar/plugins/fake/userland"
)

// statements runs a list and returns the status of its last one.
func (sh *shell) statements(list []*syntax.Stmt) int {
	status := 0
	for _, st := range list {
		status = sh.statement(st)
		if sh.leave.kind != "" {
			break
		}
	}
	return status
}

// condition runs a list whose failure is an answer.
func (sh *shell) condition(list []*syntax.Stmt) bool {
	sh.tested++
	status := sh.statements(list)
	sh.tested--
	return status == 0
}

// statement runs one statement, and the traps of signals that came.
func (sh *shell) statement(st *syntax.Stmt) int {
	sh.p.Checkpoint()
	sh.signals()
	if sh.flags['n'] {
		return 0
	}
	if st.Background {
		sh.last = sh.inBackground(st)
		return sh.last
	}
	if st.Negated {
		sh.tested++
	}
	status := sh.command(st)
	if st.Negated {
		sh.tested--
		status = map[bool]int{true: 1, false: 0}[status == 0]
	}
	sh.last = status
	sh.signals()
	if status != 0 && !st.Negated && sh.tested == 0 && !isList(st.Cmd) && sh.leave.kind == "" {
		if action := sh.traps["ERR"]; action != "" && !sh.trapping {
			sh.trap(action)
		}
		if sh.flags['e'] {
			sh.exit(status)
		}
	}
	return status
}

// isList says whether cmd is && or ||, whose parts apply set -e themselves.
func isList(cmd syntax.Command) bool {
	b, ok := cmd.(*syntax.BinaryCmd)
	return ok && (b.Op == syntax.AndStmt || b.Op == syntax.OrStmt)
}

// command runs a command with its redirections.
func (sh *shell) command(st *syntax.Stmt) int {
	if call, ok := st.Cmd.(*syntax.CallExpr); ok {
		return sh.simple(st, call)
	}
	undo, ok := sh.redirect(st.Redirs)
	defer undo()
	if !ok {
		return 1
	}
	switch cmd := st.Cmd.(type) {
	case nil:
		return 0
	case *syntax.Block:
		return sh.statements(cmd.Stmts)
	case *syntax.Subshell:
		pid, err := sh.fork(func(sub *shell) int {
			sub.final = cmd.Stmts[len(cmd.Stmts)-1]
			return sub.statements(cmd.Stmts)
		})
		if err != nil {
			return sh.noRoom(err)
		}
		return sh.await(pid)
	case *syntax.BinaryCmd:
		return sh.binary(cmd)
	case *syntax.IfClause:
		return sh.choose(cmd)
	case *syntax.WhileClause:
		return sh.while(cmd)
	case *syntax.ForClause:
		return sh.each(cmd)
	case *syntax.CaseClause:
		return sh.cases(cmd)
	case *syntax.FuncDecl:
		sh.functions[cmd.Name.Value] = cmd.Body
		return 0
	default:
		return sh.bashCommand(cmd)
	}
}

func (sh *shell) bashCommand(cmd syntax.Command) int {
	truth := func(v bool) int { return map[bool]int{true: 0, false: 1}[v] }
	switch cmd := cmd.(type) {
	case *syntax.ArithmCmd:
		return truth(sh.arithmetic(cmd.X) != 0)
	case *syntax.LetClause:
		n := 0
		for _, x := range cmd.Exprs {
			n = sh.arithmetic(x)
		}
		return truth(n != 0)
	case *syntax.TestClause:
		return truth(sh.test(cmd.X))
	case *syntax.DeclClause:
		return sh.declare(cmd)
	case *syntax.TimeClause:
		start := sh.p.Now()
		status := 0
		if cmd.Stmt != nil {
			status = sh.statement(cmd.Stmt)
		}
		took := sh.p.Now().Sub(start).Seconds()
		_, _ = io.WriteString(system.Stderr(sh.p), "real "+formatSeconds(took)+"\nuser 0.00\nsys 0.00\n") // it is a remark
		return status
	}
	return sh.complain(2, "this kind of command is not supported")
}

func (sh *shell) binary(cmd *syntax.BinaryCmd) int {
	if cmd.Op == syntax.Pipe || cmd.Op == syntax.PipeAll {
		return sh.pipeline(cmd)
	}
	sh.tested++
	status := sh.statement(cmd.X)
	sh.tested--
	if sh.leave.kind != "" || (status == 0) != (cmd.Op == syntax.AndStmt) {
		return status
	}
	return sh.statement(cmd.Y)
}

// stage is a part of a pipeline.
type stage struct {
	st *syntax.Stmt
	// both says that standard error goes on, too.
	both bool
}

func stages(st *syntax.Stmt, both bool) []stage {
	b, ok := st.Cmd.(*syntax.BinaryCmd)
	if !ok || (b.Op != syntax.Pipe && b.Op != syntax.PipeAll) || len(st.Redirs) > 0 || st.Negated {
		return []stage{{st, both}}
	}
	return append(stages(b.X, b.Op == syntax.PipeAll), stages(b.Y, both)...)
}

// pipeline runs every part in a process of its own.
func (sh *shell) pipeline(cmd *syntax.BinaryCmd) int {
	parts := stages(&syntax.Stmt{Cmd: cmd}, false)
	pids := make([]int, 0, len(parts))
	status, in := 0, -1
	for i, part := range parts {
		r, w := -1, -1
		if i < len(parts)-1 {
			var err error
			if r, w, err = sh.p.Pipe(); err != nil {
				status = sh.complain(1, "pipe: %s", userland.Message(err))
				break
			}
		}
		input := in
		pid, err := sh.fork(func(sub *shell) int {
			sub.plug(input, 0)
			sub.plug(w, 1)
			if part.both {
				_ = sub.p.Dup2(1, 2) // it is open
			}
			if r >= 0 {
				_ = sub.p.Close(r) // it is open
			}
			sub.final = part.st
			return sub.statement(part.st)
		})
		for _, fd := range []int{in, w} {
			if fd >= 0 {
				_ = sh.p.Close(fd) // it is open
			}
		}
		in = r
		if err != nil {
			status = sh.noRoom(err)
			break
		}
		pids = append(pids, pid)
	}
	if in >= 0 {
		_ = sh.p.Close(in) // a pipeline that was cut
	}
	for i, pid := range pids {
		code := sh.await(pid)
		if i == len(parts)-1 && (code != 0 || !sh.pipefail) || (sh.pipefail && code != 0) {
			status = code
		}
	}
	return status
}

// plug moves a descriptor to a standard one.
func (sh *shell) plug(fd, to int) {
	if fd < 0 || fd == to {
		return
	}
	_ = sh.p.Dup2(fd, to) // it is open
	_ = sh.p.Close(fd)
}

func (sh *shell) inBackground(st *syntax.Stmt) int {
	front := *st
	front.Background = false
	alone := !sh.interactive
	pid, err := sh.fork(func(sub *shell) int {
		if alone {
			sub.p.Handle(system.SIGINT, system.Ignore)
			sub.p.Handle(system.SIGQUIT, system.Ignore)
			if fd, err := sub.p.Open("/dev/null", 0, 0); err == nil {
				sub.plug(fd, 0)
			}
		}
		sub.final = &front
		return sub.statement(&front)
	})
	if err != nil {
		return sh.noRoom(err)
	}
	sh.background = pid
	sh.jobs = append(sh.jobs, pid)
	return 0
}

func (sh *shell) choose(cmd *syntax.IfClause) int {
	for ; cmd != nil; cmd = cmd.Else {
		// An else is a clause without a condition.
		if len(cmd.Cond) == 0 || sh.condition(cmd.Cond) {
			return sh.statements(cmd.Then)
		}
		if sh.leave.kind != "" {
			return sh.last
		}
	}
	return 0
}

// again runs the body of a loop; false: the loop is left.
func (sh *shell) again(body []*syntax.Stmt, status *int) bool {
	*status = sh.statements(body)
	return sh.stay()
}

// stay says whether a loop goes on after what ran in it.
func (sh *shell) stay() bool {
	switch sh.leave.kind {
	case "":
		return true
	case "return":
		return false
	}
	if sh.leave.count--; sh.leave.count > 0 {
		return false // an outer loop is meant
	}
	next := sh.leave.kind == "continue"
	sh.leave = leaving{}
	return next
}

func (sh *shell) while(cmd *syntax.WhileClause) int {
	sh.loops++
	defer func() { sh.loops-- }()
	status := 0
	for {
		sh.p.Checkpoint()
		holds := sh.condition(cmd.Cond)
		if sh.leave.kind != "" {
			if sh.stay() {
				continue
			}
			break
		}
		if holds == cmd.Until || !sh.again(cmd.Do, &status) {
			break
		}
	}
	return status
}

func (sh *shell) each(cmd *syntax.ForClause) int {
	sh.loops++
	defer func() { sh.loops-- }()
	status := 0
	if cmd.Select {
		return sh.complain(2, "select is not supported")
	}
	switch loop := cmd.Loop.(type) {
	case *syntax.WordIter:
		items := sh.params
		if loop.InPos.IsValid() {
			items = sh.fields(loop.Items...)
		}
		for _, item := range slices.Clone(items) {
			if !sh.assign(loop.Name.Value, item) {
				return 1
			}
			if !sh.again(cmd.Do, &status) {
				break
			}
		}
	case *syntax.CStyleLoop:
		if loop.Init != nil {
			sh.arithmetic(loop.Init)
		}
		for loop.Cond == nil || sh.arithmetic(loop.Cond) != 0 {
			sh.p.Checkpoint()
			if !sh.again(cmd.Do, &status) {
				break
			}
			if loop.Post != nil {
				sh.arithmetic(loop.Post)
			}
		}
	}
	return status
}

func (sh *shell) cases(cmd *syntax.CaseClause) int {
	text := sh.literal(cmd.Word)
	status, through := 0, false
	for _, item := range cmd.Items {
		if !through && !slices.ContainsFunc(item.Patterns, func(w *syntax.Word) bool { return sh.matches(text, w) }) {
			continue
		}
		status = sh.statements(item.Stmts)
		through = item.Op == syntax.Fallthrough
		if !through && item.Op != syntax.Resume {
			break
		}
	}
	return status
}
