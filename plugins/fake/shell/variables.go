package shell

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/pattern"
	"mvdan.cc/sh/v3/syntax"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// scope is the variables of the shell, or those of a function call or of one
// command on top of them.
type scope struct {
	vars     map[string]expand.Variable
	parent   *scope
	function bool
}

func (s *scope) clone() *scope {
	if s == nil {
		return nil
	}
	return &scope{vars: maps.Clone(s.vars), parent: s.parent.clone(), function: s.function}
}

// put gives a variable a value, and charges the process for what it is bigger.
func (sh *shell) put(s *scope, name string, v expand.Variable) {
	sh.charge(size(v) - size(s.vars[name]))
	s.vars[name] = v
}

// charge takes memory for variables, or gives it back, in steps: most of them are
// small.
func (sh *shell) charge(bytes int64) {
	const step = 4096
	if sh.owed += bytes; sh.owed >= step || sh.owed <= -step {
		owed := sh.owed
		sh.owed = 0
		sh.p.Alloc(owed)
	}
}

// size is about what a variable takes of memory.
func size(v expand.Variable) int64 {
	n := len(v.Str)
	for _, s := range v.List {
		n += len(s)
	}
	for key, s := range v.Map {
		n += len(key) + len(s)
	}
	return int64(n)
}

// holder returns the innermost scope that has a variable, or the outermost.
func (s *scope) holder(name string) *scope {
	for at := s; ; at = at.parent {
		if _, ok := at.vars[name]; ok || at.parent == nil {
			return at
		}
	}
}

func (sh *shell) push(function bool) {
	sh.scope = &scope{vars: map[string]expand.Variable{}, parent: sh.scope, function: function}
}

func (sh *shell) pop() {
	for _, v := range sh.scope.vars {
		sh.charge(-size(v))
	}
	sh.scope = sh.scope.parent
}

// importEnvironment makes the environment variables.
func (sh *shell) importEnvironment() {
	sh.push(false)
	for _, pair := range sh.p.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		if syntax.ValidName(name) && name != "IFS" {
			sh.put(sh.scope, name, expand.Variable{Set: true, Exported: true, Kind: expand.String, Str: value})
		}
	}
	if pwd := sh.value("PWD"); pwd == "" || !sh.sameFolder(pwd) {
		sh.assign("PWD", sh.p.Dir())
	}
	sh.assign("OPTIND", "1")
	sh.assign("IFS", " \t\n")
}

func (sh *shell) sameFolder(name string) bool {
	a, err1 := sh.p.Stat(name, true)
	b, err2 := sh.p.Stat(".", true)
	return err1 == nil && err2 == nil && a.ID == b.ID
}

// environ returns what commands inherit.
func (sh *shell) environ() []string {
	all := map[string]expand.Variable{}
	sh.Each(func(name string, v expand.Variable) bool {
		all[name] = v
		return true
	})
	var out []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if v := all[name]; v.Exported && v.IsSet() && v.Kind == expand.String {
			out = append(out, name+"="+v.Str)
		}
	}
	return out
}

func (sh *shell) value(name string) string { return sh.Get(name).String() }

// assign sets a plain variable.
func (sh *shell) assign(name, value string) bool {
	return sh.set(name, expand.Variable{Set: true, Kind: expand.String, Str: value})
}

func (sh *shell) set(name string, v expand.Variable) bool {
	if err := sh.Set(name, v); err != nil {
		sh.complain(1, "%v", err)
		return false
	}
	return true
}

// Get implements expand.Environ, for variables and special parameters.
func (sh *shell) Get(name string) expand.Variable {
	text := func(s string) expand.Variable { return expand.Variable{Set: true, Kind: expand.String, Str: s} }
	switch name {
	case "#":
		return text(strconv.Itoa(len(sh.params)))
	case "@", "*":
		return expand.Variable{Set: true, Kind: expand.Indexed, List: append([]string{}, sh.params...)}
	case "?":
		return text(strconv.Itoa(sh.last))
	case "$":
		return text(strconv.Itoa(sh.pid))
	case "!":
		if sh.background == 0 {
			return expand.Variable{}
		}
		return text(strconv.Itoa(sh.background))
	case "-":
		return text(string(slices.Sorted(sh.enabled())))
	case "0":
		return text(sh.name)
	case "PPID":
		return text(strconv.Itoa(sh.p.Parent()))
	case "RANDOM":
		if sh.lang == syntax.LangBash {
			return text(strconv.Itoa(rand.IntN(1 << 15))) //nolint:gosec // no secret
		}
	case "UID", "EUID":
		if uid, _ := sh.p.User(); sh.lang == syntax.LangBash {
			return text(strconv.FormatUint(uint64(uid), 10))
		}
	}
	if n, err := strconv.Atoi(name); err == nil {
		if n > len(sh.params) {
			return expand.Variable{}
		}
		return text(sh.params[n-1])
	}
	if user, ok := strings.CutPrefix(name, "HOME "); ok {
		// Without an answer the library would ask the machine.
		if home := map[string]string{"root": "/root", "user": "/home/user"}[user]; home != "" {
			return text(home)
		}
		return text("~" + user)
	}
	return sh.scope.holder(name).vars[name]
}

