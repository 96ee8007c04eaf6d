package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sandbar-dev/sandbar/broker/authn"
	"github.com/sandbar-dev/sandbar/broker/config"
	"github.com/sandbar-dev/sandbar/broker/price"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

func TestEverythingIsOptional(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "{}\n", "log:\n"} {
		c, err := config.Parse("c.yaml", []byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if c.DefaultProvider() != "local" {
			t.Errorf("%q: default provider %q, want local", text, c.DefaultProvider())
		}
	}
}

func TestWholeFile(t *testing.T) {
	text := `
listen: {unix: /run/s.sock, tcp: "127.0.0.1:7300", tls: {cert: /c, key: /k}}
state_dir: /var/lib/sandbar
runtime_dir: /run/sandbar
database: {url: "postgres://sandbar@db/sandbar", password: {env: PGPASS}, shared: true}
sealing: {key: {env: SEALING_KEY}, previous_key: {file: /etc/old.key}}
plugin_dirs: [/opt/plugins]
providers:
  - name: local
    shared: true
  - name: modal
    shared: true
    default: true
    settings: {region: eu, size: 3, list: [a]}
    secrets: {token: {env: MODAL_TOKEN}, other: {file: /etc/token}}
    price: {currency: USD, basis: usage-dependent, cpu_second: 0.0000131, memory_gib_hour: 0.008, start: 0.001, gpu_hour: {H100: 3.95}, paused_disk_gib_hour: "0"}
    assumed: {cpu_millis: 125, memory_bytes: 134217728}
    weight: 0
    labels: {tier: paid, gdpr: "yes"}
    region: eu
defaults: {lifetime: 24h, idle: {timeout: 10m, action: pause}}
reaper: {grace: 15m, interval: 1m}
log: {level: debug, format: json}
telemetry: {prometheus: {listen: "127.0.0.1:9464"}, traces: {endpoint: "http://127.0.0.1:4318", sample_percent: 0}}
webhooks: {allow_http: true, allow_networks: [10.1.0.0/16, "fd00::/8"]}
api_keys:
  - {name: ci, sha256: "` + sum + `"}
`
	got, err := config.Parse("c.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := &config.Config{
		Listen:   config.Listen{Unix: "/run/s.sock", TCP: "127.0.0.1:7300", TLS: config.TLS{Cert: "/c", Key: "/k"}},
		StateDir: "/var/lib/sandbar", RuntimeDir: "/run/sandbar", PluginDirs: []string{"/opt/plugins"},
		Database: config.Database{URL: "postgres://sandbar@db/sandbar", Password: config.Secret{Env: "PGPASS"}, Shared: true},
		Sealing:  config.Sealing{Key: config.Secret{Env: "SEALING_KEY"}, PreviousKey: config.Secret{File: "/etc/old.key"}},
		Providers: []config.Provider{{Name: "local", Shared: true}, {
			Name: "modal", Default: true, Shared: true, Settings: map[string]any{"region": "eu", "size": 3, "list": []any{"a"}},
			Secrets: map[string]config.Secret{"token": {Env: "MODAL_TOKEN"}, "other": {File: "/etc/token"}},
			Price: &config.Price{
				Currency: "USD", Basis: "usage-dependent", CPUSecond: "0.0000131", MemoryGiBHour: "0.008", Start: "0.001",
				GPUHour: map[string]string{"H100": "3.95"}, PausedDiskGiBHour: "0",
			},
			Assumed: config.Assumed{CPUMillis: 125, MemoryBytes: 128 << 20},
			Weight:  new(int), Labels: map[string]string{"tier": "paid", "gdpr": "yes"}, Region: "eu",
		}},
		Defaults: config.Defaults{Lifetime: 24 * time.Hour, Idle: config.Idle{Timeout: 10 * time.Minute, Action: "pause"}},
		Reaper:   config.Reaper{Grace: 15 * time.Minute, Interval: time.Minute},
		Log:      config.Log{Level: "debug", Format: "json"},
		Telemetry: config.Telemetry{
			Prometheus: config.Prometheus{Listen: "127.0.0.1:9464"},
			Traces:     config.Traces{Endpoint: "http://127.0.0.1:4318", Sample: new(int)},
		},
		Webhooks: config.Webhooks{AllowHTTP: true, AllowNetworks: []string{"10.1.0.0/16", "fd00::/8"}},
		APIKeys:  []config.APIKey{{Name: "ci", SHA256: sum}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

var sum = strings.Repeat("ab", 32)

// key is a key of a configuration, on three lines.
var key = "api_keys:\n- name: a\n  sha256: " + sum + "\n"

// TestCallers: what the file says of callers is what is checked, and keys from
// before there were roles are admins of the default tenant.
func TestCallers(t *testing.T) {
	c, err := config.Parse("c.yaml", []byte(key+"- {name: b, sha256: "+sum+", tenant: acme, role: user, scope: [exec, 'label:a=b'], expires: 2027-01-31T00:00:00Z}\n"+
		"oidc:\n- {issuer: 'https://a', audience: b, tenant_claim: org, tenants: {X: xs}, role_claim: g, roles: {ops: operator}, clock_skew: 1m}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []authn.ConfiguredKey{
		{Name: "a", Hash: sum, Tenant: "default", Role: brokerv1.Role_ROLE_ADMIN},
		{
			Name: "b", Hash: sum, Tenant: "acme", Role: brokerv1.Role_ROLE_USER, Expires: time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC),
			Scope: &brokerv1.Scope{Permissions: []string{"exec"}, Labels: map[string]string{"a": "b"}},
		},
	}
	for i, k := range c.APIKeys {
		got, err := k.Key()
		if diff := cmp.Diff(want[i], got, protocmp.Transform()); diff != "" || err != nil {
			t.Errorf("%v: -want +got:\n%s", err, diff)
		}
	}
	issuer, err := c.OIDC[0].Trusted()
	if diff := cmp.Diff(authn.Issuer{
		URL: "https://a", Audience: "b", Skew: time.Minute, TenantClaim: "org", Tenants: map[string]string{"X": "xs"},
		RoleClaim: "g", Roles: map[string]brokerv1.Role{"ops": brokerv1.Role_ROLE_OPERATOR},
	}, issuer); diff != "" || err != nil {
		t.Errorf("%v: -want +got:\n%s", err, diff)
	}
	if diff := cmp.Diff([]string{"acme", "default", "xs"}, c.Tenants()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestErrorsNameFileLineFieldValueAndRemedy(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"unknown key", "log:\n  levle: info\n", `c.yaml:2: log.levle is not a setting: want one of format, level`},
		{"unknown at top", "\nlistn: {}\n", `c.yaml:2: listn is not a setting: want one of api_keys, database, defaults, listen, log, oidc, placement, plugin_dirs, providers, reaper, runtime_dir, sealing, state_dir, telemetry, webhooks`},
		{"duration", "defaults:\n  lifetime: 24\n", `c.yaml:2: defaults.lifetime is "24": want a time such as 90s, 15m or 24h`},
		{"list", "providers: local\n", `c.yaml:1: providers is "local": want a list`},
		{"boolean", "providers:\n- name: a\n  default: maybe\n", `c.yaml:3: providers[0].default is "maybe": want true or false`},
		{"level", "log: {level: loud}\n", `c.yaml:1: log.level is "loud": want one of ["debug" "info" "warn" "error"]`},
		{"weight", "providers:\n- name: a\n  weight: heavy\n", `c.yaml:3: providers[0].weight is "heavy": want a whole number`},
		{"weight below", "providers:\n- name: a\n  weight: -1\n", `c.yaml:3: providers[0].weight is "-1": want 0 to 10000`},
		{"currency", "providers:\n- name: a\n  price: {currency: dollars, basis: deterministic}\n", `c.yaml:3: providers[0].price.currency is "dollars": want three capital letters, such as USD`},
		{"no currency", "providers:\n- name: a\n  price: {basis: deterministic}\n", `c.yaml:3: providers[0].price.currency is missing: want three capital letters, such as USD`},
		{"no basis", "providers:\n- name: a\n  price:\n    currency: USD\n", `c.yaml:4: providers[0].price.basis is missing: want one of ["deterministic" "plan-dependent" "usage-dependent"]`},
		{"basis", "providers:\n- name: a\n  price:\n    currency: USD\n    basis: guess\n", `c.yaml:5: providers[0].price.basis is "guess": want one of ["deterministic" "plan-dependent" "usage-dependent"]`},
		{"price", "providers:\n- name: a\n  price:\n    currency: USD\n    basis: deterministic\n    cpu_hour: 5c\n", `c.yaml:6: providers[0].price.cpu_hour cannot be: "5c" is not an amount; write digits with a point, such as 0.05`},
		{"price of a GPU", "providers:\n- name: a\n  price:\n    currency: USD\n    basis: deterministic\n    gpu_hour: {T4: -1}\n", `c.yaml:6: providers[0].price.gpu_hour.T4 cannot be: "-1" is not an amount; write digits with a point, such as 0.05`},
		{"two prices", "providers:\n- name: a\n  price:\n    currency: USD\n    basis: deterministic\n    cpu_hour: 1\n    cpu_second: 1\n", `c.yaml:7: providers[0].price.cpu_second is there beside cpu_hour: want one of them`},
		{"assumed", "providers:\n- name: a\n  assumed: {cpu_millis: -1}\n", `c.yaml:3: providers[0].assumed.cpu_millis is "-1": want an amount, or 0 if nobody knows`},
		{"label", "providers:\n- name: a\n  labels: {'a b': c}\n", `c.yaml:3: providers[0].labels.a b is "c": want a key of 1 to 63 letters, digits and . _ / -`},
		{"name", "providers:\n- name: Local!\n", `c.yaml:2: providers[0].name is "Local!": want a name that matches [a-z][a-z0-9-]{0,31}`},
		{"no name", "providers:\n- default: true\n", `c.yaml:2: providers[0].name is missing: want the name of a provider, such as local`},
		{"twice", "providers:\n- name: a\n- name: a\n", `c.yaml:3: providers[1].name is "a": want each provider once`},
		{"two keys", "state_dir: /a\nstate_dir: /b\n", `c.yaml:2: state_dir is set twice: want it once`},
		{"relative", "state_dir: here\n", `c.yaml:1: state_dir is "here": want an absolute path`},
		{"secret", "providers:\n- name: a\n  secrets:\n    t: {}\n", `c.yaml:4: providers[0].secrets.t needs exactly one of env and file`},
		{"hash", "api_keys:\n- name: a\n  sha256: abc\n", `c.yaml:3: api_keys[0].sha256 is "abc": want the SHA-256 of the key, 64 hex digits`},
		{"metrics", "telemetry: {prometheus: {listen: '9464'}}\n", `c.yaml:1: telemetry.prometheus.listen is "9464": want host:port, such as 127.0.0.1:9464`},
		{"traces", "telemetry: {traces: {endpoint: 'collector:4317'}}\n", `c.yaml:1: telemetry.traces.endpoint is "collector:4317": want a URL such as http://127.0.0.1:4318`},
		{"password", "telemetry: {traces: {endpoint: 'http://me:hush@c:1'}}\n", `c.yaml:1: telemetry.traces.endpoint has a user in it, and every plugin is told it: want a collector beside the broker, which knows the password`},
		{"sample", "telemetry: {traces: {sample_percent: 101}}\n", `c.yaml:1: telemetry.traces.sample_percent is "101": want 0 to 100`},
		{"network", "webhooks: {allow_networks: [10.1.2.3/8]}\n", `c.yaml:1: webhooks.allow_networks[0] is "10.1.2.3/8": want a network such as 10.1.0.0/16 or fd00:1::/64`},
		{"tenant of a key", key + "  tenant: Acme\n", `c.yaml:4: api_keys[0].tenant is "Acme": want up to 31 lower-case letters, digits and dashes, the first not a dash`},
		{"role of a key", key + "  role: king\n", `c.yaml:4: api_keys[0].role is "king": want one of ["admin" "operator" "user" "auditor"]`},
		{"scope of a key", key + "  scope: [exec, fly]\n", `c.yaml:4: api_keys[0].scope cannot be: "fly" is not a permission: want one of activity, cost, exec, file, host, key, port, provider, sandbox, server, tenant, volume, webhook, or one with :read or :write`},
		{"end of a key", key + "  expires: tomorrow\n", `c.yaml:4: api_keys[0].expires is "tomorrow": want a time such as 2027-01-31T00:00:00Z`},
		{"issuer", "oidc:\n- {issuer: 'http://a.example', audience: b, tenant: c, role: user}\n", `c.yaml:2: oidc[0].issuer is "http://a.example": want an https address, as the tokens have it; http is for this machine only`},
		{"audience", "oidc:\n- {issuer: 'http://localhost:1', tenant: c, role: user}\n", `c.yaml:2: oidc[0].audience is missing: want what the issuer's tokens for this broker have as audience, or tokens for anybody would do`},
		{"algorithm", "oidc:\n- {issuer: 'https://a', audience: b, tenant: c, role: user, algorithms: [HS256]}\n", `c.yaml:2: oidc[0].algorithms[0] is "HS256": want one of ["RS256" "RS384" "RS512" "ES256" "ES384" "ES512" "PS256" "PS384" "PS512" "EdDSA"]`},
		{"no tenant", "oidc:\n- {issuer: 'https://a', audience: b, role: user}\n", `c.yaml:2: oidc[0] needs exactly one of tenant and tenant_claim`},
		{"no role", "oidc:\n- {issuer: 'https://a', audience: b, tenant: c, role_claim: g}\n", `c.yaml:2: oidc[0] gives nobody a role: want role, or role_claim with roles`},
		{"mapped role", "oidc:\n- {issuer: 'https://a', audience: b, tenant: c, role_claim: g, roles: {x: boss}}\n", `c.yaml:2: oidc[0].roles.x is "boss": want one of ["admin" "operator" "user" "auditor"]`},
		{"skew", "oidc:\n- {issuer: 'https://a', audience: b, tenant: c, role: user, clock_skew: 1h}\n", `c.yaml:2: oidc[0].clock_skew is "1h0m0s": want at most 10m0s`},
		{"database without scheme", "database: {url: 'host=db password=secret'}\n", `c.yaml:1: database.url cannot be: the URL of PostgreSQL cannot be read: want postgres://user@host:port/database, with special characters in user and password percent-encoded`},
		{"password in a URL", "database:\n  url: postgres://u:secret@db/x\n", `c.yaml:2: database.url has a password in it: want database.password, as {env: NAME} or {file: PATH}`},
		{"shared file", "database:\n  shared: true\nproviders: [{name: a, shared: true}]\n", `c.yaml:2: database.url is missing: want the URL of a PostgreSQL database, such as postgres://sandbar@db.example.com/sandbar`},
		{"two passwords", "database: {url: 'postgres:///x', password: {env: A, file: /b}}\n", `c.yaml:1: database.password needs exactly one of env and file`},
		{"two keys", "sealing:\n  key: {env: A, file: /b}\n", `c.yaml:2: sealing.key needs exactly one of env and file`},
		{"no key", "sealing:\n  previous_key: {env: A}\n", `c.yaml:2: sealing.key is missing: want the key that comes after the previous one, as {env: NAME} or {file: PATH}`},
		{"shared by default", "database: {url: 'postgres:///x', shared: true}\n", `c.yaml:1: database.shared is true: want providers, since the default one, "local", keeps its sandboxes on one machine`},
		{"not everywhere", "database: {url: 'postgres:///x', shared: true}\nproviders:\n- {name: a, shared: true}\n- name: local\n", `c.yaml:4: providers[1].shared is not true, and database.shared is: every broker has to reach the sandboxes of provider "local"; one that keeps them on its own machine needs a broker with a database of its own`},
		{"not yaml", "a: [\n", `c.yaml: yaml: line 1: did not find expected node content`},
		{"scalar", "hello\n", `c.yaml:1: the file is "hello": want keys and values`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := config.Parse("c.yaml", []byte(tc.text))
			if err == nil {
				t.Fatal("accepted")
			}
			if err.Error() != tc.want {
				t.Errorf("got  %s\nwant %s", err, tc.want)
			}
		})
	}
}

// TestAllErrorsAtOnce: every mistake is told, in the order of the file, and
// nothing that only follows from another.
func TestAllErrorsAtOnce(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"values", "log: {level: loud, format: xml}\nstate_dir: a\n", []string{
			`c.yaml:1: log.level is "loud": want one of ["debug" "info" "warn" "error"]`,
			`c.yaml:1: log.format is "xml": want one of ["text" "json"]`,
			`c.yaml:2: state_dir is "a": want an absolute path`,
		}},
		{"names and values", "listen:\n  tcp: \"99\"\nlisten_on: x\nproviders:\n- name: a\n  binary: b\n  setings: {}\n", []string{
			`c.yaml:2: listen.tcp is "99": want host:port, such as 127.0.0.1:7300`,
			`c.yaml:3: listen_on is not a setting: want one of api_keys, database, defaults, listen, log, oidc, placement, plugin_dirs, providers, reaper, runtime_dir, sealing, state_dir, telemetry, webhooks`,
			`c.yaml:6: providers[0].binary is "b": want an absolute path`,
			`c.yaml:7: providers[0].setings is not a setting: want one of assumed, binary, default, labels, name, price, region, secrets, settings, shared, weight`,
		}},
		{"no echoes", "listen: {tcp: 'localhost:1'}\napi_keys: none\nproviders:\n- label: a\n  secrets: {t: {evn: T}}\n- name: [b]\n", []string{
			`c.yaml:2: api_keys is "none": want a list`,
			`c.yaml:4: providers[0].label is not a setting: want one of assumed, binary, default, labels, name, price, region, secrets, settings, shared, weight`,
			`c.yaml:5: providers[0].secrets.t.evn is not a setting: want one of env, file`,
			`c.yaml:6: providers[1].name is a list: want text`,
		}},
		{"keys", "api_keys:\n- {name: a, sha256: abc, rule: x}\n- {nam: b}\n", []string{
			`c.yaml:2: api_keys[0].rule is not a setting: want one of expires, name, role, scope, sha256, tenant`,
			`c.yaml:2: api_keys[0].sha256 is "abc": want the SHA-256 of the key, 64 hex digits`,
			`c.yaml:3: api_keys[1].nam is not a setting: want one of expires, name, role, scope, sha256, tenant`,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := config.Parse("c.yaml", []byte(tc.text))
			if err == nil {
				t.Fatal("accepted")
			}
			if diff := cmp.Diff(tc.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestTCPBeyondLoopbackNeedsTLS(t *testing.T) {
	text := "listen: {tcp: '0.0.0.0:1'}\napi_keys: [{name: a, sha256: " + sum + "}]\n"
	if _, err := config.Parse("c.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), "listen.tls") {
		t.Errorf("got %v", err)
	}
}

func TestSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := config.Provider{Name: "p", Secrets: map[string]config.Secret{"a": {Env: "A"}, "b": {File: file}}}
	got, err := p.SecretValues(func(name string) (string, bool) { return "from " + name, true })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]byte{"a": []byte("from A"), "b": []byte("from file")}, got); diff != "" {
		t.Error(diff)
	}
	_, err = p.SecretValues(func(string) (string, bool) { return "", false })
	if err == nil || !strings.Contains(err.Error(), "environment variable A is not set") {
		t.Errorf("got %v", err)
	}
}

// TestBook: prices are taken over to the last digit.
func TestBook(t *testing.T) {
	p := &config.Price{
		Currency: "USD", Basis: "plan-dependent", SandboxHour: "0.01", CPUSecond: "0.0000131", MemoryGiBHour: "0.008", DiskGiBHour: "0.0001",
		GPUHour: map[string]string{"H100": "3.95"}, Start: "0.001", PausedHour: "0.002", PausedMemoryGiBHour: "0.003", PausedDiskGiBHour: "0.004",
	}
	want := &price.Book{
		Currency: "USD", Basis: brokerv1.PriceBasis_PRICE_BASIS_PLAN_DEPENDENT, Sandbox: 10_000_000, CPU: 47_160_000, Memory: 8_000_000, Disk: 100_000,
		GPU: map[string]int64{"H100": 3_950_000_000}, Start: 1000, Paused: 2_000_000, PausedMemory: 3_000_000, PausedDisk: 4_000_000,
	}
	got, err := p.Book()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v; -want +got:\n%s", err, diff)
	}
	if got, err := (*config.Price)(nil).Book(); got != nil || err != nil {
		t.Errorf("no book is %v, %v", got, err)
	}
}
