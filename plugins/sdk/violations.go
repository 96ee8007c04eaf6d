package sdk

import (
	"slices"
	"strings"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// violations collects what is wrong with a request, so that a caller learns all
// of it at once.
type violations struct{ list []violation }

type violation struct{ field, value, want string }

// maxQuoted bounds how much of a wrong value is quoted back.
const maxQuoted = 80

func (v *violations) add(field, value, want string) {
	if len(value) > maxQuoted {
		value = strings.ToValidUTF8(value[:maxQuoted], "") + "…"
	}
	v.list = append(v.list, violation{field, strings.ToValidUTF8(value, "\uFFFD"), want})
}

// err returns FIELD_INVALID for the first violation by field, with all of them
// in Fields; nil if there is none.
func (v *violations) err() error {
	if len(v.list) == 0 {
		return nil
	}
	slices.SortStableFunc(v.list, func(a, b violation) int { return strings.Compare(a.field, b.field) })
	first := v.list[0]
	out := fault.Field(first.field, first.value, first.want)
	if first.value == "" {
		e := fault.New(providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID, "%s: %s", first.field, first.want)
		out = e.With(fault.MetaField, first.field)
	}
	out.Fields = make([]fault.Violation, len(v.list))
	for i, one := range v.list {
		out.Fields[i] = fault.Violation{Field: one.field, Description: one.want}
	}
	return out
}
