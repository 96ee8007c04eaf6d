package stage_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestDifference(t *testing.T) {
	one := &providerv1.Sandbox{
		VendorId: "a", Identity: &providerv1.Identity{Owner: "o", Labels: map[string]string{"k": "v"}},
	}
	unknown := proto.CloneOf(one)
	unknown.ProtoReflect().SetUnknown(protoreflect.RawFields{0xf8, 0x7f, 1})
	for name, test := range map[string]struct {
		after *providerv1.Sandbox
		want  []string
	}{
		"equal":     {proto.CloneOf(one), nil},
		"nothing":   {nil, []string{`- identity:{owner:"o" labels:{key:"k" value:"v"}}`, `- vendor_id:"a"`}},
		"scalar":    {&providerv1.Sandbox{VendorId: "b", Identity: one.GetIdentity()}, []string{`- vendor_id:"a"`, `+ vendor_id:"b"`}},
		"map":       {&providerv1.Sandbox{VendorId: "a", Identity: &providerv1.Identity{Owner: "o"}}, []string{`- identity.labels:{key:"k" value:"v"}`}},
		"not known": {unknown, []string{"the fields of the message that this suite does not know differ"}},
	} {
		t.Run(name, func(t *testing.T) {
			// The text format varies its spaces from build to build.
			got := strings.ReplaceAll(stage.Difference(one, test.after), "  ", " ")
			if want := strings.Join(test.want, "\n"); got != want {
				t.Errorf("difference:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}
