package authz

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	"github.com/sandbar-dev/sandbar/proto/pattern"
)

var (
	providerPattern = pattern.Lazy(`^[a-z][a-z0-9-]{0,31}$`)
	labelPattern    = pattern.Lazy(`^[0-9A-Za-z._/-]{1,63}$`)
)

// maxScope bounds the parts of a scope, which are looked through at each call;
// maxLabelValue is that of any label.
const (
	maxScope      = 32
	maxLabelValue = 255
)

// ParseScope reads a scope as people write it: each word is a permission
// (exec, sandbox:read), a group of them (sandbox), provider=NAME, or
// label:NAME=VALUE. No words are no scope, which is nil.
func ParseScope(words []string) (*brokerv1.Scope, error) {
	if len(words) == 0 {
		return nil, nil
	}
	s := &brokerv1.Scope{}
	for _, word := range words {
		if name, ok := strings.CutPrefix(word, "provider="); ok {
			s.Providers = append(s.Providers, name)
			continue
		}
		if label, ok := strings.CutPrefix(word, "label:"); ok {
			k, v, ok := strings.Cut(label, "=")
			if !ok {
				return nil, fmt.Errorf("%q is not a label: want label:NAME=VALUE", word)
			}
			if old, twice := s.GetLabels()[k]; twice && old != v {
				return nil, fmt.Errorf("label %s is %q and %q: want one value", k, old, v)
			}
			if s.Labels == nil {
				s.Labels = make(map[string]string)
			}
			s.Labels[k] = v
			continue
		}
		granted, err := parsePermission(word)
		if err != nil {
			return nil, err
		}
		for _, p := range granted {
			s.Permissions = append(s.Permissions, string(p))
		}
	}
	return s, CheckScope(s)
}

// CheckScope says what is wrong with a scope; nil is right. It puts the parts in
// order, each once, and groups into their permissions.
func CheckScope(s *brokerv1.Scope) error {
	var perms []string
	for _, word := range s.GetPermissions() {
		granted, err := parsePermission(word)
		if err != nil {
			return err
		}
		for _, p := range granted {
			perms = append(perms, string(p))
		}
	}
	if len(s.GetProviders()) > maxScope || len(s.GetLabels()) > maxScope {
		return fmt.Errorf("it has %d providers and %d labels: want at most %d of each", len(s.GetProviders()), len(s.GetLabels()), maxScope)
	}
	for _, name := range s.GetProviders() {
		if !providerPattern().MatchString(name) {
			return fmt.Errorf("%q is not the name of a provider: want provider=NAME, such as provider=local", name)
		}
	}
	for k, v := range s.GetLabels() {
		if !labelPattern().MatchString(k) || len(v) > maxLabelValue {
			return fmt.Errorf("label %q=%q cannot be: want a name of 1 to 63 letters, digits and . _ / -, and a value of at most %d bytes", k, v, maxLabelValue)
		}
	}
	if s != nil {
		s.Permissions, s.Providers = ordered(perms), ordered(s.GetProviders())
	}
	return nil
}

func ordered(words []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(words)))
}

// ScopeWords writes a scope as ParseScope reads it.
func ScopeWords(s *brokerv1.Scope) []string {
	out := slices.Clone(s.GetPermissions())
	for _, p := range s.GetProviders() {
		out = append(out, "provider="+p)
	}
	for _, k := range slices.Sorted(maps.Keys(s.GetLabels())) {
		out = append(out, "label:"+k+"="+s.GetLabels()[k])
	}
	return out
}

// confines reports whether a scope keeps its holder to a part of a tenant.
func confines(s *brokerv1.Scope) bool { return len(s.GetProviders()) > 0 || len(s.GetLabels()) > 0 }
