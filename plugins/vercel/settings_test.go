package vercel

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestSettings(t *testing.T) {
	read := func(change map[string]any, token string) (settings, error) {
		all := map[string]any{"team_id": "team_1", "project_id": "prj_1"}
		for name, value := range change {
			all[name] = value
		}
		values, err := structpb.NewStruct(all)
		if err != nil {
			t.Fatal(err)
		}
		return readSettings(&providerv1.ConfigureRequest{Settings: values, Secrets: map[string][]byte{"token": []byte(token)}})
	}
	s, err := read(nil, "secret\n")
	if err != nil || s.baseURL != "https://api.vercel.com" || s.token != "secret" || s.lifetime != 45*time.Minute || s.settleAfter != 5*time.Minute {
		t.Errorf("the defaults are %+v, %v", s, err)
	}
	for _, tc := range []struct {
		name, field string
		change      map[string]any
		token       string
	}{
		{"no encryption", "settings.base_url", map[string]any{"base_url": "http://api.vercel.com"}, "x"},
		{"no encryption to a name that looks local", "settings.base_url", map[string]any{"base_url": "http://localhost.example.com"}, "x"},
		{"no address", "settings.base_url", map[string]any{"base_url": "api.vercel.com"}, "x"},
		{"a password in the address", "settings.base_url", map[string]any{"base_url": "https://me:pw@api.vercel.com"}, "x"},
		{"a query", "settings.base_url", map[string]any{"base_url": "https://api.vercel.com/?"}, "x"},
		{"a fragment", "settings.base_url", map[string]any{"base_url": "https://api.vercel.com/#here"}, "x"},
		{"no team", "settings.team_id", map[string]any{"team_id": ""}, "x"},
		{"no project", "settings.project_id", map[string]any{"project_id": ""}, "x"},
		{"a token of two lines", "secrets.token", nil, "a\nb"},
		{"no lifetime", "settings.default_lifetime", map[string]any{"default_lifetime": "10ms"}, "x"},
		{"no time to settle", "settings.settle_after", map[string]any{"settle_after": "0s"}, "x"},
	} {
		_, err := read(tc.change, tc.token)
		f := fault.From(err)
		if f == nil || f.Reason != providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID || f.Metadata[fault.MetaField] != tc.field {
			t.Errorf("%s: %v: want FIELD_INVALID of %s", tc.name, err, tc.field)
		}
	}
	for _, here := range []string{"http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost:8080/api", "https://vercel.com/api"} {
		if _, err := read(map[string]any{"base_url": here}, "x"); err != nil {
			t.Errorf("%s: %v", here, err)
		}
	}
}

func TestVirtualCPUs(t *testing.T) {
	for millis, want := range map[int64]int64{1000: 1, 2000: 2, 8000: 8, 1500: 0, 3000: 0, 500: 0} {
		got, err := virtualCPUs(millis)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%d: %d, %v: want %d", millis, got, err, want)
		}
	}
}
