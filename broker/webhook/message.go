package webhook

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sandbar-dev/sandbar/broker/state"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// message is what is posted, once or more. Its id stays the same.
type message struct {
	id   string
	body []byte
}

// payload is the form that the specification recommends.
type payload struct {
	Type      string          `json:"type"`
	Timestamp time.Time       `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
}

// Types of messages that are no events of the log.
const (
	// TypeGap says that events are missing; it goes to every webhook.
	TypeGap = "events.gap"
	// TypeTest is what TestWebhook sends.
	TypeTest = "webhook.test"
)

// TypeName returns the type of an event as messages have it, such as
// sandbox.state_changed.
func TypeName(t brokerv1.EventType) string {
	return strings.Replace(strings.ToLower(strings.TrimPrefix(t.String(), "EVENT_TYPE_")), "_", ".", 1)
}

// ParseType reads what TypeName writes.
func ParseType(name string) (brokerv1.EventType, error) {
	for _, n := range slices.Sorted(maps.Keys(brokerv1.EventType_name)) {
		if t := brokerv1.EventType(n); n != 0 && TypeName(t) == name {
			return t, nil
		}
	}
	return 0, fmt.Errorf("%q is not a type of events: want one of %s", name, strings.Join(TypeNames(), ", "))
}

// TypeNames returns all types of events.
func TypeNames() []string {
	var out []string
	for _, n := range slices.Sorted(maps.Keys(brokerv1.EventType_name)) {
		if n != 0 {
			out = append(out, TypeName(brokerv1.EventType(n)))
		}
	}
	return out
}

// marshal writes an event as `sandbar events --json` does.
var marshal = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}

func eventMessage(e *brokerv1.Event) (message, error) {
	data, err := marshal.Marshal(e)
	if err != nil {
		return message{}, fmt.Errorf("encode event: %w", err)
	}
	return newMessage(e.GetCursor(), TypeName(e.GetType()), e.GetAt().AsTime(), data)
}

// gapMessage says that what came after a cursor and before another is not there
// any more. Its id is the first cursor's, so that it stays the same.
func gapMessage(w *state.Webhook, next string, now time.Time) (message, error) {
	after := w.Body.GetCursor()
	data, err := json.Marshal(map[string]string{
		"webhook_id": w.ID(), "after_cursor": after, "next_cursor": next,
		"reason": "events after after_cursor were dropped before they could be delivered; those after next_cursor follow",
	})
	if err != nil {
		return message{}, fmt.Errorf("encode gap: %w", err)
	}
	return newMessage("gap_"+after, TypeGap, now, data)
}

func testMessage(w *state.Webhook, id string, now time.Time) (message, error) {
	data, err := json.Marshal(map[string]string{"webhook_id": w.ID(), "tenant": w.Body.GetTenant()})
	if err != nil {
		return message{}, fmt.Errorf("encode test: %w", err)
	}
	return newMessage(id, TypeTest, now, data)
}

func newMessage(id, kind string, at time.Time, data []byte) (message, error) {
	body, err := json.Marshal(payload{Type: kind, Timestamp: at.UTC(), Data: data})
	if err != nil {
		return message{}, fmt.Errorf("encode %s: %w", kind, err)
	}
	return message{id, body}, nil
}

// wants reports whether an event is for a webhook.
func wants(w *brokerv1.Webhook, e *brokerv1.Event) bool {
	if e.GetTenant() != w.GetTenant() {
		return false
	}
	if types := w.GetEventTypes(); len(types) > 0 && !slices.Contains(types, e.GetType()) {
		return false
	}
	for k, v := range w.GetLabels() {
		if have, ok := e.GetLabels()[k]; !ok || have != v {
			return false
		}
	}
	return true
}
