// Package imports holds the architecture to its word: which package may depend
// on which, with the reason for each rule.
package imports

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/sandbar-dev/sandbar/"

// rule forbids packages under from to depend on packages under to.
type rule struct {
	from, to string
	// direct limits the rule to import statements; otherwise it covers
	// everything that is linked in.
	direct bool
	// except names sub-trees of from that may.
	except []string
	// allow names packages under to that are no harm: constants and pure types.
	allow []string
	why   string
}

var rules = []rule{
	{from: module + "broker", to: module + "plugins", why: "the broker talks to plugins over gRPC only"},
	{from: module + "broker", to: module + "conformance", why: "the suite is not production code"},
	{from: module + "plugins", to: module + "broker", why: "a vendor links the SDK, never the broker"},
	{from: module + "plugins", to: module + "conformance", why: "the suite tests plugins, not the other way round"},
	{from: module + "proto", to: module + "conformance", why: "the contract knows nobody"},
	{
		from: module + "cmd", to: module + "conformance", why: "only the sandbar command offers the suite",
		except: []string{module + "cmd/sandbar"},
	},
	{from: module + "conformance/report", to: module + "conformance/internal", why: "a report is data; it knows no engine and no case"},
	{from: module + "conformance/report", to: module + "conformance/cases", why: "a report is data; it knows no engine and no case"},
	{from: module + "conformance", to: module + "plugins/local", why: "no provider but the reference one is known to the suite"},
	{from: module + "conformance", to: "github.com/alecthomas/kong", why: "only cmd reads flags"},
	{from: module + "proto", to: module + "broker", why: "the contract knows nobody"},
	{from: module + "proto", to: module + "plugins", why: "the contract knows nobody"},
	{
		from: module, to: "gvisor.dev/gvisor", why: "only the local provider pays for gVisor; the CLI stays small",
		except: []string{module + "plugins/local", module + "cmd/sandbar-provider-local"},
	},
	{
		from: module, to: "connectrpc.com/connect", direct: true, why: "Connect is known to the API's two ends only",
		except: []string{module + "broker/api", module + "broker/server", module + "cmd/sandbar", module + "proto/gen"},
	},
	{from: module + "cmd/sandbar/internal/cli", to: module + "broker/server", why: "commands start quickly; the broker is sandbar-broker's"},
	{from: module + "cmd/sandbar/internal/cli", to: module + "broker/config", why: "commands start quickly; the broker is sandbar-broker's"},
	{
		from: module + "cmd/sandbar/internal/cli", to: "database/sql", why: "commands start quickly; the broker is sandbar-broker's",
		allow: []string{"database/sql/driver"}, // of package uuid, which no database comes with
	},
	{from: module + "cmd/sandbar/internal/cli", to: "github.com/prometheus", why: "commands start quickly; the broker is sandbar-broker's"},
	{from: module + "broker", to: "github.com/alecthomas/kong", why: "only cmd reads flags"},
	{from: module + "plugins", to: "github.com/alecthomas/kong", why: "only cmd reads flags"},
	{from: module + "plugins", to: "go.opentelemetry.io", why: "a plugin that makes no spans links nothing for them"},
	{
		from: module + "broker", to: "go.opentelemetry.io/otel/sdk/trace", why: "the domain knows the interfaces of telemetry only",
		except: []string{module + "broker/api", module + "broker/server"},
	},
	{
		from: module + "broker", to: "github.com/prometheus", why: "the domain knows the interfaces of telemetry only",
		except: []string{module + "broker/telemetry/export", module + "broker/server"},
	},
	{from: module + "broker/lifecycle", to: "os", direct: true, why: "pure: no I/O"},
	{from: module + "broker/lifecycle", to: "net", direct: true, why: "pure: no I/O"},
	{from: module + "broker/lifecycle", to: "database/sql", direct: true, why: "pure: no I/O"},
	{from: module + "broker/lifecycle", to: "google.golang.org/grpc", direct: true, why: "pure: no I/O"},
	{from: module + "broker/authz", to: "os", direct: true, why: "pure: no I/O"},
	{from: module + "broker/authz", to: "net", direct: true, why: "pure: no I/O"},
	{from: module + "broker/authz", to: "database/sql", direct: true, why: "pure: no I/O"},
	{from: module + "broker/authz", to: "google.golang.org/grpc", direct: true, why: "pure: no I/O"},
	{from: module + "broker/authz", to: module + "broker/state", why: "what is decided does not depend on where it is stored"},
	{from: module + "broker/placement", to: "os", direct: true, why: "pure: no I/O"},
	{from: module + "broker/placement", to: "net", direct: true, why: "pure: no I/O"},
	{from: module + "broker/placement", to: "database/sql", direct: true, why: "pure: no I/O"},
	{from: module + "broker/placement", to: "google.golang.org/grpc", direct: true, why: "pure: no I/O"},
	{from: module + "broker/placement", to: module + "broker/state", why: "state stores its values, not the other way round"},
	{from: module + "broker/metering", to: "os", direct: true, why: "pure: no I/O"},
	{from: module + "broker/metering", to: "net", direct: true, why: "pure: no I/O"},
	{from: module + "broker/metering", to: "database/sql", direct: true, why: "pure: no I/O"},
	{from: module + "broker/metering", to: "google.golang.org/grpc", direct: true, why: "pure: no I/O"},
	{from: module + "broker/price", to: "os", direct: true, why: "pure: no I/O"},
	{from: module + "broker/price", to: "net", direct: true, why: "pure: no I/O"},
	{from: module + "broker/price", to: "database/sql", direct: true, why: "pure: no I/O"},
	{from: module + "broker/price", to: "google.golang.org/grpc", direct: true, why: "pure: no I/O"},
	{from: module + "broker/quota", to: "os", direct: true, why: "pure: no I/O"},
	{from: module + "broker/quota", to: "net", direct: true, why: "pure: no I/O"},
	{from: module + "broker/quota", to: "database/sql", direct: true, why: "pure: no I/O"},
	{from: module + "broker/quota", to: "google.golang.org/grpc", direct: true, why: "pure: no I/O"},
	{from: module + "broker/quota", to: module + "broker/state", why: "what is decided does not depend on where it is stored"},
	{from: module + "broker/placement", to: module + "broker/policy", why: "what is ranked does not depend on how rules are written"},
	{from: module + "broker/policy", to: "os", direct: true, why: "pure: no I/O"},
	{from: module + "broker/policy", to: "net", direct: true, why: "pure: no I/O"},
	{from: module + "broker/policy", to: "database/sql", direct: true, why: "pure: no I/O"},
	{from: module + "broker/policy", to: "google.golang.org/grpc", direct: true, why: "pure: no I/O"},
	{
		from: module, to: "cel.dev", direct: true, why: "one package knows the language of rules",
		except: []string{module + "broker/policy"},
	},
	{from: module + "plugins", to: "cel.dev", why: "rules are the broker's; a plugin links nothing for them"},
	{from: module + "broker/config", to: "github.com/jackc", why: "who reads a configuration need not link what it configures"},
	{from: module + "broker/session", to: "os", direct: true, why: "pure: no I/O"},
	{from: module + "broker/session", to: "net", direct: true, why: "pure: no I/O"},
	{
		from: module + "broker/session", to: "google.golang.org/grpc", direct: true, why: "pure: no I/O",
		allow: []string{"google.golang.org/grpc/codes"},
	},
}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func TestImports(t *testing.T) {
	pkgs := list(t)
	for _, r := range rules {
		matched := false
		for _, p := range pkgs {
			if !under(p.ImportPath, r.from) || excepted(p.ImportPath, r.except) {
				continue
			}
			matched = true
			deps := p.Deps
			if r.direct {
				deps = p.Imports
			}
			for _, d := range deps {
				if under(d, r.to) && !excepted(d, r.allow) {
					t.Errorf("%s depends on %s: %s", p.ImportPath, d, r.why)
				}
			}
		}
		if !matched {
			t.Errorf("no package under %s: the rule about %s guards nothing", r.from, r.to)
		}
	}
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps=false", "-json=ImportPath,Imports,Deps", module+"...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("decode go list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}

func under(path, root string) bool {
	root = strings.TrimSuffix(root, "/")
	return path == root || strings.HasPrefix(path, root+"/")
}

func excepted(path string, except []string) bool {
	for _, e := range except {
		if under(path, e) || strings.HasPrefix(path, e+"/") {
			return true
		}
	}
	return false
}
