package broker_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/broker/placement"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestCoolDown(t *testing.T) {
	m := newMarket(t, "a", "b")
	m.at("a")
	m.fails("a", false, throttled)
	m.at("b")
	m.fails("a", false, nil)
	m.clock.add(59 * time.Second)
	m.at("b")
	if got := m.rules("a"); got != "COOLING_DOWN" {
		t.Errorf("a is ruled out by %q", got)
	}
	// What the vendor asked for outlives the broker, even one that is killed.
	m.stored(func(all map[string]placement.Measurement) bool { return all["a"].CoolUntil.After(m.clock.Now()) })
	m.Close(t.Context())
	m.start()
	m.at("b")
	m.clock.add(2 * time.Second)
	m.at("a")
}

// stored waits until what is stored is as ok wants it.
func (m *market) stored(ok func(map[string]placement.Measurement) bool) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		all, err := m.store.Measurements(ctx)
		check(m.t, err)
		if ok(all) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			m.t.Fatalf("stored is %v", all)
		}
	}
}

func TestNowhereToGoSaysWhenToComeBack(t *testing.T) {
	m := newMarket(t, "a", "b")
	for name := range m.vendors {
		m.vendors[name].SetHook(once("CreateSandbox", false, throttled))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// The last one is waited for as long as a call may take, which is not a minute.
	_, err := m.CreateSandbox(ctx, &brokerv1.CreateSandboxRequest{})
	want(t, err, providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED)
	m.clock.add(20 * time.Second)
	_, err = m.CreateSandbox(ctx, &brokerv1.CreateSandboxRequest{})
	f := want(t, err, providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED)
	if f.RetryAfter != 40*time.Second || f.Effect != providerv1.Effect_EFFECT_NONE || !strings.Contains(f.Message, "a: it asked for fewer calls") {
		t.Errorf("fault is %+v", f)
	}
	if a, b := m.vendors["a"].Calls("CreateSandbox"), m.vendors["b"].Calls("CreateSandbox"); a != 1 || b != 1 {
		t.Errorf("a was called %d and b %d times", a, b)
	}
}

func TestCircuit(t *testing.T) {
	m := newMarket(t, "a", "b")
	m.fails("a", false, noRoom)
	for range 3 {
		m.at("b")
	}
	if got := m.rules("a"); got != "CIRCUIT_OPEN" {
		t.Fatalf("a is ruled out by %q", got)
	}
	m.at("b")
	if n := m.vendors["a"].Calls("CreateSandbox"); n != 3 {
		t.Errorf("a was called %d times, want 3", n)
	}
	m.Close(t.Context())
	m.start()
	if got := m.rules("a"); got != "CIRCUIT_OPEN" {
		t.Fatalf("after a restart a is ruled out by %q", got)
	}
	m.clock.add(30 * time.Second)
	m.at("b") // the probe fails, and the circuit is open for a minute
	if n := m.vendors["a"].Calls("CreateSandbox"); n != 4 {
		t.Errorf("a was called %d times, want 4", n)
	}
	m.clock.add(59 * time.Second)
	m.at("b")
	m.fails("a", false, nil)
	m.clock.add(time.Second)
	m.oneProbe()
	if got := m.rules("a"); got != "" {
		t.Errorf("a works and is ruled out by %q", got)
	}
	m.at("a")
}

// oneProbe creates at a, whose circuit is half-open, and another meanwhile.
func (m *market) oneProbe() {
	m.t.Helper()
	entered, leave := make(chan struct{}), make(chan struct{})
	var one sync.Once
	m.vendors["a"].SetHook(func(_ context.Context, method string, after bool) error {
		if method == "CreateSandbox" && !after {
			one.Do(func() { close(entered); <-leave })
		}
		return nil
	})
	probed := make(chan string, 1)
	go func() {
		sb, err := m.CreateSandbox(m.t.Context(), &brokerv1.CreateSandboxRequest{})
		if err != nil {
			m.t.Error(err)
		}
		probed <- sb.GetProvider()
	}()
	<-entered
	if got := m.rules("a"); got != "CIRCUIT_PROBING" {
		m.t.Errorf("while it is probed a is ruled out by %q", got)
	}
	m.at("b")
	close(leave)
	if got := <-probed; got != "a" {
		m.t.Errorf("the probe went to %q", got)
	}
}
