package shell

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/sandbar-dev/sandbar/plugins/fake/userland"
)

// array is name=(…) and name+=(…).
func (sh *shell) array(old expand.Variable, as *syntax.Assign) expand.Variable {
	v := expand.Variable{Set: true, Kind: expand.Indexed, Exported: old.Exported, Local: old.Local}
	if old.Kind == expand.Associative {
		v.Kind, v.Map = expand.Associative, map[string]string{}
		if as.Append {
			v.Map = maps.Clone(old.Map)
		}
		for _, e := range as.Array.Elems {
			v.Map[sh.key(e.Index)] = sh.literal(e.Value)
		}
		return v
	}
	if as.Append {
		v.List = slices.Clone(old.List)
		if old.Kind == expand.String && old.Set {
			v.List = []string{old.Str}
		}
	}
	for _, e := range as.Array.Elems {
		if e.Index == nil {
			v.List = append(v.List, sh.fields(e.Value)...)
			continue
		}
		v.List = put(v.List, sh.arithmetic(e.Index), sh.literal(e.Value))
	}
	return v
}

// element is name[index]=value.
func (sh *shell) element(old expand.Variable, as *syntax.Assign) expand.Variable {
	value := sh.literal(as.Value)
	if old.Kind == expand.Associative {
		v := old
		v.Set, v.Map = true, maps.Clone(old.Map)
		if v.Map == nil {
			v.Map = map[string]string{}
		}
		key := sh.key(as.Index)
		if as.Append {
			value = v.Map[key] + value
		}
		v.Map[key] = value
		return v
	}
	v := expand.Variable{Set: true, Kind: expand.Indexed, Exported: old.Exported, Local: old.Local, List: slices.Clone(old.List)}
	if old.Kind == expand.String && old.Set {
		v.List = []string{old.Str}
	}
	at := sh.arithmetic(as.Index)
	if at < 0 {
		at += len(v.List)
	}
	if as.Append && at < len(v.List) {
		value = v.List[at] + value
	}
	v.List = put(v.List, at, value)
	return v
}

// maxElements bounds an array, whose elements are all kept.
const maxElements = 1 << 20

func put(list []string, at int, value string) []string {
	if at < 0 || at > maxElements {
		return list
	}
	for len(list) <= at {
		list = append(list, "")
	}
	list[at] = value
	return list
}

// key is an index of an associative array.
func (sh *shell) key(index syntax.ArithmExpr) string {
	if word, ok := index.(*syntax.Word); ok {
		return sh.literal(word)
	}
	return strconv.Itoa(sh.arithmetic(index))
}

// declare is export, readonly, local, declare and typeset.
func (sh *shell) declare(cmd *syntax.DeclClause) int {
	d := newDeclaration(cmd.Variant.Value)
	status := 0
	for _, as := range cmd.Args {
		if as.Name != nil {
			status = max(status, sh.declareOne(d, as))
			continue
		}
		for _, word := range sh.fields(as.Value) {
			if code := sh.declareWord(d, word); code != 0 {
				status = code
			}
		}
	}
	return status
}

// declaration is what export and its like give to variables.
type declaration struct {
	name                             string
	exported, readOnly, local, print bool
	kind                             expand.ValueKind
}

func newDeclaration(name string) *declaration {
	return &declaration{
		name: name, exported: name == "export", readOnly: name == "readonly",
		local: name == "local" || name == "declare" || name == "typeset", kind: expand.String,
	}
}

// declareWord takes an option, a name, or name=value.
func (sh *shell) declareWord(d *declaration, word string) int {
	if len(word) > 1 && word[0] == '-' {
		for _, c := range word[1:] {
			switch c {
			case 'x':
				d.exported = true
			case 'r':
				d.readOnly = true
			case 'a':
				d.kind = expand.Indexed
			case 'A':
				d.kind = expand.Associative
			case 'g':
				d.local = false
			case 'p':
				d.print = true
			default:
				return sh.complain(2, "%s: unsupported option -%c", d.name, c)
			}
		}
		return 0
	}
	name, value, given := strings.Cut(word, "=")
	if !syntax.ValidName(name) {
		return sh.complain(2, "%s: %s: not a name", d.name, name)
	}
	as := &syntax.Assign{Naked: !given, Name: &syntax.Lit{Value: name}}
	if given {
		as.Value = &syntax.Word{Parts: []syntax.WordPart{&syntax.SglQuoted{Value: value}}}
	}
	return sh.declareOne(d, as)
}

func (sh *shell) declareOne(d *declaration, as *syntax.Assign) int {
	name := as.Name.Value
	local := d.local && sh.calls > 0
	if d.name == "local" && sh.calls == 0 {
		return sh.complain(2, "local: only in a function")
	}
	v := expand.Variable{Kind: expand.KeepValue}
	if !as.Naked {
		old := sh.Get(name)
		if d.kind == expand.Associative {
			old.Kind = d.kind
		}
		v = sh.assigned(old, as)
	} else if local || d.kind != expand.String {
		v = expand.Variable{Kind: d.kind}
		if local && d.kind == expand.String {
			v.Kind = expand.Unknown
		}
	}
	v.Exported, v.ReadOnly, v.Local = d.exported, d.readOnly, local
	if !sh.set(name, v) {
		return 1
	}
	return 0
}

// test is [[ … ]].
func (sh *shell) test(x syntax.TestExpr) bool {
	switch x := x.(type) {
	case *syntax.Word:
		return sh.literal(x) != ""
	case *syntax.ParenTest:
		return sh.test(x.X)
	case *syntax.UnaryTest:
		if x.Op == syntax.TsNot {
			return !sh.test(x.X)
		}
		operand := sh.literal(x.X.(*syntax.Word))
		switch x.Op {
		case syntax.TsVarSet:
			return sh.Get(operand).IsSet()
		case syntax.TsOptSet:
			return (operand == "pipefail" && sh.pipefail) || sh.flags[longOptions[operand]]
		}
		return userland.Examine(sh.p, x.Op.String(), operand)
	case *syntax.BinaryTest:
		return sh.compare(x)
	}
	return false
}

func (sh *shell) compare(x *syntax.BinaryTest) bool {
	switch x.Op {
	case syntax.AndTest:
		return sh.test(x.X) && sh.test(x.Y)
	case syntax.OrTest:
		return sh.test(x.X) || sh.test(x.Y)
	}
	left, right := sh.literal(x.X.(*syntax.Word)), x.Y.(*syntax.Word)
	switch x.Op {
	case syntax.TsMatch, syntax.TsMatchShort:
		return sh.matches(left, right)
	case syntax.TsNoMatch:
		return !sh.matches(left, right)
	case syntax.TsReMatch:
		re, err := regexp.Compile(sh.literal(right))
		if err != nil {
			sh.complain(2, "%v", err)
			return false
		}
		found := re.FindStringSubmatch(left)
		sh.set("BASH_REMATCH", expand.Variable{Set: true, Kind: expand.Indexed, List: found})
		return found != nil
	}
	v, err := userland.Compare(sh.p, left, x.Op.String(), sh.literal(right))
	if err != nil {
		sh.complain(2, "%v", err)
	}
	return v
}
