package policy

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// schema is a type with fields, for CEL's checker and evaluator.
type schema struct {
	typ    *types.Type
	fields map[string]*types.FieldType
	names  []string
}

// field is one field of values of type T. get returns nil if it is not known.
type field[T any] struct {
	name string
	typ  *types.Type
	get  func(T) ref.Val
	// unknown says what to do about one that is not known.
	unknown string
}

func newSchema[T any](name string, fields ...field[T]) *schema {
	s := &schema{typ: types.NewObjectType(name), fields: make(map[string]*types.FieldType, len(fields))}
	for _, f := range fields {
		get := func(target any) (ref.Val, error) {
			v, ok := target.(T)
			if !ok {
				return nil, fmt.Errorf("%T is not a %s", target, name)
			}
			if got := f.get(v); got != nil {
				return got, nil
			}
			return nil, errors.New(f.unknown)
		}
		s.fields[f.name] = &types.FieldType{
			Type:    f.typ,
			IsSet:   func(target any) bool { v, err := get(target); return err == nil && present(v) },
			GetFrom: func(target any) (any, error) { return get(target) },
		}
		s.names = append(s.names, f.name)
	}
	slices.Sort(s.names)
	return s
}

// present is what has() says of a field, as of one in proto3: that it is not
// empty.
func present(v ref.Val) bool {
	switch x := v.(type) {
	case types.String:
		return x != ""
	case types.Int:
		return x != 0
	case types.Double:
		return x != 0
	case types.Bool:
		return bool(x)
	case traits.Sizer:
		return x.Size() != types.IntZero
	}
	return true
}

func textField[T any](name string, get func(T) string) field[T] {
	return field[T]{name: name, typ: types.StringType, get: func(v T) ref.Val { return types.String(get(v)) }}
}

func intField[T any](name string, get func(T) int64) field[T] {
	return field[T]{name: name, typ: types.IntType, get: func(v T) ref.Val { return types.Int(get(v)) }}
}

func numberField[T any](name string, get func(T) float64) field[T] {
	return field[T]{name: name, typ: types.DoubleType, get: func(v T) ref.Val { return types.Double(get(v)) }}
}

func boolField[T any](name string, get func(T) bool) field[T] {
	return field[T]{name: name, typ: types.BoolType, get: func(v T) ref.Val { return types.Bool(get(v)) }}
}

func listField[T any](name string, get func(T) []string) field[T] {
	return field[T]{name: name, typ: types.NewListType(types.StringType), get: func(v T) ref.Val { return list(get(v)) }}
}

func mapField[T any](name string, get func(T) map[string]string) field[T] {
	return field[T]{name: name, typ: types.NewMapType(types.StringType, types.StringType), get: func(v T) ref.Val { return ordered(get(v)) }}
}

func list(elements []string) traits.Lister {
	return types.NewStringList(types.DefaultTypeAdapter, elements)
}

// orderedMap is a map that is iterated by key. A Go map would be iterated in
// another order each time, and a rule decide otherwise each time.
type orderedMap struct {
	traits.Mapper
	keys []string
}

func ordered(m map[string]string) orderedMap {
	return orderedMap{types.NewStringStringMap(types.DefaultTypeAdapter, m), slices.Sorted(maps.Keys(m))}
}

// Iterator implements traits.Iterable.
func (m orderedMap) Iterator() traits.Iterator { return list(m.keys).Iterator() }

// object is a value of a schema.
type object struct {
	typ   *types.Type
	value any
}

var _ ref.Val = object{}

func (o object) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("%s cannot become %s", o.typ.TypeName(), t)
}

func (o object) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return o.typ
	}
	return types.NewErr("%s cannot become %s", o.typ.TypeName(), t.TypeName())
}

func (o object) Equal(other ref.Val) ref.Val {
	x, ok := other.(object)
	return types.Bool(ok && x == o)
}

func (o object) Type() ref.Type { return o.typ }

func (o object) Value() any { return o.value }

// schemas are the types of this package beside those of CEL.
type schemas struct{ types.Provider }

func newSchemas() (schemas, error) {
	standard, err := types.NewRegistry()
	return schemas{standard}, err
}

func (s schemas) FindStructType(name string) (*types.Type, bool) {
	if own := schemaByType(name); own != nil {
		return types.NewTypeTypeWithParam(own.typ), true
	}
	return s.Provider.FindStructType(name)
}

func (s schemas) FindStructFieldNames(name string) ([]string, bool) {
	if own := schemaByType(name); own != nil {
		return own.names, true
	}
	return s.Provider.FindStructFieldNames(name)
}

func (s schemas) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if own := schemaByType(name); own != nil {
		f, ok := own.fields[field]
		return f, ok
	}
	return s.Provider.FindStructFieldType(name, field)
}
