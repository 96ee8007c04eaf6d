package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sandbar-dev/sandbar/broker/state/postgres/pgurl"
	"github.com/sandbar-dev/sandbar/proto/handshake"
	"github.com/sandbar-dev/sandbar/proto/pattern"
)

// Parse reads the text of a file; file is its name for errors.
func Parse(file string, text []byte) (*Config, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	c := &Config{}
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return Default(), nil
	case err != nil:
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: has a second document: want one", file)
	}
	d := &decoder{file: file, lines: make(map[string]int), blocks: make(map[string]bool)}
	d.decode(doc.Content[0], "", reflect.ValueOf(c).Elem())
	d.check(c)
	if err := d.err(); err != nil {
		return nil, err
	}
	if len(c.Providers) == 0 {
		c.Providers = Default().Providers
	}
	return c, nil
}

// reject notes a value that was read but cannot be right.
func (d *decoder) reject(field, value, want string) {
	d.failAt(d.lines[field], field, "is %q: want %s", value, want)
}

func (d *decoder) check(c *Config) {
	d.checkListen(c)
	d.checkDatabase(c)
	d.checkSealing(c.Sealing)
	d.checkProviders(c)
	d.checkTelemetry(c.Telemetry)
	d.checkWebhooks(c.Webhooks)
	d.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	d.oneOf("log.format", c.Log.Format, "text", "json")
	d.oneOf("defaults.idle.action", c.Defaults.Idle.Action, "delete", "pause")
	d.absolute("state_dir", c.StateDir)
	d.absolute("runtime_dir", c.RuntimeDir)
	for i, dir := range c.PluginDirs {
		d.absolute("plugin_dirs["+strconv.Itoa(i)+"]", dir)
	}
	d.checkKeys(c.APIKeys)
	d.checkOIDC(c.OIDC)
	d.checkRules(c)
}

func (d *decoder) checkListen(c *Config) {
	l := c.Listen
	d.absolute("listen.unix", l.Unix)
	if l.TCP != "" {
		if _, port, err := net.SplitHostPort(l.TCP); err != nil || port == "" {
			d.reject("listen.tcp", l.TCP, "host:port, such as 127.0.0.1:7300")
		} else if !loopback(l.TCP) && l.TLS.Cert == "" && d.sound("listen.tls") {
			d.reject("listen.tcp", l.TCP, "listen.tls beside an address that other machines reach, because API keys cross it")
		}
	}
	if (l.TLS.Cert == "") != (l.TLS.Key == "") && d.sound("listen.tls") {
		d.failAt(d.lines["listen.tls"], "listen.tls", "has one of cert and key: want both")
	}
}

func (d *decoder) checkDatabase(c *Config) {
	db := c.Database
	if db.URL != "" {
		if err := pgurl.Check(db.URL); err != nil {
			d.failAt(d.lines["database.url"], "database.url", "cannot be: %v", err)
		} else if pgurl.HasPassword(db.URL) {
			d.failAt(d.lines["database.url"], "database.url", "has a password in it: want database.password, as {env: NAME} or {file: PATH}")
		}
	} else if (db.Shared || db.Password != (Secret{})) && d.sound("database.url") {
		d.failAt(d.lines["database"], "database.url", "is missing: want the URL of a PostgreSQL database, such as postgres://sandbar@db.example.com/sandbar")
	}
	if d.lines["database.password"] != 0 {
		d.checkSecret("database.password", db.Password)
	}
	if !db.Shared {
		return
	}
	if len(c.Providers) == 0 && d.sound("providers") {
		d.failAt(d.lines["database.shared"], "database.shared", `is true: want providers, since the default one, "local", keeps its sandboxes on one machine`)
	}
	for i, p := range c.Providers {
		if field := "providers[" + strconv.Itoa(i) + "]"; !p.Shared && d.sound(field) {
			d.failAt(d.lines[field], field+".shared", "is not true, and database.shared is: every broker has to reach the sandboxes of provider %q; "+
				"one that keeps them on its own machine needs a broker with a database of its own", p.Name)
		}
	}
}

