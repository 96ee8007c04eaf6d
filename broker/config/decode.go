package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// decoder fills structs from YAML nodes and collects what is wrong. It exists
// because the errors of yaml.Unmarshal name Go types instead of fields.
type decoder struct {
	file string
	// lines remembers where each field stands, for errors found later.
	lines map[string]int
	// blocks has the fields whose text begins below them.
	blocks map[string]bool
	// wrongs are the errors, and the fields that they are about.
	wrongs []wrong
}

type wrong struct {
	line  int
	field string
	err   error
}

// err joins all errors in the order of the file.
func (d *decoder) err() error {
	slices.SortStableFunc(d.wrongs, func(a, b wrong) int { return cmp.Compare(a.line, b.line) })
	errs := make([]error, len(d.wrongs))
	for i, w := range d.wrongs {
		errs[i] = w.err
	}
	return errors.Join(errs...)
}

// sound reports whether a field and all below it could be read. What is missing
// elsewhere proves nothing.
func (d *decoder) sound(field string) bool {
	return !slices.ContainsFunc(d.wrongs, func(w wrong) bool {
		rest, below := strings.CutPrefix(w.field, field)
		return below && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// fail notes an error at a node.
func (d *decoder) fail(n *yaml.Node, field, format string, args ...any) {
	d.failAt(n.Line, field, format, args...)
}

func (d *decoder) failAt(line int, field, format string, args ...any) {
	where := d.file
	if line > 0 {
		where += ":" + strconv.Itoa(line)
	}
	d.wrongs = append(d.wrongs, wrong{line, field, fmt.Errorf("%s: %s %s", where, field, fmt.Sprintf(format, args...))})
}

var durationType = reflect.TypeFor[time.Duration]()

// decode fills v, which is settable, from n.
func (d *decoder) decode(n *yaml.Node, field string, v reflect.Value) {
	d.lines[field] = n.Line
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // a key without a value is the default
	}
	switch {
	case v.Type() == durationType:
		d.duration(n, field, v)
	case v.Kind() == reflect.Struct:
		d.object(n, field, v)
	case v.Kind() == reflect.Slice:
		d.list(n, field, v)
	case v.Kind() == reflect.Map:
		d.mapping(n, field, v)
	case v.Kind() == reflect.Interface:
		var x any
		if err := n.Decode(&x); err != nil {
			d.fail(n, field, "cannot be read: %v", err)
			return
		}
		if x != nil {
			v.Set(reflect.ValueOf(x))
		}
	case v.Kind() == reflect.Pointer:
		e := reflect.New(v.Type().Elem())
		d.decode(n, field, e.Elem())
		v.Set(e)
	case v.Kind() == reflect.Int:
		d.integer(n, field, v)
	case v.Kind() == reflect.Bool:
		d.boolean(n, field, v)
	case v.Kind() == reflect.String:
		if n.Kind != yaml.ScalarNode {
			d.fail(n, field, "is %s: want text", kindName(n))
			return
		}
		if isBlock(n) {
			d.blocks[field] = true
		}
		v.SetString(n.Value)
	default:
		panic("config: no decoding for " + v.Type().String())
	}
}

func (d *decoder) duration(n *yaml.Node, field string, v reflect.Value) {
	t, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || t < 0 {
		d.fail(n, field, "is %s: want a time such as 90s, 15m or 24h", shown(n))
		return
	}
	v.SetInt(int64(t))
}

func (d *decoder) integer(n *yaml.Node, field string, v reflect.Value) {
	i, err := strconv.ParseInt(n.Value, 10, 0)
	if n.Kind != yaml.ScalarNode || err != nil {
		d.fail(n, field, "is %s: want a whole number", shown(n))
		return
	}
	v.SetInt(i)
}

func (d *decoder) boolean(n *yaml.Node, field string, v reflect.Value) {
	b, err := strconv.ParseBool(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		d.fail(n, field, "is %s: want true or false", shown(n))
		return
	}
	v.SetBool(b)
}

func (d *decoder) object(n *yaml.Node, field string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, fieldOrFile(field), "is %s: want keys and values", shown(n))
		return
	}
	known := make(map[string]int)
	for i := range v.NumField() {
		known[v.Type().Field(i).Tag.Get("yaml")] = i
	}
	d.pairs(n, field, func(key *yaml.Node, path string, value *yaml.Node) {
		i, ok := known[key.Value]
		if !ok {
			d.fail(key, path, "is not a setting: want one of %s", strings.Join(slices.Sorted(maps.Keys(known)), ", "))
			return
		}
		d.decode(value, path, v.Field(i))
	})
}

// pairs calls fn for each key, once.
func (d *decoder) pairs(n *yaml.Node, field string, fn func(key *yaml.Node, path string, value *yaml.Node)) {
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		path := strings.TrimPrefix(field+"."+key.Value, ".")
		if seen[key.Value] {
			d.fail(key, path, "is set twice: want it once")
			continue
		}
		seen[key.Value] = true
		fn(key, path, value)
	}
}

func (d *decoder) list(n *yaml.Node, field string, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, field, "is %s: want a list", shown(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, e := range n.Content {
		d.decode(e, field+"["+strconv.Itoa(i)+"]", v.Index(i))
	}
}

func (d *decoder) mapping(n *yaml.Node, field string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, field, "is %s: want keys and values", shown(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	d.pairs(n, field, func(key *yaml.Node, path string, value *yaml.Node) {
		e := reflect.New(v.Type().Elem()).Elem()
		d.decode(value, path, e)
		v.SetMapIndex(reflect.ValueOf(key.Value), e)
	})
}

func fieldOrFile(field string) string {
	if field == "" {
		return "the file"
	}
	return field
}

// shown is a value as an error quotes it.
func shown(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return strconv.Quote(n.Value)
	}
	return kindName(n)
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a set of keys"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a value"
	}
}
