package placement_test

import (
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/broker/placement"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

var start = time.Unix(1_800_000_000, 0).UTC()

func TestCircuit(t *testing.T) {
	var m placement.Measurement
	at := start
	expect := func(want placement.Circuit) {
		t.Helper()
		if got := m.Circuit(at); got != want {
			t.Fatalf("after %v the circuit is %d, want %d", at.Sub(start), got, want)
		}
	}
	m = m.Failed(at).Failed(at)
	expect(placement.Closed)
	m = m.Succeeded(at, time.Second).Failed(at).Failed(at)
	expect(placement.Closed) // a success between them
	m = m.Failed(at)
	expect(placement.Open)
	m = m.Failed(at.Add(20 * time.Second)) // was under way: no longer for that
	at = at.Add(30 * time.Second)
	expect(placement.HalfOpen)
	m = m.Failed(at)
	expect(placement.Open)
	at = at.Add(59 * time.Second)
	expect(placement.Open)
	at = at.Add(time.Second)
	expect(placement.HalfOpen)
	for range 10 { // the time it stays open is bounded
		m = m.Failed(at)
		at = at.Add(10 * time.Minute)
		expect(placement.HalfOpen)
	}
	m = m.Succeeded(at, time.Second)
	expect(placement.Closed)
	m = m.Failed(at).Failed(at)
	at = at.Add(time.Hour)
	m = m.Failed(at)
	expect(placement.Closed) // not in a row with those of an hour ago
}

func TestThrottled(t *testing.T) {
	for _, tc := range []struct{ said, want time.Duration }{
		{0, 5 * time.Second}, {-time.Second, 5 * time.Second}, {90 * time.Second, 90 * time.Second}, {48 * time.Hour, time.Hour},
	} {
		if got := (placement.Measurement{}).Throttled(start, tc.said).CoolUntil.Sub(start); got != tc.want {
			t.Errorf("after RetryInfo of %v it is left alone for %v, want %v", tc.said, got, tc.want)
		}
	}
	m := placement.Measurement{}.Throttled(start, time.Minute).Throttled(start, time.Second)
	if got := m.CoolUntil.Sub(start); got != time.Minute {
		t.Errorf("a second, shorter time makes it %v, want the longer one", got)
	}
}

func TestLatencyIsLearntAndForgotten(t *testing.T) {
	var m placement.Measurement
	assumed := m.Latency(start)
	for range 20 {
		m = m.Succeeded(start, 4*time.Second)
	}
	if got := m.Latency(start); got < 3*time.Second || got > 4*time.Second {
		t.Errorf("after 20 creations of 4s it is %v", got)
	}
	if got := m.Latency(start.Add(24 * time.Hour)); got < assumed || got > assumed+time.Millisecond {
		t.Errorf("a day later it is %v, want about what is assumed, %v", got, assumed)
	}
}

// TestWhoIsToBlame knows every reason, so that a new one has to be judged.
func TestWhoIsToBlame(t *testing.T) {
	const (
		nobody   = "nobody"
		provider = "provider"
		throttle = "throttle"
	)
	want := map[string]string{
		"FIELD_INVALID": nobody, "SPEC_UNSATISFIABLE": nobody, "SANDBOX_NOT_FOUND": nobody, "EXEC_NOT_FOUND": nobody,
		"IMAGE_NOT_FOUND": nobody, "SNAPSHOT_NOT_FOUND": nobody, "VOLUME_NOT_FOUND": nobody, "FILE_NOT_FOUND": nobody,
		"IDEMPOTENCY_KEY_REUSED": nobody, "OBJECT_EXISTS": nobody, "NOT_CONFIGURED": provider, "SANDBOX_NOT_RUNNING": nobody,
		"SANDBOX_EXPIRED": nobody, "OBJECT_IN_USE": nobody, "FILE_REFUSED": nobody, "OPERATION_IN_PROGRESS": nobody,
		"OFFSET_EVICTED": nobody, "RATE_LIMITED": throttle, "QUOTA_EXCEEDED": provider, "CAPACITY_EXHAUSTED": provider,
		"LIMIT_EXCEEDED": nobody, "CREDENTIALS_INVALID": provider, "CREDENTIALS_INSUFFICIENT": provider, "POLICY_DENIED": nobody,
		"UPSTREAM_UNAVAILABLE": provider, "DRAINING": provider, "PLUGIN_CRASHED": provider, "PLUGIN_RESTARTING": provider,
		"PLUGIN_QUARANTINED": provider, "DEADLINE_EXCEEDED": provider, "CANCELED": nobody, "CAPABILITY_NOT_SUPPORTED": nobody,
		"CAPABILITY_DISABLED": nobody, "OUTPUT_TRUNCATED": nobody, "STATE_LOST": provider, "PLUGIN_BUG": provider,
		"UPSTREAM_PROTOCOL": provider, "HOST_UNSUPPORTED": provider, "PORT_REFUSED": nobody,
	}
	for number := range providerv1.ErrorReason_name {
		reason := providerv1.ErrorReason(number)
		if reason == providerv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
			continue
		}
		m := placement.Measurement{}.After(start, 0, fault.New(reason, "x"))
		got := nobody
		switch {
		case m.Bad == 1:
			got = provider
		case !m.CoolUntil.IsZero():
			got = throttle
		}
		if w := want[fault.Name(reason)]; got != w {
			t.Errorf("%s is laid to %s, want %q", fault.Name(reason), got, w)
		}
	}
	m := placement.Measurement{}.After(start, 0, fault.New(providerv1.ErrorReason_ERROR_REASON_CAPACITY_EXHAUSTED, "x").WithRetryAfter(time.Minute))
	if m.Bad != 1 || !m.CoolUntil.Equal(start.Add(time.Minute)) {
		t.Errorf("a failure that says when to come back leaves %+v", m)
	}
	if m := (placement.Measurement{}).After(start, time.Second, nil); m.Good != 1 || m.Seconds != 1 {
		t.Errorf("a success leaves %+v", m)
	}
}
