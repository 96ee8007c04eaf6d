package config

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sandbar-dev/sandbar/broker/secrets"
)

// Config is what a configuration file says. The yaml tags are the file's keys.
type Config struct {
	Listen Listen `yaml:"listen"`
	// StateDir holds what must survive: the database, unless it is in Database, and
	// plugins' state. Empty: the caller's default.
	StateDir string `yaml:"state_dir"`
	// Database is where the broker remembers what there is.
	Database Database `yaml:"database"`
	// Sealing says with which keys secrets are stored.
	Sealing Sealing `yaml:"sealing"`
	// RuntimeDir holds what a restart may lose: sockets. Empty: the caller's
	// default.
	RuntimeDir string `yaml:"runtime_dir"`
	// PluginDirs are searched for provider binaries, before the caller's.
	PluginDirs []string `yaml:"plugin_dirs"`
	// Providers to run; among them the broker chooses for a request that names none.
	// The one marked default, or else the first, is chosen among equals, and is the
	// one for volumes. Empty: the provider "local".
	Providers []Provider `yaml:"providers"`
	// Placement says how the broker chooses among them.
	Placement Placement `yaml:"placement"`
	Defaults  Defaults  `yaml:"defaults"`
	Reaper    Reaper    `yaml:"reaper"`
	Log       Log       `yaml:"log"`
	// Telemetry says who learns how the broker fares.
	Telemetry Telemetry `yaml:"telemetry"`
	// Webhooks says where tenants' webhooks may go.
	Webhooks Webhooks `yaml:"webhooks"`
	// APIKeys may call over TCP, beside those that `sandbar key create` makes.
	APIKeys []APIKey `yaml:"api_keys"`
	// OIDC are the issuers whose tokens may call over TCP.
	OIDC []OIDC `yaml:"oidc"`
}

// Listen says where the API is served.
type Listen struct {
	// Unix is the path of the socket. Empty: api.sock in the runtime folder.
	Unix string `yaml:"unix"`
	// TCP is host:port. Empty: not over TCP.
	TCP string `yaml:"tcp"`
	TLS TLS    `yaml:"tls"`
}

// TLS holds paths of PEM files for the TCP port; both or none.
type TLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Database is a PostgreSQL database, or a file of SQLite in the state folder.
type Database struct {
	// URL of a PostgreSQL database, as libpq has it. Empty: SQLite.
	URL string `yaml:"url"`
	// Password is the user's, over one in the URL.
	Password Secret `yaml:"password"`
	// Shared is true if several brokers use the database, as replicas of one.
	Shared bool `yaml:"shared"`
}

// Sealing says with which keys secrets are sealed that the broker has to store: 32
// random bytes each, in base64. Brokers that share a database have the same.
type Sealing struct {
	// Key seals. None: a file in the state folder if the database is there too,
	// otherwise secrets are stored as they are.
	Key Secret `yaml:"key"`
	// PreviousKey only opens what it sealed while it was the key.
	PreviousKey Secret `yaml:"previous_key"`
}

// Provider is one plugin.
type Provider struct {
	Name    string `yaml:"name"`
	Default bool   `yaml:"default"`
	// Binary is a path to use instead of looking in the plugin folders.
	Binary string `yaml:"binary"`
	// Settings are passed on as they are; the plugin says what it takes.
	Settings map[string]any    `yaml:"settings"`
	Secrets  map[string]Secret `yaml:"secrets"`
	// Weight makes the broker choose it more or less often: 200 counts twice as much
	// as 100, which is the default; 0: only when a request names it.
	Weight *int `yaml:"weight"`
	// Labels are what requests can ask for.
	Labels map[string]string `yaml:"labels"`
	// Shared is true if every broker on a shared database has the provider, with the same
	// settings, and reaches the same sandboxes by it; a provider whose sandboxes are on
	// the broker's own machine is no such provider.
	Shared bool `yaml:"shared"`
	// Region is where all its sandboxes are. Empty: nobody said; then only a provider
	// that knows regions itself gets requests that name one.
	Region string `yaml:"region"`
	// Price is its price book. Nil: its prices are unknown.
	Price *Price `yaml:"price"`
	// Assumed is what a sandbox has there whose request does not say.
	Assumed Assumed `yaml:"assumed"`
}

// Secret says where a secret is.
type Secret = secrets.Source

// Defaults hold for sandboxes whose request says nothing.
type Defaults struct {
	Lifetime time.Duration `yaml:"lifetime"`
	Idle     Idle          `yaml:"idle"`
}

// Idle is a policy for sandboxes nobody uses.
type Idle struct {
	Timeout time.Duration `yaml:"timeout"`
	// Action is delete or pause; empty: delete.
	Action string `yaml:"action"`
}

// Reaper is about vendor objects that no sandbox stands for.
type Reaper struct {
	Grace    time.Duration `yaml:"grace"`
	Interval time.Duration `yaml:"interval"`
}

// Log says what is logged and how.
type Log struct {
	// Level is debug, info, warn or error; empty: info.
	Level string `yaml:"level"`
	// Format is text or json; empty: text.
	Format string `yaml:"format"`
}

// Telemetry says where metrics and traces go; by default nowhere.
type Telemetry struct {
	Prometheus Prometheus `yaml:"prometheus"`
	Traces     Traces     `yaml:"traces"`
}

// Prometheus is an endpoint to scrape.
type Prometheus struct {
	// Listen is the host:port at which /metrics is served, to everybody who can
	// connect. Empty: metrics are not kept.
	Listen string `yaml:"listen"`
}

// Traces says where spans go, by OTLP over HTTP.
type Traces struct {
	// Endpoint is the base URL of a collector, such as http://127.0.0.1:4318. Empty:
	// nothing is traced.
	Endpoint string `yaml:"endpoint"`
	// Sample is the share in percent of calls that are traced, among those whose
	// caller does not say; nil: 100.
	Sample *int `yaml:"sample_percent"`
}

// Webhooks says where tenants' webhooks may go beside https in the public network.
type Webhooks struct {
	// AllowHTTP lets plain http in.
	AllowHTTP bool `yaml:"allow_http"`
	// AllowNetworks are networks such as 10.1.0.0/16 that are not the public's and
	// may be reached all the same.
	AllowNetworks []string `yaml:"allow_networks"`
}

// Load reads a file. A missing file is an error: the caller knows whether it
// asked for one.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data)
}

// Default returns the configuration without a file.
func Default() *Config {
	return &Config{Providers: []Provider{{Name: "local", Default: true}}}
}

// SecretValues returns all secrets of a provider.
func (p Provider) SecretValues(lookup func(string) (string, bool)) (map[string][]byte, error) {
	if len(p.Secrets) == 0 {
		return nil, nil
	}
	out := make(map[string][]byte, len(p.Secrets))
	var errs []error
	for name, s := range p.Secrets {
		v, err := s.Value(lookup)
		if err != nil {
			errs = append(errs, fmt.Errorf("secret %q of provider %q: %w", name, p.Name, err))
		}
		out[name] = v
	}
	return out, errors.Join(errs...)
}

// DefaultProvider returns the name of the provider that is marked, else of the
// first.
func (c *Config) DefaultProvider() string {
	for _, p := range c.Providers {
		if p.Default {
			return p.Name
		}
	}
	if len(c.Providers) > 0 {
		return c.Providers[0].Name
	}
	return ""
}
