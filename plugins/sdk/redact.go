package sdk

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/sandbar-dev/sandbar/proto/fault"
)

// redactor removes the configured secrets from text that leaves the plugin. A
// nil redactor knows none.
type redactor struct{ replacer *strings.Replacer }

// minSecret is the length below which a secret is not searched for: it would hit
// ordinary words, and protects nothing.
const minSecret = 6

func newRedactor(secrets map[string][]byte) *redactor {
	var pairs []string
	values := slices.SortedFunc(maps.Values(secrets), func(a, b []byte) int { return len(b) - len(a) })
	for _, v := range values {
		if text := strings.TrimSpace(string(v)); len(text) >= minSecret {
			pairs = append(pairs, text, "[redacted]")
		}
	}
	return &redactor{replacer: strings.NewReplacer(pairs...)}
}

func (r *redactor) redact(text string) string {
	if r == nil {
		return text
	}
	return r.replacer.Replace(text)
}

// redactError returns err as a fault without secrets; a plain error keeps being
// one.
func (r *redactor) redactError(err error) error {
	if e := carried(err); e != nil {
		return r.clean(e)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	return errors.New(r.redact(err.Error()))
}

func (r *redactor) clean(e *fault.Error) *fault.Error {
	if r == nil {
		return e
	}
	c := *e
	c.Message = r.redact(e.Message)
	c.Metadata = maps.Clone(e.Metadata)
	for k, v := range c.Metadata {
		c.Metadata[k] = r.redact(v)
	}
	c.Fields = slices.Clone(e.Fields)
	for i := range c.Fields {
		c.Fields[i].Description = r.redact(c.Fields[i].Description)
	}
	return &c
}