func (d *decoder) checkSealing(s Sealing) {
	for field, key := range map[string]Secret{"sealing.key": s.Key, "sealing.previous_key": s.PreviousKey} {
		if d.lines[field] != 0 {
			d.checkSecret(field, key)
		}
	}
	if s.PreviousKey != (Secret{}) && s.Key == (Secret{}) && d.sound("sealing.key") {
		d.failAt(d.lines["sealing.previous_key"], "sealing.key", "is missing: want the key that comes after the previous one, as {env: NAME} or {file: PATH}")
	}
}

func (d *decoder) checkTelemetry(t Telemetry) {
	if l := t.Prometheus.Listen; l != "" {
		if _, port, err := net.SplitHostPort(l); err != nil || port == "" {
			d.reject("telemetry.prometheus.listen", l, "host:port, such as 127.0.0.1:9464")
		}
	}
	if e := t.Traces.Endpoint; e != "" {
		const field = "telemetry.traces.endpoint"
		if strings.Contains(e, "@") {
			d.failAt(d.lines[field], field, "has a user in it, and every plugin is told it: want a collector beside the broker, which knows the password")
		} else if u, err := url.Parse(e); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			d.reject(field, e, "a URL such as http://127.0.0.1:4318")
		}
	}
	if s := t.Traces.Sample; s != nil && (*s < 0 || *s > 100) {
		d.reject("telemetry.traces.sample_percent", strconv.Itoa(*s), "0 to 100")
	}
}

func (d *decoder) checkWebhooks(w Webhooks) {
	for i, n := range w.AllowNetworks {
		if p, err := netip.ParsePrefix(n); err != nil || p != p.Masked() {
			d.reject("webhooks.allow_networks["+strconv.Itoa(i)+"]", n, "a network such as 10.1.0.0/16 or fd00:1::/64")
		}
	}
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (d *decoder) checkProviders(c *Config) {
	seen, defaults := make(map[string]bool), 0
	for i, p := range c.Providers {
		field := "providers[" + strconv.Itoa(i) + "]"
		switch {
		case p.Name == "" && !d.sound(field):
		case p.Name == "":
			d.failAt(d.lines[field], field+".name", "is missing: want the name of a provider, such as local")
		case !handshake.ValidName(p.Name):
			d.reject(field+".name", p.Name, "a name that matches "+handshake.NamePattern)
		case seen[p.Name]:
			d.reject(field+".name", p.Name, "each provider once")
		}
		seen[p.Name] = true
		if p.Default {
			if defaults++; defaults > 1 {
				d.reject(field+".default", "true", "one default provider")
			}
		}
		d.absolute(field+".binary", p.Binary)
		d.checkPlacement(field, p)
		d.checkPrice(field, p)
		for name, s := range p.Secrets {
			d.checkSecret(field+".secrets."+name, s)
		}
	}
}

// maxWeight is far above any sensible relation between two providers.
const maxWeight = 10_000

var labelKey = pattern.Lazy(`^[0-9A-Za-z._/-]{1,63}$`)

func (d *decoder) checkPlacement(field string, p Provider) {
	if w := p.Weight; w != nil && (*w < 0 || *w > maxWeight) {
		d.reject(field+".weight", strconv.Itoa(*w), fmt.Sprintf("0 to %d", maxWeight))
	}
	for _, key := range slices.Sorted(maps.Keys(p.Labels)) {
		if !labelKey().MatchString(key) {
			d.reject(field+".labels."+key, p.Labels[key], "a key of 1 to 63 letters, digits and . _ / -")
		}
	}
}

var envName = pattern.Lazy(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (d *decoder) checkSecret(field string, s Secret) {
	switch {
	case s == (Secret{}) && !d.sound(field):
	case (s.Env == "") == (s.File == ""):
		d.failAt(d.lines[field], field, "needs exactly one of env and file")
	case s.Env != "" && !envName().MatchString(s.Env):
		d.reject(field+".env", s.Env, "the name of an environment variable")
	default:
		d.absolute(field+".file", s.File)
	}
}

func (d *decoder) absolute(field, path string) {
	if path != "" && !filepath.IsAbs(path) {
		d.reject(field, path, "an absolute path")
	}
}

func (d *decoder) oneOf(field, value string, allowed ...string) {
	if value == "" {
		return
	}
	for _, a := range allowed {
		if value == a {
			return
		}
	}
	d.reject(field, value, fmt.Sprintf("one of %q", allowed))
}
