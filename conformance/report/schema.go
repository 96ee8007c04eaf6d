package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

//go:embed schema.json
var schemaText []byte

// SchemaJSON returns the JSON Schema of reports.
func SchemaJSON() []byte { return bytes.Clone(schemaText) }

// node is a JSON Schema, of which it knows what schema.json uses. Tests hold it
// against a complete validator; that one is not linked in, because it reads all
// of its own schemas whenever a program starts.
type node struct {
	Type       string           `json:"type"`
	Const      any              `json:"const"`
	Enum       []any            `json:"enum"`
	Pattern    string           `json:"pattern"`
	Format     string           `json:"format"`
	MinLength  int              `json:"minLength"`
	Minimum    *float64         `json:"minimum"`
	Items      *node            `json:"items"`
	MinItems   int              `json:"minItems"`
	Unique     bool             `json:"uniqueItems"`
	Properties map[string]*node `json:"properties"`
	Required   []string         `json:"required"`
	Additional *bool            `json:"additionalProperties"`
	If         *node            `json:"if"`
	Then       *node            `json:"then"`
	Else       *node            `json:"else"`
	Not        *node            `json:"not"`

	// Read, and of no consequence.
	Schema      string `json:"$schema"`
	ID          string `json:"$id"`
	Title       string `json:"title"`
	Description string `json:"description"`

	pattern *regexp.Regexp
}

// schema is read when it is first needed.
var schema = sync.OnceValues(func() (*node, error) {
	dec := json.NewDecoder(bytes.NewReader(schemaText))
	dec.UseNumber()
	dec.DisallowUnknownFields() // a word that is not known would not be checked
	var n node
	if err := dec.Decode(&n); err != nil {
		return nil, err
	}
	return &n, n.compile()
})

// compile prepares patterns.
func (n *node) compile() error {
	var err error
	if n.Pattern != "" {
		if n.pattern, err = regexp.Compile(n.Pattern); err != nil {
			return err
		}
	}
	for _, sub := range append([]*node{n.Items, n.If, n.Then, n.Else, n.Not}, values(n.Properties)...) {
		if sub != nil {
			err = errors.Join(err, sub.compile())
		}
	}
	return err
}

func values(m map[string]*node) []*node {
	out := make([]*node, 0, len(m))
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// checkSchema validates a document.
func checkSchema(raw []byte) error {
	n, err := schema()
	if err != nil {
		return fmt.Errorf("the schema of reports is broken: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		return fmt.Errorf("the report is no JSON: %w", err)
	}
	if err := n.check(doc, "the report"); err != nil {
		return fmt.Errorf("it does not have the form of %s: %w", Schema, err)
	}
	return nil
}

// check validates a value at a path.
func (n *node) check(v any, at string) error {
	if n.Const != nil && !reflect.DeepEqual(n.Const, v) {
		return fmt.Errorf("%s is %v: want %v", at, v, n.Const)
	}
	if n.Enum != nil && !slices.ContainsFunc(n.Enum, func(e any) bool { return reflect.DeepEqual(e, v) }) {
		return fmt.Errorf("%s is %v: want one of %v", at, v, n.Enum)
	}
	if n.Type != "" && !isType(n.Type, v) {
		return fmt.Errorf("%s is no %s", at, n.Type)
	}
	var err error
	switch x := v.(type) {
	case string:
		err = n.checkText(x, at)
	case json.Number:
		if f, ferr := x.Float64(); ferr != nil || n.Minimum != nil && f < *n.Minimum {
			err = fmt.Errorf("%s is %s: want a number that is not too small", at, x)
		}
	case []any:
		err = n.checkList(x, at)
	case map[string]any:
		err = n.checkObject(x, at)
	}
	if err != nil {
		return err
	}
	return n.checkLogic(v, at)
}

// checkLogic is about not and if.
func (n *node) checkLogic(v any, at string) error {
	if n.Not != nil && n.Not.check(v, at) == nil {
		return fmt.Errorf("%s has what it must not have", at)
	}
	if n.If == nil {
		return nil
	}
	branch := n.Then
	if n.If.check(v, at) != nil {
		branch = n.Else
	}
	if branch == nil {
		return nil
	}
	return branch.check(v, at)
}

func isType(want string, v any) bool {
	switch x := v.(type) {
	case string:
		return want == "string"
	case bool:
		return want == "boolean"
	case json.Number:
		f, err := x.Float64()
		return want == "number" || want == "integer" && err == nil && f == float64(int64(f))
	case []any:
		return want == "array"
	case map[string]any:
		return want == "object"
	}
	return false
}

func (n *node) checkText(s, at string) error {
	if n.pattern != nil && !n.pattern.MatchString(s) {
		return fmt.Errorf("%s is %q: want what matches %s", at, s, n.Pattern)
	}
	if utf8.RuneCountInString(s) < n.MinLength {
		return fmt.Errorf("%s is %q: want at least %d characters", at, s, n.MinLength)
	}
	if n.Format == "date-time" {
		if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
			return fmt.Errorf("%s is %q: want a time as RFC 3339 has it", at, s)
		}
	}
	return nil
}

func (n *node) checkList(list []any, at string) error {
	if len(list) < n.MinItems {
		return fmt.Errorf("%s has %d elements: want at least %d", at, len(list), n.MinItems)
	}
	for i, v := range list {
		if n.Unique && slices.ContainsFunc(list[:i], func(other any) bool { return reflect.DeepEqual(v, other) }) {
			return fmt.Errorf("%s holds %v twice", at, v)
		}
		if n.Items == nil {
			continue
		}
		if err := n.Items.check(v, at+"["+strconv.Itoa(i)+"]"); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) checkObject(m map[string]any, at string) error {
	for _, name := range n.Required {
		if _, ok := m[name]; !ok {
			return fmt.Errorf("%s has no %s", at, name)
		}
	}
	for name, v := range m {
		sub, ok := n.Properties[name]
		switch {
		case ok:
			if err := sub.check(v, at+"."+name); err != nil {
				return err
			}
		case n.Additional != nil && !*n.Additional:
			return fmt.Errorf("%s has %s, which nobody knows", at, name)
		}
	}
	return nil
}
