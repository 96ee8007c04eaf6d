package webhook

import (
	"testing"
	"testing/synctest"
	"time"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// TestCrashBetweenDeliveryAndCursor: what the receiver took and the broker could
// not store comes again, by another broker; nothing is left out.
func TestCrashBetweenDeliveryAndCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, i := newMemory(), &inbox{}
		dying := &crashing{memory: m}
		a := start(dying, Options{Holder: "a"}, i, func() {})
		a.make(t)
		first := m.happen("acme", created, nil)
		after(2 * time.Second)
		i.say(func(message) attempt {
			dying.crash() // it is taken, and then the lights go out
			return attempt{outcome: delivered, status: 200}
		})
		second := m.happen("acme", changed, nil)
		after(2 * time.Second)
		i.say(nil)
		a.Close()
		third := m.happen("acme", deleted, nil)
		b := start(m, Options{Holder: "b"}, i, func() {})
		defer b.Close()
		after(time.Second)
		i.expect(t, first, second)
		after(holdFor + holdEvery)
		i.expect(t, first, second, second, third)
	})
}

// TestOneBrokerDelivers: of two on one store; and when one leaves in order the
// other goes on at once, in its place.
func TestOneBrokerDelivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, ia, ib := newMemory(), &inbox{}, &inbox{}
		a := start(m, Options{Holder: "a"}, ia, func() {})
		b := start(m, Options{Holder: "b"}, ib, func() {})
		defer b.Close()
		after(time.Second) // both have looked for webhooks once
		a.make(t)
		var want []string
		for range 60 {
			want = append(want, m.happen("acme", changed, nil))
			after(time.Second)
		}
		ia.expect(t, want...)
		a.Close()
		last := m.happen("acme", deleted, nil)
		after(2 * holdEvery)
		ia.expect(t, want...)
		ib.expect(t, last)
	})
}

// TestAStalledBrokerStoresNothing: one that was away for longer than it holds a
// webhook, and comes back in the middle of a delivery, moves no cursor that is
// another's now.
func TestAStalledBrokerStoresNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, ia, ib := newMemory(), &inbox{}, &inbox{}
		stalled := &crashing{memory: m}
		a := start(stalled, Options{Holder: "a"}, ia, func() {})
		defer a.Close()
		a.make(t)
		wake := make(chan struct{})
		ia.say(func(message) attempt {
			<-wake
			return attempt{outcome: delivered, status: 200}
		})
		first := m.happen("acme", created, nil)
		after(2 * time.Second)
		stalled.crash()
		b := start(m, Options{Holder: "b"}, ib, func() {})
		defer b.Close()
		ib.say(fails)
		after(holdFor + holdEvery)
		stalled.revive()
		close(wake)
		after(time.Second)
		if got := m.hook(t); got.GetCursor() >= first || got.GetState() != brokerv1.WebhookState_WEBHOOK_STATE_FAILING {
			t.Errorf("it stands at %v", got)
		}
		ib.say(nil)
		after(10 * time.Minute)
		if got := m.hook(t).GetCursor(); got != first {
			t.Errorf("it stands at %s, want %s", got, first)
		}
	})
}

// TestAStalledBrokerDeliversNoMore: once it comes back it leaves the webhook to the
// one that holds it now, also what that one is in the middle of.
func TestAStalledBrokerDeliversNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, ia, ib := newMemory(), &inbox{}, &inbox{}
		stalled := &crashing{memory: m}
		a := start(stalled, Options{Holder: "a"}, ia, func() {})
		defer a.Close()
		a.make(t)
		wake, taken := make(chan struct{}), make(chan struct{})
		until := func(c chan struct{}) func(message) attempt {
			return func(message) attempt {
				<-c
				return attempt{outcome: delivered, status: 200}
			}
		}
		ia.say(until(wake))
		first := m.happen("acme", created, nil)
		after(2 * time.Second)
		stalled.crash()
		b := start(m, Options{Holder: "b"}, ib, func() {})
		defer b.Close()
		after(holdFor + holdEvery)
		ib.expect(t, first)
		ib.say(until(taken))
		second := m.happen("acme", deleted, nil)
		after(2 * time.Second)
		stalled.revive()
		close(wake)
		after(time.Second) // before it learns in its turn what it holds
		ia.expect(t, first)
		close(taken)
		after(2 * time.Second)
		ib.expect(t, first, second)
		if got := m.hook(t).GetCursor(); got != second {
			t.Errorf("it stands at %s, want %s", got, second)
		}
	})
}