func (sh *shell) enabled() func(func(byte) bool) {
	return func(yield func(byte) bool) {
		for c, on := range sh.flags {
			if on && !yield(c) {
				return
			}
		}
	}
}

// Each implements expand.Environ.
func (sh *shell) Each(f func(name string, v expand.Variable) bool) {
	var chain []*scope
	for at := sh.scope; at != nil; at = at.parent {
		chain = append(chain, at)
	}
	for _, s := range slices.Backward(chain) {
		for name, v := range s.vars {
			if !f(name, v) {
				return
			}
		}
	}
}

// Set implements expand.WriteEnviron.
func (sh *shell) Set(name string, v expand.Variable) error {
	home := sh.scope.holder(name)
	if v.Local {
		for home = sh.scope; !home.function && home.parent != nil; {
			home = home.parent
		}
	}
	old := home.vars[name]
	if v.Kind == expand.KeepValue {
		v.Set, v.Kind, v.Str, v.List, v.Map, v.Indexes = old.Set, old.Kind, old.Str, old.List, old.Map, old.Indexes
	} else if old.ReadOnly {
		return fmt.Errorf("%s: is read only", name)
	}
	v.Exported = v.Exported || old.Exported || sh.flags['a']
	v.ReadOnly = v.ReadOnly || old.ReadOnly
	v.Local = v.Local || old.Local
	sh.put(home, name, v)
	return nil
}

// unset removes a variable.
func (sh *shell) unset(name string) error {
	home := sh.scope.holder(name)
	if home.vars[name].ReadOnly {
		return fmt.Errorf("%s: is read only", name)
	}
	sh.charge(-size(home.vars[name]))
	delete(home.vars, name)
	return nil
}

// configure binds the expansion of words to this shell.
func (sh *shell) configure() {
	sh.config = &expand.Config{
		Env: sh, CmdSubst: sh.substitute, NoUnset: sh.flags['u'], ExtGlob: sh.lang == syntax.LangBash,
		ProcSubst: func(*syntax.ProcSubst) (string, error) { return "", errNotSupported },
		ReadDir2: func(name string) ([]fs.DirEntry, error) {
			if sh.flags['f'] {
				return nil, syscall.ENOENT
			}
			entries, err := sh.p.ReadDir(name)
			out := make([]fs.DirEntry, 0, len(entries))
			for _, e := range entries {
				out = append(out, entry{e})
			}
			return out, err
		},
	}
	if sh.flags['f'] {
		sh.config.ReadDir2 = nil
	}
}

// entry is a file as package fs has it.
type entry struct{ info system.Info }

func (e entry) Name() string               { return e.info.Name }
func (e entry) IsDir() bool                { return e.info.Kind == system.Directory }
func (e entry) Info() (fs.FileInfo, error) { return e, nil }
func (e entry) Size() int64                { return e.info.Size }
func (e entry) Mode() fs.FileMode          { return e.Type() | fs.FileMode(e.info.Mode&0o777) }
func (e entry) ModTime() time.Time         { return e.info.Modified }
func (e entry) Sys() any                   { return nil }
func (e entry) Type() fs.FileMode {
	switch e.info.Kind {
	case system.Directory:
		return fs.ModeDir
	case system.Symlink:
		return fs.ModeSymlink
	case system.Device:
		return fs.ModeDevice | fs.ModeCharDevice
	case system.Regular, system.Pipe, system.Socket:
	}
	return 0
}

// failed reports an error of an expansion. It ends a shell that no person uses,
// as POSIX says.
func (sh *shell) failed(err error) {
	if err == nil {
		return
	}
	sh.complain(2, "%s", strings.TrimPrefix(err.Error(), sh.name+": "))
	if !sh.interactive {
		sh.exit(2)
	}
}

func (sh *shell) fields(words ...*syntax.Word) []string {
	out, err := expand.Fields(sh.config, words...)
	sh.failed(err)
	return out
}

func (sh *shell) literal(word *syntax.Word) string {
	if word == nil {
		return ""
	}
	out, err := expand.Literal(sh.config, word)
	sh.failed(err)
	return out
}

func (sh *shell) arithmetic(x syntax.ArithmExpr) int {
	n, err := expand.Arithm(sh.config, x)
	sh.failed(err)
	return n
}

// matches says whether a text as a whole matches the pattern in word.
func (sh *shell) matches(text string, word *syntax.Word) bool {
	pat, err := expand.Pattern(sh.config, word)
	sh.failed(err)
	mode := pattern.EntireString
	if sh.lang == syntax.LangBash {
		mode |= pattern.ExtendedOperators
	}
	return match(pat, text, mode)
}

// interrupted says that a caught signal ended a call.
func interrupted(err error) bool { return errors.Is(err, syscall.EINTR) }
