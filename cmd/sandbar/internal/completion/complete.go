package completion

import (
	"cmp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Candidate is one possible next word.
type Candidate struct {
	Text string
	Help string
}

// Complete returns what may stand in place of the last word, sorted. dynamic
// lists the names of a kind of thing: sandbox, snapshot or provider. Nothing is
// returned where the shell itself completes best, which is file names.
func Complete(app *kong.Application, words []string, dynamic func(kind string) []string) []Candidate {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	s := walk(app.Node, words[:len(words)-1])
	var out []Candidate
	switch {
	case s.passthrough:
		return nil
	case s.flag != nil:
		out = values(s.flag.Value, s.flag.Name, dynamic)
	case strings.HasPrefix(last, "-"):
		out = flags(s.node)
	default:
		out = append(commands(s.node), positional(s, dynamic)...)
	}
	out = slices.DeleteFunc(out, func(c Candidate) bool { return !strings.HasPrefix(c.Text, last) })
	slices.SortFunc(out, func(a, b Candidate) int { return cmp.Compare(a.Text, b.Text) })
	return out
}

// state is where the words before the last one lead.
type state struct {
	node        *kong.Node
	flag        *kong.Flag // whose value comes next
	args        int
	passthrough bool
}

func walk(node *kong.Node, words []string) state {
	s := state{node: node}
	for _, w := range words {
		switch {
		case s.flag != nil:
			s.flag = nil
		case w == "--":
			s.passthrough = true
			return s
		case strings.HasPrefix(w, "-"):
			s.flag = takesValue(s.node, w)
		default:
			if child := child(s.node, w); child != nil {
				s.node, s.args = child, 0
				continue
			}
			if p := at(s.node, s.args); p != nil && p.Passthrough {
				s.passthrough = true
				return s
			}
			s.args++
		}
	}
	return s
}

func child(n *kong.Node, name string) *kong.Node {
	for _, c := range n.Children {
		if c.Name == name || slices.Contains(c.Aliases, name) {
			return c
		}
	}
	return nil
}

func takesValue(n *kong.Node, word string) *kong.Flag {
	name := strings.TrimLeft(word, "-")
	if strings.Contains(name, "=") {
		return nil
	}
	for _, group := range n.AllFlags(false) {
		for _, f := range group {
			long := strings.HasPrefix(word, "--") && f.Name == name
			short := f.Short != 0 && word == "-"+string(f.Short)
			if (long || short) && !f.IsBool() {
				return f
			}
		}
	}
	return nil
}

func at(n *kong.Node, i int) *kong.Positional {
	if i < len(n.Positional) {
		return n.Positional[i]
	}
	// The last one may take any number of words.
	if k := len(n.Positional); k > 0 && n.Positional[k-1].IsCumulative() {
		return n.Positional[k-1]
	}
	return nil
}

func commands(n *kong.Node) []Candidate {
	var out []Candidate
	for _, c := range n.Children {
		if !c.Hidden {
			out = append(out, Candidate{Text: c.Name, Help: c.Help})
		}
	}
	return out
}

func flags(n *kong.Node) []Candidate {
	var out []Candidate
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			out = append(out, Candidate{Text: "--" + f.Name, Help: f.Help})
			if f.Tag.Negatable != "" {
				out = append(out, Candidate{Text: "--no-" + f.Name, Help: f.Help})
			}
		}
	}
	return out
}

func positional(s state, dynamic func(string) []string) []Candidate {
	p := at(s.node, s.args)
	if p == nil || p.Passthrough {
		return nil
	}
	return values(p, p.Name, dynamic)
}

func values(v *kong.Value, name string, dynamic func(string) []string) []Candidate {
	if v.Enum != "" {
		var out []Candidate
		for _, e := range v.EnumSlice() {
			out = append(out, Candidate{Text: e})
		}
		return out
	}
	var out []Candidate
	switch name {
	case "sandbox", "snapshot", "provider":
		for _, n := range dynamic(name) {
			out = append(out, Candidate{Text: n})
		}
	case "src", "dst":
		for _, n := range dynamic("sandbox") {
			out = append(out, Candidate{Text: n + ":/"})
		}
	}
	return out
}
