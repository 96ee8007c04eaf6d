package value_test

import (
	"encoding"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/value"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func parse[T any, P interface {
	*T
	encoding.TextUnmarshaler
}](in string) (T, error) {
	var v T
	err := P(&v).UnmarshalText([]byte(in))
	return v, err
}

func TestSize(t *testing.T) {
	for in, want := range map[string]value.Size{
		"1": 1, "512MiB": 512 << 20, "512m": 512 << 20, "1.5GiB": 3 << 29, "1GB": 1e9, "2 KiB": 2048, "1T": 1 << 40,
	} {
		if got, err := parse[value.Size](in); err != nil || got != want {
			t.Errorf("%q = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "5x", "-1", "0", "1e30", "1.2.3MiB", "9999999T", "NaN", "MiB"} {
		if got, err := parse[value.Size](in); err == nil {
			t.Errorf("%q = %d, want an error", in, got)
		}
	}
}

func TestPort(t *testing.T) {
	for in, want := range map[string]value.Port{"1": 1, "8000": 8000, "65535": 65535} {
		if got, err := parse[value.Port](in); err != nil || got != want {
			t.Errorf("%q = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "-1", "65536", "80:90", "http"} {
		if got, err := parse[value.Port](in); err == nil {
			t.Errorf("%q = %d, want an error", in, got)
		}
	}
}

func TestCPU(t *testing.T) {
	for in, want := range map[string]value.CPU{"0.5": 500, "2": 2000, "0.001": 1} {
		if got, err := parse[value.CPU](in); err != nil || got != want {
			t.Errorf("%q = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "-1", "two", "NaN", "Inf", "1e12"} {
		if got, err := parse[value.CPU](in); err == nil {
			t.Errorf("%q = %d, want an error", in, got)
		}
	}
}

func TestGPU(t *testing.T) {
	for in, want := range map[string]value.GPU{
		"1": {Count: 1}, "8": {Count: 8}, "H100": {Kind: "H100", Count: 1}, "H100:2": {Kind: "H100", Count: 2}, "nvidia-l4:1": {Kind: "nvidia-l4", Count: 1},
	} {
		if got, err := parse[value.GPU](in); err != nil || got != want {
			t.Errorf("%q = %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "-1", ":", ":2", "H100:", "H100:0", "H100:two", "H100:1:2", "99999999999"} {
		if got, err := parse[value.GPU](in); err == nil {
			t.Errorf("%q = %+v, want an error", in, got)
		}
	}
}

func TestDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{"90s": 90 * time.Second, "7d": 168 * time.Hour, "1h30m": 90 * time.Minute} {
		if got, err := parse[value.Duration](in); err != nil || time.Duration(got) != want {
			t.Errorf("%q = %v, %v; want %v", in, time.Duration(got), err, want)
		}
	}
	for _, in := range []string{"", "0", "0s", "-1s", "5", "d", "soon"} {
		if got, err := parse[value.Duration](in); err == nil {
			t.Errorf("%q = %v, want an error", in, time.Duration(got))
		}
	}
}

func TestHostMount(t *testing.T) {
	const none, ro, overlay = providerv1.MountMode_MOUNT_MODE_UNSPECIFIED, providerv1.MountMode_MOUNT_MODE_RO, providerv1.MountMode_MOUNT_MODE_OVERLAY
	for in, want := range map[string]value.HostMount{
		".:/src":                 {Source: ".", Target: "/src", Mode: none},
		"/a b:/c d:ro":           {Source: "/a b", Target: "/c d", Mode: ro},
		"/with:colon:/x:overlay": {Source: "/with:colon", Target: "/x", Mode: overlay},
		"/a:/b/":                 {Source: "/a", Target: "/b", Mode: none},
	} {
		got, err := parse[value.HostMount](in)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", in, err, diff)
		}
	}
	for in, says := range map[string]string{
		"": "is not a mount", "/a": "is not a mount", "/a:b": "is not a mount", "/a:/b:rx": "ro, rw or overlay", ":/b": "is not a mount",
	} {
		if _, err := parse[value.HostMount](in); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", in, err, says)
		}
	}
}

func TestVolumeMount(t *testing.T) {
	got, err := parse[value.VolumeMount]("cache:/var/cache")
	want := value.VolumeMount{Name: "cache", Target: "/var/cache", Mode: providerv1.MountMode_MOUNT_MODE_RW}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, in := range []string{"cache", "/host:/x", "cache:/x:overlay", "cache:x"} {
		if got, err := parse[value.VolumeMount](in); err == nil {
			t.Errorf("%q = %v, want an error", in, got)
		}
	}
}

func TestLocation(t *testing.T) {
	for in, want := range map[string]value.Location{
		"-":           {Path: "-"},
		"a/b":         {Path: "a/b"},
		"sb:/a/../b":  {Sandbox: "sb", Path: "/b"},
		"sb:/a/":      {Sandbox: "sb", Path: "/a", Folder: true},
		"sb:/a/.":     {Sandbox: "sb", Path: "/a", Contents: true},
		"./a:b":       {Path: "./a:b"},
		"/x/sb:/y":    {Path: "/x/sb:/y"},
		"dir/.":       {Path: "dir/.", Contents: true},
		"sb:/name ü/": {Sandbox: "sb", Path: "/name ü", Folder: true},
	} {
		got, err := parse[value.Location](in)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", in, err, diff)
		}
	}
	for _, in := range []string{"", "sb:", "sb:rel"} {
		if got, err := parse[value.Location](in); err == nil {
			t.Errorf("%q = %+v, want an error", in, got)
		}
	}
}

func TestEnvFile(t *testing.T) {
	lookup := func(name string) (string, bool) { return "ours", name == "OURS" }
	got := map[string]string{}
	if err := value.EnvFile(got, strings.NewReader("# no\n\nA=1\n  B=x=y \nOURS\nABSENT\nA=2\n"), lookup); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"A": "2", "B": "x=y ", "OURS": "ours"}, got); diff != "" {
		t.Error(diff)
	}
	err := value.EnvFile(got, strings.NewReader("A=1\nbad name=2\n"), lookup)
	if err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("err = %v, want it to name line 2", err)
	}
}

func TestMoney(t *testing.T) {
	for in, want := range map[string]value.Money{
		"25": {Micros: 25_000_000, Currency: "USD"}, "0.50EUR": {Micros: 500_000, Currency: "EUR"}, "100 CHF": {Micros: 100_000_000, Currency: "CHF"},
	} {
		if got, err := parse[value.Money](in); err != nil || got != want {
			t.Errorf("%q = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "-1", "1e3", "USD", "5 dollars", "0.0000001", "1,5"} {
		if got, err := parse[value.Money](in); err == nil {
			t.Errorf("%q = %v, want an error", in, got)
		}
	}
}

func TestMaxPrice(t *testing.T) {
	for in, want := range map[string]value.MaxPrice{
		"0.05/h": {NanosPerHour: 50_000_000, Currency: "USD"}, "1 EUR/h": {NanosPerHour: 1_000_000_000, Currency: "EUR"},
	} {
		if got, err := parse[value.MaxPrice](in); err != nil || got != want {
			t.Errorf("%q = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0.05", "0/h", "0.05/m", "-1/h", "/h", "x/h"} {
		if got, err := parse[value.MaxPrice](in); err == nil {
			t.Errorf("%q = %v, want an error", in, got)
		}
	}
}

func TestHours(t *testing.T) {
	for in, want := range map[string]value.Hours{"100": 360_000, "1.5": 5400} {
		if got, err := parse[value.Hours](in); err != nil || got != want {
			t.Errorf("%q = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "-1", "NaN", "1h", "1e10"} {
		if got, err := parse[value.Hours](in); err == nil {
			t.Errorf("%q = %d, want an error", in, got)
		}
	}
}
