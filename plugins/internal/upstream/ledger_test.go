package upstream

import (
	"testing"
	"time"
)

func TestLedger(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	dir := t.TempDir()
	open := func() *Ledger {
		l, err := OpenLedger(dir, time.Minute, clock)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	first := open()
	for _, key := range []string{"ANSWERED", "LOST"} {
		if err := first.Begin(key); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.End("ANSWERED"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(20 * time.Second)
	for name, l := range map[string]*Ledger{"the same": first, "the next process's": open()} {
		for key, want := range map[string]time.Duration{"ANSWERED": 0, "LOST": 40 * time.Second, "NEVER": 0} {
			if got := l.Wait(key); got != want {
				t.Errorf("%s ledger says %s for %s: want %s", name, got, key, want)
			}
		}
	}
	t.Log("a request that is repeated counts from then on")
	if err := first.Begin("LOST"); err != nil {
		t.Fatal(err)
	}
	if got := open().Wait("LOST"); got != time.Minute {
		t.Errorf("it may take effect for %s: want a minute", got)
	}
	now = now.Add(time.Minute)
	if got := first.Wait("LOST"); got != 0 {
		t.Errorf("after its time it may take effect for %s", got)
	}
	now = now.Add(-time.Minute) // it is forgotten, and not only over
	if got := open().Wait("LOST"); got != 0 {
		t.Errorf("it is remembered, for %s", got)
	}
}

func TestLedgerWithoutAFolder(t *testing.T) {
	l, err := OpenLedger("", time.Minute, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Begin("KEY"); err != nil {
		t.Fatal(err)
	}
	if l.Wait("KEY") <= 0 {
		t.Error("a key under way is not remembered")
	}
	if err := l.End("KEY"); err != nil || l.Wait("KEY") != 0 {
		t.Errorf("a key that was answered is remembered, %v", err)
	}
}
