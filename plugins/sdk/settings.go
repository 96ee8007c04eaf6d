package sdk

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/pattern"
)

var settingName = pattern.Lazy(`^[a-z][a-z0-9_]{0,62}$`)

// checkSettingsDeclared checks the driver's own list.
func checkSettingsDeclared(settings []*providerv1.Setting) error {
	var errs []error
	seen := map[string]bool{}
	for _, s := range settings {
		if !settingName().MatchString(s.GetName()) {
			errs = append(errs, fmt.Errorf("setting %q: want a name that matches %s", s.GetName(), settingName()))
		}
		if seen[s.GetName()] {
			errs = append(errs, fmt.Errorf("setting %q is declared twice", s.GetName()))
		}
		seen[s.GetName()] = true
		if _, ok := settingTypes[s.GetType()]; !ok {
			errs = append(errs, fmt.Errorf("setting %q has type %v: want one of the contract's", s.GetName(), s.GetType()))
		}
		if s.GetSecret() && s.GetType() != providerv1.SettingType_SETTING_TYPE_STRING {
			errs = append(errs, fmt.Errorf("setting %q is a secret of type %v: want STRING", s.GetName(), s.GetType()))
		}
	}
	return errors.Join(errs...)
}

// settingTypes says what each type wants, and checks a value.
var settingTypes = map[providerv1.SettingType]struct {
	want string
	ok   func(*structpb.Value) bool
}{
	providerv1.SettingType_SETTING_TYPE_STRING:  {"a string", isString},
	providerv1.SettingType_SETTING_TYPE_INTEGER: {"a whole number", isInteger},
	providerv1.SettingType_SETTING_TYPE_BOOLEAN: {"true or false", func(v *structpb.Value) bool {
		_, ok := v.GetKind().(*structpb.Value_BoolValue)
		return ok
	}},
	providerv1.SettingType_SETTING_TYPE_DURATION: {"a duration such as 90s", func(v *structpb.Value) bool {
		_, err := time.ParseDuration(v.GetStringValue())
		return isString(v) && err == nil
	}},
	providerv1.SettingType_SETTING_TYPE_SIZE: {"a size such as 512MiB", func(v *structpb.Value) bool {
		_, err := ParseSize(v.GetStringValue())
		return isString(v) && err == nil
	}},
	providerv1.SettingType_SETTING_TYPE_STRING_LIST: {"a list of strings", func(v *structpb.Value) bool {
		l := v.GetListValue()
		return l != nil && !slices.ContainsFunc(l.GetValues(), func(e *structpb.Value) bool { return !isString(e) })
	}},
}

func isString(v *structpb.Value) bool {
	_, ok := v.GetKind().(*structpb.Value_StringValue)
	return ok
}

// maxExactInteger is the largest number that JSON carries exactly.
const maxExactInteger = 1 << 53

func isInteger(v *structpb.Value) bool {
	n, ok := v.GetKind().(*structpb.Value_NumberValue)
	return ok && n.NumberValue == math.Trunc(n.NumberValue) && math.Abs(n.NumberValue) <= maxExactInteger
}

// checkSettings refuses what Describe().Settings does not ask for. Values of
// settings are never quoted: an operator may have put a secret there by mistake.
func checkSettings(declared []*providerv1.Setting, req *providerv1.ConfigureRequest) error {
	var bad violations
	byName := make(map[string]*providerv1.Setting, len(declared))
	for _, d := range declared {
		byName[d.GetName()] = d
	}
	for name, v := range req.GetSettings().GetFields() {
		d := byName[name]
		switch {
		case d == nil:
			bad.add("settings."+name, "", "no such setting; "+names(declared, false))
		case d.GetSecret():
			bad.add("settings."+name, "", "it is a secret; want it among secrets")
		case !settingTypes[d.GetType()].ok(v):
			bad.add("settings."+name, "", "want "+settingTypes[d.GetType()].want)
		}
	}
	for name := range req.GetSecrets() {
		if d := byName[name]; d == nil || !d.GetSecret() {
			bad.add("secrets."+name, "", "no such secret; "+names(declared, true))
		}
	}
	for _, d := range declared {
		if !d.GetRequired() {
			continue
		}
		if d.GetSecret() && len(req.GetSecrets()[d.GetName()]) == 0 {
			bad.add("secrets."+d.GetName(), "", "it is required")
		}
		if !d.GetSecret() && req.GetSettings().GetFields()[d.GetName()] == nil {
			bad.add("settings."+d.GetName(), "", "it is required")
		}
	}
	if dir := req.GetStateDir(); dir != "" && !filepath.IsAbs(dir) {
		bad.add("state_dir", dir, "want an absolute path")
	}
	return bad.err()
}

// names says what there is to choose from.
func names(declared []*providerv1.Setting, secret bool) string {
	var out []string
	for _, d := range declared {
		if d.GetSecret() == secret {
			out = append(out, d.GetName())
		}
	}
	if len(out) == 0 {
		return "the provider has none"
	}
	slices.Sort(out)
	return "want one of " + strings.Join(out, ", ")
}

// sizeUnits are the suffixes of a size, longest first.
var sizeUnits = []struct {
	suffix string
	factor int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}, {"", 1}}

// ParseSize reads a setting of type SIZE: a whole number of bytes, or one with
// the suffix KiB, MiB, GiB or TiB.
func ParseSize(text string) (int64, error) {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.factor {
			break
		}
		return n * u.factor, nil
	}
	return 0, fault.Field("size", text, "want a number with KiB, MiB, GiB or TiB, such as 512MiB")
}
