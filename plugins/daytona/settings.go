package daytona

import (
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/daytona/api"
	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// settings are what an operator may choose.
type settings struct {
	baseURL, key string
	// snapshot and target are for sandboxes that name none; empty: the vendor's.
	snapshot, target string
	// ttl is after which the vendor destroys a sandbox whatever happens; 0: never.
	ttl time.Duration
	// settleAfter is how long a request without an answer may still take effect.
	settleAfter time.Duration
}

// defaultSettleAfter is far longer than the half minute after which the vendor
// answers at the latest.
const defaultSettleAfter = 5 * time.Minute

func declaredSettings() []*providerv1.Setting {
	text, duration := providerv1.SettingType_SETTING_TYPE_STRING, providerv1.SettingType_SETTING_TYPE_DURATION
	return []*providerv1.Setting{
		{Name: "api_key", Type: text, Secret: true, Required: true, Description: "API key of the vendor's, with the right to write and to delete sandboxes."},
		{Name: "base_url", Type: text, Description: "Where the vendor's API is; default " + api.DefaultBaseURL + "."},
		{Name: "default_snapshot", Type: text, Description: "Snapshot of sandboxes that name no template; default: the vendor's."},
		{Name: "default_target", Type: text, Description: "Region of sandboxes that name none, such as us; default: the organization's."},
		{Name: "ttl", Type: duration, Description: "After which the vendor destroys a sandbox whatever happens, in whole minutes; default: never."},
		{Name: "settle_after", Type: duration, Description: "How long a request without an answer may still take effect at the vendor; default 5m."},
	}
}

func readSettings(req *providerv1.ConfigureRequest) (settings, error) {
	f := req.GetSettings().GetFields()
	s := settings{
		baseURL: f["base_url"].GetStringValue(), snapshot: f["default_snapshot"].GetStringValue(), target: f["default_target"].GetStringValue(),
		key: strings.TrimSpace(string(req.GetSecrets()["api_key"])), settleAfter: defaultSettleAfter,
	}
	if s.baseURL == "" {
		s.baseURL = api.DefaultBaseURL
	}
	if err := upstream.CheckURL("settings.base_url", s.baseURL, api.DefaultBaseURL); err != nil {
		return s, err
	}
	if err := upstream.CheckToken("secrets.api_key", s.key); err != nil {
		return s, err
	}
	if text := f["settle_after"].GetStringValue(); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < time.Second {
			return s, fault.Field("settings.settle_after", text, "want a duration of 1s or more, such as 5m")
		}
		s.settleAfter = d
	}
	if text := f["ttl"].GetStringValue(); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < time.Minute || d%time.Minute != 0 {
			return s, fault.Field("settings.ttl", text, "want whole minutes, such as 24h")
		}
		s.ttl = d
	}
	return s, nil
}
