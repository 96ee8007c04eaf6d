package shell

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
	"github.com/sandbar-dev/sandbar/plugins/fake/userland"
)

// saved is a descriptor that a redirection replaced; at is where it is kept, or
// -1 if it was closed.
type saved struct{ fd, at int }

// lowestSaved is where kept descriptors begin: scripts may use those below.
const lowestSaved = 10

// redirect applies redirections until undo is called.
func (sh *shell) redirect(list []*syntax.Redirect) (undo func(), ok bool) {
	var kept []saved
	undo = func() {
		for _, s := range slices.Backward(kept) {
			if s.at < 0 {
				_ = sh.p.Close(s.fd) // the command may have closed it
				continue
			}
			_ = sh.p.Dup2(s.at, s.fd) // both are open
			_ = sh.p.Close(s.at)
		}
		kept = nil
	}
	for _, rd := range list {
		for _, fd := range targets(rd) {
			at, err := sh.p.Dup(fd, lowestSaved)
			if err != nil {
				at = -1
			}
			kept = append(kept, saved{fd, at})
		}
		if !sh.apply(rd) {
			return undo, false
		}
	}
	return undo, true
}

// forGood applies redirections that stay, and returns the code that follows.
func (sh *shell) forGood(list []*syntax.Redirect) int {
	for _, rd := range list {
		if !sh.apply(rd) {
			return 1
		}
	}
	return 0
}

// targets are the descriptors that a redirection changes.
func targets(rd *syntax.Redirect) []int {
	if rd.Op == syntax.RdrAll || rd.Op == syntax.AppAll {
		return []int{1, 2}
	}
	if rd.N != nil {
		fd, err := strconv.Atoi(rd.N.Value)
		if err != nil {
			return nil
		}
		return []int{fd}
	}
	switch rd.Op {
	case syntax.RdrIn, syntax.RdrInOut, syntax.DplIn, syntax.Hdoc, syntax.DashHdoc, syntax.WordHdoc:
		return []int{0}
	default:
		return []int{1}
	}
}

// apply applies one redirection.
func (sh *shell) apply(rd *syntax.Redirect) bool {
	fds := targets(rd)
	if len(fds) == 0 {
		sh.complain(2, "{%s}: named descriptors are not supported", rd.N.Value)
		return false
	}
	switch rd.Op {
	case syntax.Hdoc, syntax.DashHdoc:
		return sh.document(sh.body(rd), fds[0])
	case syntax.WordHdoc:
		return sh.document(sh.literal(rd.Word)+"\n", fds[0])
	case syntax.DplIn, syntax.DplOut:
		return sh.duplicate(sh.literal(rd.Word), fds[0])
	}
	flags := map[syntax.RedirOperator]int{
		syntax.RdrIn: os.O_RDONLY, syntax.RdrInOut: os.O_RDWR | os.O_CREATE,
		syntax.AppOut: os.O_WRONLY | os.O_CREATE | os.O_APPEND, syntax.AppAll: os.O_WRONLY | os.O_CREATE | os.O_APPEND,
	}
	flag, known := flags[rd.Op]
	if !known {
		flag = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	name := sh.literal(rd.Word)
	if rd.Op == syntax.RdrOut && sh.flags['C'] {
		if info, err := sh.p.Stat(name, true); err == nil && info.Kind == system.Regular {
			sh.complain(1, "cannot create %s: File exists", name)
			return false
		}
	}
	fd, err := sh.p.Open(name, flag, 0o666)
	if err != nil {
		verb := "open"
		if flag&os.O_CREATE != 0 {
			verb = "create"
		}
		sh.complain(1, "cannot %s %s: %s", verb, name, userland.Message(err))
		return false
	}
	if len(fds) == 2 {
		_ = sh.p.Dup2(fd, 2) // it is open
	}
	sh.plug(fd, fds[0])
	return true
}

// duplicate is N>&M and N<&M.
func (sh *shell) duplicate(word string, fd int) bool {
	if word == "-" {
		_ = sh.p.Close(fd) // it may be closed
		return true
	}
	from, err := strconv.Atoi(word)
	if err == nil {
		err = sh.p.Dup2(from, fd)
	} else {
		err = syscall.EBADF
	}
	if err != nil {
		sh.complain(1, "%s: %s", word, userland.Message(err))
		return false
	}
	return true
}

// inPipe is how much of a here-document is put into the pipe at once.
const inPipe = 32 << 10

// document makes fd deliver a text.
func (sh *shell) document(text string, fd int) bool {
	r, w, err := sh.p.Pipe()
	if err == nil && len(text) <= inPipe {
		_, err = system.Descriptor{P: sh.p, FD: w}.Write([]byte(text))
	} else if err == nil {
		_, err = sh.fork(func(sub *shell) int {
			_ = sub.p.Close(r) // it is open
			if _, err := (system.Descriptor{P: sub.p, FD: w}).Write([]byte(text)); err != nil {
				return 1
			}
			return 0
		})
	}
	if err != nil {
		sh.complain(1, "here-document: %s", userland.Message(err))
		return false
	}
	_ = sh.p.Close(w) // it is open
	sh.plug(r, fd)
	return true
}

// body is the text of a here-document.
func (sh *shell) body(rd *syntax.Redirect) string {
	if rd.Hdoc == nil {
		return ""
	}
	parts := rd.Hdoc.Parts
	if rd.Op == syntax.DashHdoc {
		parts = withoutTabs(parts)
	}
	if quoted(rd.Word) {
		var out strings.Builder
		for _, part := range parts {
			if lit, ok := part.(*syntax.Lit); ok {
				out.WriteString(lit.Value)
			}
		}
		return out.String()
	}
	text, err := expand.Document(sh.config, &syntax.Word{Parts: parts})
	sh.failed(err)
	return text
}

// quoted says whether a here-document's delimiter is, so that its body is taken
// as it is.
func quoted(word *syntax.Word) bool {
	return slices.ContainsFunc(word.Parts, func(part syntax.WordPart) bool {
		lit, ok := part.(*syntax.Lit)
		return !ok || strings.Contains(lit.Value, `\`)
	})
}

// withoutTabs takes the tabs at the start of each line away.
func withoutTabs(parts []syntax.WordPart) []syntax.WordPart {
	var out []syntax.WordPart
	start := true
	for _, part := range parts {
		lit, ok := part.(*syntax.Lit)
		if !ok {
			out, start = append(out, part), false
			continue
		}
		lines := strings.Split(lit.Value, "\n")
		for i := range lines {
			if i > 0 || start {
				lines[i] = strings.TrimLeft(lines[i], "\t")
			}
		}
		out = append(out, &syntax.Lit{Value: strings.Join(lines, "\n")})
		start = strings.HasSuffix(lit.Value, "\n")
	}
	return out
}
