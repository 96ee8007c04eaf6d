package telemetry_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/broker/telemetry"
)

const startExec = "/sandbar.provider.v1.ProviderService/StartExec"

// TestActivity: what happened within a minute is told by provider and kind, and
// what is older is not.
func TestActivity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, ctx := telemetry.Discard(), t.Context()
		if window, all := m.Activity(); window != 0 || len(all) != 0 {
			t.Errorf("at first there is %v in %s", all, window)
		}
		bad := errors.New("bad")
		for range 10 {
			m.Operation(ctx, "a", telemetry.Create, 80*time.Millisecond, nil)
		}
		m.Operation(ctx, "a", telemetry.Fork, 4*time.Second, nil)
		m.Operation(ctx, "a", telemetry.Restore, time.Second, bad)
		m.Operation(ctx, "a", telemetry.Delete, 10*time.Millisecond, nil)
		m.Operation(ctx, "b", telemetry.Pause, time.Second, bad)
		m.Call(ctx, "b", startExec, 3*time.Millisecond, nil)
		m.Call(ctx, "b", startExec, time.Millisecond, bad)
		m.Call(ctx, "b", "/sandbar.provider.v1.ProviderService/GetSandbox", time.Millisecond, nil)
		s := m.Stream(ctx, "b", telemetry.ExecStream)
		m.Stream(ctx, "b", telemetry.FileStream).Close()
		time.Sleep(10 * time.Second)
		window, got := m.Activity()
		if window != 10*time.Second {
			t.Errorf("it is about %s", window)
		}
		// 11 creations: rank 5.5 of 10 in (50, 100] ms; rank 10.45, the one in (2.5, 5] s.
		want := map[string]telemetry.Activity{
			"a": {
				Creates: telemetry.Tally{OK: 11, Failed: 1, P50: 77500 * time.Microsecond, P95: 3625 * time.Millisecond},
				Changes: telemetry.Tally{OK: 1, P50: 7500 * time.Microsecond, P95: 9750 * time.Microsecond},
			},
			"b": {
				Changes: telemetry.Tally{Failed: 1},
				Starts:  telemetry.Tally{OK: 1, Failed: 1, P50: 3750 * time.Microsecond, P95: 4875 * time.Microsecond}, Streams: 1,
			},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		s.Close()
		time.Sleep(45 * time.Second)
		m.Operation(ctx, "a", telemetry.Create, 10*time.Hour, nil)
		if window, got = m.Activity(); window != 55*time.Second || got["a"].Creates.OK != 12 || got["a"].Creates.P95 != time.Hour {
			t.Errorf("after 55 s there is %+v in %s", got, window)
		}
		time.Sleep(6 * time.Second)
		if window, got = m.Activity(); window != 56*time.Second || got["a"].Creates.OK != 1 || got["b"].Streams != 0 || got["b"].Starts != (telemetry.Tally{}) {
			t.Errorf("after 61 s there is %+v in %s", got, window)
		}
		time.Sleep(time.Hour)
		if window, got = m.Activity(); window < 55*time.Second || window > time.Minute || got["a"].Creates != (telemetry.Tally{}) {
			t.Errorf("after an hour there is %+v in %s", got, window)
		}
	})
}
