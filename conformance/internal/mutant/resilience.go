package mutant

import (
	"context"
	"slices"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func resilienceMutants() []Mutant {
	return slices.Concat(beginMutants(), processEndMutants(), burdenMutants(), killMutants(), guestMutants())
}

func guestMutants() []Mutant {
	return []Mutant{
		{
			ID: "guest/utilities~missing", Kills: "guest/utilities", Bug: "the default root file system lacks a utility",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"CreateSandbox": after(func(ctx context.Context, c client, req *providerv1.CreateSandboxRequest, _ *providerv1.CreateSandboxResponse) {
					inside(ctx, c, req.GetIdentity().GetSandboxId(), "rm $(command -v tee)")
				})}
			}),
		},
		{
			ID: "guest/utilities~other", Kills: "guest/utilities", Bug: "sort does not sort",
			Driver: rewording("sort", "cat"),
		},
		{
			ID: "guest/devices~full", Kills: "guest/devices", Bug: "/dev/full takes what is written to it",
			Driver: rewording("/dev/full", "/dev/zero"),
		},
		{
			ID: "guest/devices~random", Kills: "guest/devices", Bug: "/dev/urandom gives the same bytes each time",
			Driver: rewording("/dev/urandom", "/dev/zero"),
		},
	}
}

// rewording makes a driver mutant in which a word of scripts means another.
func rewording(word, meaning string) func(*fake.Driver) sdk.Driver {
	return func(d *fake.Driver) sdk.Driver {
		return &commands{Driver: d, before: func(_ *providerv1.SandboxRef, _ string, spec *providerv1.ExecSpec) error {
			for i, arg := range spec.GetArgv() {
				spec.Argv[i] = strings.ReplaceAll(arg, word, meaning)
			}
			return nil
		}}
	}
}
