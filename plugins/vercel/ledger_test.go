package vercel

import (
	"testing"
	"time"
)

func TestLedger(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	dir := t.TempDir()
	open := func() *ledger {
		l, err := openLedger(dir, time.Minute, clock)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	first := open()
	for _, key := range []string{"ANSWERED", "LOST"} {
		if err := first.begin(key); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.end("ANSWERED"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(20 * time.Second)
	for name, l := range map[string]*ledger{"the same": first, "the next process's": open()} {
		for key, want := range map[string]time.Duration{"ANSWERED": 0, "LOST": 40 * time.Second, "NEVER": 0} {
			if got := l.wait(key); got != want {
				t.Errorf("%s ledger says %s for %s: want %s", name, got, key, want)
			}
		}
	}
	t.Log("a request that is repeated counts from then on")
	if err := first.begin("LOST"); err != nil {
		t.Fatal(err)
	}
	if got := open().wait("LOST"); got != time.Minute {
		t.Errorf("it may take effect for %s: want a minute", got)
	}
	now = now.Add(time.Minute)
	if got := first.wait("LOST"); got != 0 {
		t.Errorf("after its time it may take effect for %s", got)
	}
	now = now.Add(-time.Minute) // it is forgotten, and not only over
	if got := open().wait("LOST"); got != 0 {
		t.Errorf("it is remembered, for %s", got)
	}
}

func TestLedgerWithoutAFolder(t *testing.T) {
	l, err := openLedger("", time.Minute, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.begin("KEY"); err != nil {
		t.Fatal(err)
	}
	if l.wait("KEY") <= 0 {
		t.Error("a key under way is not remembered")
	}
	if err := l.end("KEY"); err != nil || l.wait("KEY") != 0 {
		t.Errorf("a key that was answered is remembered, %v", err)
	}
}
