package vercel

import (
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/plugins/vercel/api"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// settings are what an operator may choose.
type settings struct {
	baseURL, team, project, token string
	// image is for sandboxes that name none; empty: the vendor's default.
	image string
	// lifetime is for sandboxes that name none.
	lifetime time.Duration
	// settleAfter is how long a request without an answer may still take effect.
	settleAfter time.Duration
}

const (
	// defaultLifetime is the most that every plan of the vendor's allows.
	defaultLifetime = 45 * time.Minute
	// defaultSettleAfter is longer than the vendor's own functions run by default.
	defaultSettleAfter = 5 * time.Minute
)

func declaredSettings() []*providerv1.Setting {
	text, duration := providerv1.SettingType_SETTING_TYPE_STRING, providerv1.SettingType_SETTING_TYPE_DURATION
	return []*providerv1.Setting{
		{Name: "token", Type: text, Secret: true, Required: true, Description: "Access token of the vendor's, limited to the team."},
		{Name: "team_id", Type: text, Required: true, Description: "Team that the sandboxes are billed to, such as team_abc."},
		{Name: "project_id", Type: text, Required: true, Description: "Project that the sandboxes belong to, such as prj_abc; one that has nothing else is best."},
		{Name: "base_url", Type: text, Description: "Where the vendor's API is; default " + api.DefaultBaseURL + "."},
		{Name: "default_image", Type: text, Description: "Image or runtime of sandboxes that name none; default: the vendor's."},
		{Name: "default_lifetime", Type: duration, Description: "How long a sandbox lives that names no lifetime; default 45m, which every plan allows."},
		{Name: "settle_after", Type: duration, Description: "How long a request without an answer may still take effect at the vendor; default 5m."},
	}
}

func readSettings(req *providerv1.ConfigureRequest) (settings, error) {
	f := req.GetSettings().GetFields()
	s := settings{
		baseURL: f["base_url"].GetStringValue(), team: f["team_id"].GetStringValue(), project: f["project_id"].GetStringValue(),
		image: f["default_image"].GetStringValue(), token: strings.TrimSpace(string(req.GetSecrets()["token"])),
		lifetime: defaultLifetime, settleAfter: defaultSettleAfter,
	}
	if s.baseURL == "" {
		s.baseURL = api.DefaultBaseURL
	}
	if err := upstream.CheckURL("settings.base_url", s.baseURL, api.DefaultBaseURL); err != nil {
		return s, err
	}
	for name, value := range map[string]string{"team_id": s.team, "project_id": s.project} {
		if value == "" {
			return s, fault.Field("settings."+name, "", "want the vendor's id of it")
		}
	}
	if err := upstream.CheckToken("secrets.token", s.token); err != nil {
		return s, err
	}
	for name, to := range map[string]*time.Duration{"default_lifetime": &s.lifetime, "settle_after": &s.settleAfter} {
		text := f[name].GetStringValue()
		if text == "" {
			continue
		}
		d, err := time.ParseDuration(text)
		if err != nil || d < time.Second {
			return s, fault.Field("settings."+name, text, "want a duration of 1s or more, such as 45m")
		}
		*to = d
	}
	return s, nil
}
