package cli

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/daemon"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/terminal"
	"github.com/sandbar-dev/sandbar/conformance"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// mutantCommand is the hidden command that serves a mutant as a plugin.
const mutantCommand = "__mutant"

type conformanceMutateCmd struct {
	Case     []string `placeholder:"PATTERN,…" help:"Cases whose mutants to run, such as 'exec/*'; default: all."`
	Matrix   bool     `help:"Run each mutant against all cases of its area, and show which of them fail."`
	Parallel int      `default:"4" help:"How many mutants run at once."`
}

// Help is shown below the flags.
func (*conformanceMutateCmd) Help() string {
	return `A mutant is the reference provider with one bug, and the case it is for must fail. Ends with 0 if every case found its bugs, 1 if not, and 2 if some mutants could not be run here.`
}

// Run tests the suite.
func (c *conformanceMutateCmd) Run(ctx context.Context, a *app) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find our own executable: %w", err)
	}
	providers, err := providersBeside()
	if err != nil {
		return err
	}
	done, shown := 0, terminal.Is(a.stderr) && !a.JSON
	m, err := conformance.Mutate(ctx, conformance.MutateOptions{
		Cases: c.Case, Matrix: c.Matrix, Parallel: c.Parallel, Program: exe, Args: []string{mutantCommand}, Providers: providers,
		Observe: func(r conformance.MutantResult) {
			if done++; shown {
				fmt.Fprintf(a.stderr, "\r\x1b[K%d %s", done, r.ID)
			}
		},
	})
	if shown {
		fmt.Fprint(a.stderr, "\r\x1b[K")
	}
	if err != nil {
		return interruptedOr(ctx, err)
	}
	if err := a.printMutation(m, c.Matrix); err != nil {
		return err
	}
	switch {
	case !m.OK():
		return exitError(codeNotConformant)
	case !m.Complete():
		return exitError(codePartial)
	}
	return nil
}

// providersBeside finds the providers that lie beside this program.
func providersBeside() (map[string]string, error) {
	dir, err := daemon.OwnFolder()
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(dir, handshake.BinaryPrefix+"*"))
	if err != nil {
		return nil, fmt.Errorf("look for providers: %w", err)
	}
	out := map[string]string{}
	for _, p := range paths {
		out[strings.TrimPrefix(filepath.Base(p), handshake.BinaryPrefix)] = p
	}
	return out, nil
}

func (a *app) printMutation(m conformance.Mutation, matrix bool) error {
	if a.JSON {
		return render.Value(a.stdout, m)
	}
	header := []string{"CASE", "MUTANT", "KILLED", "FOUND"}
	if matrix {
		header = append(header, "ALSO FAIL", "NOT SURE TO", "STRAY")
	}
	rows := make([][]string, 0, len(m.Mutants)+len(m.Unproven))
	killed := 0
	for _, r := range m.Mutants {
		verdict, found := "NO", r.Finding
		switch {
		case r.NotRun != "":
			verdict, found = "not run", r.NotRun
		case r.Killed:
			verdict = "yes"
			killed++
		}
		row := []string{r.Case, strings.TrimPrefix(r.ID, r.Case+"~") + ": " + r.Bug, verdict, clipped(oneLine(found))}
		if matrix {
			row = append(row, alsoFail(r), strings.Join(r.Spared, " "), strings.Join(r.Strays, " "))
		}
		rows = append(rows, row)
	}
	for _, id := range m.Unproven {
		rows = append(rows, []string{id, "there is none", "NO", "this case has never been seen to fail"})
	}
	if err := render.Table(a.stdout, header, rows); err != nil {
		return err
	}
	return a.out("\n%d of %d mutants killed; %d cases without a mutant", killed, len(m.Mutants), len(m.Unproven))
}

// clipped keeps one finding from making the table as wide as itself.
func clipped(text string) string {
	const most = 100
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

// alsoFail are the other cases that see the same bug.
func alsoFail(r conformance.MutantResult) string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(r.Others)) {
		if r.Others[id] == "fail" && !slices.Contains(r.Strays, id) {
			out = append(out, id)
		}
	}
	return strings.Join(out, " ")
}

type mutantCmd struct {
	ID string `arg:"" optional:"" help:"Mutant; none: the reference provider itself."`
}

// Run serves a mutant as a plugin until the host ends it.
func (c *mutantCmd) Run() error { return conformance.ServeMutant(c.ID) }
