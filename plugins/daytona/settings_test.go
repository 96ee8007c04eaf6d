package daytona

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestSettings(t *testing.T) {
	read := func(change map[string]any, token string) (settings, error) {
		all := map[string]any{}
		for name, value := range change {
			all[name] = value
		}
		values, err := structpb.NewStruct(all)
		if err != nil {
			t.Fatal(err)
		}
		return readSettings(&providerv1.ConfigureRequest{Settings: values, Secrets: map[string][]byte{"api_key": []byte(token)}})
	}
	s, err := read(nil, "secret\n")
	if err != nil || s.baseURL != "https://app.daytona.io/api" || s.key != "secret" || s.ttl != 0 || s.settleAfter != 5*time.Minute {
		t.Errorf("the defaults are %+v, %v", s, err)
	}
	for _, tc := range []struct {
		name, field string
		change      map[string]any
		token       string
	}{
		{"no encryption", "settings.base_url", map[string]any{"base_url": "http://app.daytona.io"}, "x"},
		{"no encryption to a name that looks local", "settings.base_url", map[string]any{"base_url": "http://localhost.example.com"}, "x"},
		{"no address", "settings.base_url", map[string]any{"base_url": "app.daytona.io"}, "x"},
		{"a password in the address", "settings.base_url", map[string]any{"base_url": "https://me:pw@app.daytona.io"}, "x"},
		{"a key of two lines", "secrets.api_key", nil, "a\nb"},
		{"half a minute", "settings.ttl", map[string]any{"ttl": "90s"}, "x"},
		{"no time to live", "settings.ttl", map[string]any{"ttl": "0s"}, "x"},
		{"no time to settle", "settings.settle_after", map[string]any{"settle_after": "0s"}, "x"},
	} {
		_, err := read(tc.change, tc.token)
		f := fault.From(err)
		if f == nil || f.Reason != providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID || f.Metadata[fault.MetaField] != tc.field {
			t.Errorf("%s: %v: want FIELD_INVALID of %s", tc.name, err, tc.field)
		}
	}
	for _, here := range []string{"http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost:8080/api", "https://app.daytona.io/api"} {
		if _, err := read(map[string]any{"base_url": here}, "x"); err != nil {
			t.Errorf("%s: %v", here, err)
		}
	}
}
