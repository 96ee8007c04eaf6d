package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/conformance/spec"
	"github.com/sandbar-dev/sandbar/proto/guard"
	"github.com/sandbar-dev/sandbar/proto/pattern"
)

// Profile is a named part of the contract that a provider conforms to as a
// whole, or not.
type Profile string

// The profiles. Core is mandatory.
const (
	Core        Profile = "core"
	Exec        Profile = "exec"
	PTY         Profile = "pty"
	Files       Profile = "files"
	PauseDisk   Profile = "pause-disk"
	PauseMemory Profile = "pause-memory"
	Snapshot    Profile = "snapshot"
	Ports       Profile = "ports"
	Network     Profile = "network"
	Resilience  Profile = "resilience"
)

// Profiles returns all profiles in the order in which people read them.
func Profiles() []Profile {
	return []Profile{Core, Exec, PTY, Files, PauseDisk, PauseMemory, Snapshot, Ports, Network, Resilience}
}

// Requires lists the capabilities without which a provider does not have the
// profile at all.
func (p Profile) Requires() []string {
	switch p {
	case Exec:
		return []string{"exec.stdin", "exec.signal"}
	case PTY:
		return []string{"exec.pty"}
	case Files:
		return []string{"fs.read", "fs.write"}
	case PauseDisk:
		return []string{"pause", "pause.disk"}
	case PauseMemory:
		return []string{"pause", "pause.memory"}
	case Snapshot:
		return []string{"snapshot", "snapshot.disk"}
	case Ports:
		return []string{"port.tunnel"}
	case Network:
		return []string{"egress.deny"}
	case Core, Resilience:
	}
	return nil
}

// Phase says what else may run at the same time.
type Phase int

// The phases of a run, in order.
const (
	// Together: beside other cases, on a plugin that they share.
	Together Phase = iota
	// Apart: beside other cases, on a plugin process of its own, which it may
	// kill, configure and starve.
	Apart
	// Alone: nothing else runs. For what is measured.
	Alone
	// Last: after everything else, when everything has been removed.
	Last
)

// Case is one thing that is checked. Cases are data; Run must be safe to call
// for any number of runs at once.
type Case struct {
	// ID is area/what. It never changes, and a retired one is not reused.
	ID string
	// Title is one sentence: what a provider does that passes.
	Title string
	// Profile is the one it belongs to.
	Profile Profile
	// Requirements are the ids it checks, at least one.
	Requirements []string
	// Needs are capabilities that must be declared for it to apply; Denies is one
	// that must not be.
	Needs  []string
	Denies string
	// Kinds are the targets it can be run on; empty: all.
	Kinds []subject.Kind
	Phase Phase
	// Budget is how long it may take, cleaning up not included; 0: 30 s.
	Budget time.Duration
	// Cost is how many sandbox-seconds it takes at a vendor that bills them.
	Cost int
	// Since is the minor of the protocol that brought it; a provider that knows
	// less is not asked.
	Since uint32
	// Provisional cases run and are reported, and do not count yet.
	Provisional bool
	Run         func(*T)
}

// DefaultBudget is long enough for a vendor across the ocean, and short enough
// for a person to wait for.
const DefaultBudget = 30 * time.Second

// Level is MUST if any of the requirements is.
func (c Case) Level() spec.Level {
	for _, id := range c.Requirements {
		if r, ok := spec.Lookup(id); ok && r.Level == spec.Must {
			return spec.Must
		}
	}
	return spec.Should
}

func (c Case) budget() time.Duration {
	if c.Budget == 0 {
		return DefaultBudget
	}
	return c.Budget
}

var caseID = pattern.Lazy(`^[a-z]+(/[a-z0-9][a-z0-9._-]*)+$`)

// Check finds what is wrong with a set of cases.
func Check(cases []Case) error {
	seen := map[string]bool{}
	for _, c := range cases {
		switch {
		case !caseID().MatchString(c.ID):
			return fmt.Errorf("case %q: want an id such as exec/exit-code", c.ID)
		case seen[c.ID]:
			return fmt.Errorf("case %s exists twice", c.ID)
		case c.Title == "" || c.Run == nil:
			return fmt.Errorf("case %s lacks a title or a body", c.ID)
		case !slices.Contains(Profiles(), c.Profile):
			return fmt.Errorf("case %s: profile %q does not exist", c.ID, c.Profile)
		case len(c.Requirements) == 0:
			return fmt.Errorf("case %s names no requirement", c.ID)
		}
		seen[c.ID] = true
		for _, id := range c.Requirements {
			if _, ok := spec.Lookup(id); !ok {
				return fmt.Errorf("case %s: requirement %s is not in docs/spec", c.ID, id)
			}
		}
		needs := c.Needs
		if c.Denies != "" {
			needs = append(slices.Clone(needs), c.Denies)
		}
		for _, id := range needs {
			if !guard.Known(id) {
				return fmt.Errorf("case %s: capability %s is not in the registry", c.ID, id)
			}
		}
	}
	return nil
}
