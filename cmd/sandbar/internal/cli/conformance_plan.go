package cli

import (
	"errors"
	"fmt"
	"os"

	"go.yaml.in/yaml/v3"

	"github.com/sandbar-dev/sandbar/broker/secrets"
)

// plan is the file of sandbar conformance run --config.
type plan struct {
	settings map[string]any
	secrets  map[string][]byte
	inputs   map[string]string
}

// readPlan reads it. Errors name file, line and field.
func readPlan(file string, lookup func(string) (string, bool)) (plan, error) {
	out := plan{settings: map[string]any{}, secrets: map[string][]byte{}, inputs: map[string]string{}}
	raw, err := os.ReadFile(file)
	if err != nil {
		return out, fmt.Errorf("configuration: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return out, fmt.Errorf("%s: %w", file, err)
	}
	if len(doc.Content) == 0 {
		return out, nil
	}
	var errs []error
	fail := func(n *yaml.Node, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s:%d: %s", file, n.Line, fmt.Sprintf(format, args...)))
	}
	eachPair(doc.Content[0], "the file", fail, func(key, value *yaml.Node) {
		switch key.Value {
		case "settings":
			eachPair(value, "settings", fail, func(k, v *yaml.Node) {
				var x any
				if err := v.Decode(&x); err != nil {
					fail(v, "settings.%s cannot be read: %v", k.Value, err)
				}
				out.settings[k.Value] = x
			})
		case "secrets":
			eachPair(value, "secrets", fail, func(k, v *yaml.Node) { out.secret(k.Value, v, fail, lookup) })
		case "inputs":
			eachPair(value, "inputs", fail, func(k, v *yaml.Node) {
				if v.Kind != yaml.ScalarNode || v.Value == "" {
					fail(v, "inputs.%s: want text", k.Value)
				}
				out.inputs[k.Value] = v.Value
			})
		default:
			fail(key, "%s is not a setting: want one of settings, secrets, inputs", key.Value)
		}
	})
	return out, errors.Join(errs...)
}

// secret reads one, from a file or the environment, as brokers do.
func (p plan) secret(name string, n *yaml.Node, fail func(*yaml.Node, string, ...any), lookup func(string) (string, bool)) {
	var s secrets.Source
	eachPair(n, "secrets."+name, fail, func(k, v *yaml.Node) {
		switch k.Value {
		case "file":
			s.File = v.Value
		case "env":
			s.Env = v.Value
		default:
			fail(k, "secrets.%s.%s is not a setting: want file or env", name, k.Value)
		}
	})
	if (s.Env == "") == (s.File == "") {
		fail(n, "secrets.%s needs exactly one of file and env", name)
		return
	}
	value, err := s.Value(lookup)
	if err != nil {
		fail(n, "secrets.%s: %v", name, err)
	}
	p.secrets[name] = value
}

// eachPair calls fn for each key of a mapping, once.
func eachPair(n *yaml.Node, what string, fail func(*yaml.Node, string, ...any), fn func(key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		fail(n, "%s: want keys and values", what)
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if seen[key.Value] {
			fail(key, "%s: %s is set twice", what, key.Value)
			continue
		}
		seen[key.Value] = true
		fn(key, value)
	}
}
