package telemetry_test

import (
	"slices"
	"testing"

	"go.opentelemetry.io/otel/attribute"

	"github.com/sandbar-dev/sandbar/broker/telemetry"
)

// labels writes a series in the order in which its labels are defined, and checks
// that they are those.
func labels(t *testing.T, d telemetry.Definition, attrs []attribute.KeyValue) []string {
	t.Helper()
	out := make([]string, len(d.Labels))
	for _, a := range attrs {
		i := slices.Index(d.Labels, string(a.Key))
		if i < 0 {
			t.Errorf("metric %q has a label %q that it does not define", d.Name, a.Key)
			continue
		}
		out[i] = string(a.Key) + "=" + a.Value.String()
	}
	if slices.Contains(out, "") {
		t.Errorf("metric %q lacks one of its labels %q: it has %v", d.Name, d.Labels, attrs)
	}
	return out
}
