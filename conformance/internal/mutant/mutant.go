package mutant

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
)

// Mutant is the reference provider with one bug.
type Mutant struct {
	// ID is the case it is for, a tilde, and a word.
	ID string
	// Kills is the case that must fail.
	Kills string
	// Also are other cases that fail, because the bug is theirs as well.
	Also []string
	// Bug says in one sentence what is wrong.
	Bug string
	// Driver wraps the reference driver. Embed *fake.Driver, so that the optional
	// interfaces stay.
	Driver func(*fake.Driver) sdk.Driver
	// Unary and Stream are wire mutants: they run around the whole server.
	Unary  grpc.UnaryServerInterceptor
	Stream grpc.StreamServerInterceptor
	// Exec are the SDK's options for running commands, if not quick().
	Exec *exec.Options
	// Wrap puts the bug between the suite and any provider: it uses the provider's
	// own API to break what it did. It works on every kind of target.
	Wrap func(grpc.ClientConnInterface) grpc.ClientConnInterface
	// Provider is the one that is wrapped, for what the reference provider cannot
	// do at all; empty: the reference provider.
	Provider string
	// Server are further options of its server.
	Server []grpc.ServerOption
	// Inputs are what the operator gives the cases.
	Inputs map[string]string
	// Settings configure the reference provider.
	Settings map[string]any
	// Main replaces the main function of the plugin process.
	Main func()
}

// All returns every mutant, sorted by id.
func All() []Mutant {
	all := slices.Concat(
		identityMutants(), capabilityMutants(), lifecycleMutants(), errorMutants(), execMutants(), ptyMutants(),
		fileMutants(), persistenceMutants(), networkMutants(), egressMutants(), resilienceMutants(),
	)
	slices.SortFunc(all, func(a, b Mutant) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Lookup finds a mutant.
func Lookup(id string) (Mutant, bool) {
	for _, m := range All() {
		if m.ID == id {
			return m, true
		}
	}
	return Mutant{}, false
}

// New returns the mutant's driver.
func (m Mutant) New() sdk.Driver {
	driver := fake.New(fake.Options{Version: "0.0.0-mutant"})
	if m.Driver == nil {
		return driver
	}
	return m.Driver(driver)
}

// run returns the options for running commands.
func (m Mutant) run() exec.Options {
	if m.Exec != nil {
		return *m.Exec
	}
	return quick()
}

// quick does not let a case wait long for pipes that a descendant holds, and
// retains little, so that a case need not print much to have more than that.
func quick() exec.Options { return exec.Options{Drain: 2 * time.Second, Retain: 256 << 10} }

// Serve is the main function of a plugin process that is a mutant; an empty id is
// the reference provider itself. It does not return.
func Serve(id string) error {
	m := Mutant{}
	if id != "" {
		var ok bool
		if m, ok = Lookup(id); !ok {
			return fmt.Errorf("mutant %q does not exist", id)
		}
	}
	if m.Main != nil {
		m.Main()
		return nil
	}
	sdk.Serve(m.New(), sdk.Options{Exec: m.run()})
	return nil
}

// Host says how a mutant's process is started: a program and the arguments that
// make it call Serve with the id that is appended.
type Host struct {
	Path string
	Args []string
	// Providers are the paths of other providers' binaries, by name.
	Providers map[string]string
}

// ErrNoProvider means that a mutant needs a provider that the host does not have.
var ErrNoProvider = errors.New("it needs the binary of provider")

// Target returns the target that a case runs against with this mutant: in this
// process, unless the case, or the mutant, needs a process of its own.
func (m Mutant) Target(c engine.Case, host Host) (subject.Target, error) {
	target, err := m.bare(c, host)
	if err != nil || m.Wrap == nil {
		return target, err
	}
	return subject.Wrap(target, m.Wrap), nil
}

func (m Mutant) bare(c engine.Case, host Host) (subject.Target, error) {
	if m.Provider != "" {
		path := host.Providers[m.Provider]
		if path == "" {
			return nil, fmt.Errorf("mutant %s: %w %q", m.ID, ErrNoProvider, m.Provider)
		}
		return subject.NewBinary(subject.BinaryOptions{Path: path, Settings: m.Settings})
	}
	process := m.Main != nil || (len(c.Kinds) > 0 && !slices.Contains(c.Kinds, subject.InProcess))
	if !process {
		opts := subject.DriverOptions{
			New: func() (sdk.Driver, error) { return m.New(), nil }, Settings: m.Settings, Exec: m.run(),
		}
		opts.ServerOptions = append(opts.ServerOptions, m.Server...)
		if m.Unary != nil {
			opts.ServerOptions = append(opts.ServerOptions, grpc.ChainUnaryInterceptor(m.Unary))
		}
		if m.Stream != nil {
			opts.ServerOptions = append(opts.ServerOptions, grpc.ChainStreamInterceptor(m.Stream))
		}
		return subject.NewInProcess(opts), nil
	}
	if m.Unary != nil || m.Stream != nil {
		return nil, fmt.Errorf("mutant %s: a wire mutant cannot run as a process", m.ID)
	}
	return subject.NewBinary(subject.BinaryOptions{
		Path: host.Path, Name: "fake", Args: append(slices.Clone(host.Args), m.ID), Settings: m.Settings,
	})
}
