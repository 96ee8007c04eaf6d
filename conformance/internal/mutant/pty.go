package mutant

import (
	"bytes"
	"slices"
	"strings"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func ptyMutants() []Mutant {
	return slices.Concat(terminalMutants(), windowMutants(), keyboardMutants())
}

func atTerminal(s *providerv1.ExecSpec) bool { return s.GetTerminal() != nil }

func terminalMutants() []Mutant {
	return []Mutant{
		{
			ID: "pty/is-terminal~everywhere", Kills: "pty/is-terminal",
			Bug: "every command gets a terminal, whether or not it asked for one",
			Unary: starting(func(s *providerv1.ExecSpec) {
				if s.GetTerminal() == nil {
					s.Terminal = &providerv1.Terminal{Rows: 24, Cols: 80}
				}
			}),
		},
		{
			ID: "pty/stderr-empty~notice", Kills: "pty/stderr-empty",
			Bug: "a terminal's standard error has a notice of the plugin's",
			Driver: command(func(c started) sdk.Process {
				if !atTerminal(c.spec) {
					return c.Process
				}
				return &spoiled{Process: c.Process, stderr: strings.NewReader("a terminal has been allocated\n")}
			}),
		},
		{
			ID: "pty/exit~interrupted", Kills: "pty/exit",
			Bug: "exit code 130 is taken for SIGINT",
			Stream: ends(func(e *providerv1.ExitStatus) {
				if e.GetCode() == 130 {
					e.Result = &providerv1.ExitStatus_Signal{Signal: "SIGINT"}
				}
			}),
		},
		{
			ID: "pty/last-output~hung-up", Kills: "pty/last-output", Also: []string{"pty/paste"},
			Bug: "of what a terminal still holds when it hangs up, the end is lost",
			Driver: command(func(c started) sdk.Process {
				if !atTerminal(c.spec) {
					return c.Process
				}
				return &spoiled{Process: c.Process, stdout: &shortReader{inner: c.Stdout(), above: 4 << 10, lost: 100}}
			}),
		},
		{
			ID: "pty/background-child~waits", Kills: "pty/background-child",
			Bug: "a command at a terminal has not ended for as long as a child holds what it was given", Also: []string{"pty/exit"},
			Driver: func(d *fake.Driver) sdk.Driver {
				return &commands{Driver: d, before: func(_ *providerv1.SandboxRef, _ string, spec *providerv1.ExecSpec) error {
					if atTerminal(spec) && !spec.GetStdin() {
						// A substitution lasts until the last process has closed its pipe.
						spec.Argv = append([]string{"sh", "-c", `exec 3>&1; x=$("$0" "$@" 4>&1 >&3 2>&3 3>&-)`}, spec.GetArgv()...)
					}
					return nil
				}}
			},
		},
	}
}

func windowMutants() []Mutant {
	return []Mutant{
		{
			ID: "pty/initial-size~default", Kills: "pty/initial-size",
			Bug: "every terminal begins with 24 rows and 80 columns",
			Unary: starting(func(s *providerv1.ExecSpec) {
				if atTerminal(s) {
					s.Terminal = &providerv1.Terminal{Rows: 24, Cols: 80}
				}
			}),
		},
		{
			ID: "pty/resize~grows-only", Kills: "pty/resize",
			Bug: "a terminal does not get smaller",
			Stream: attaching(func(a *attachment) {
				rows := uint32(0)
				a.in = func(f *input) []*input {
					r := f.GetResize()
					if r == nil {
						return []*input{f}
					}
					smaller := r.GetSize().GetRows() < rows
					rows = max(rows, r.GetSize().GetRows())
					return heard(f, !smaller)
				}
			}),
		},
		{
			ID: "pty/resize-order~last-wins", Kills: "pty/resize-order", Also: []string{"pty/reattach-size"},
			Bug:    "the resize that arrives last wins, whatever its seq",
			Stream: lastResizeWins(),
		},
		{
			ID: "pty/reattach-size~reset", Kills: "pty/reattach-size",
			Bug:    "an attachment gives the terminal the size that it began with",
			Stream: sizeIsReset(),
		},
	}
}

// lastResizeWins numbers resizes as they arrive.
func lastResizeWins() grpc.StreamServerInterceptor {
	arrived := newMemory[int64]()
	return attaching(func(a *attachment) {
		a.in = func(f *input) []*input {
			if r := f.GetResize(); r != nil {
				r.Seq = uint64(arrived.change(a.open.GetExecId(), add(1)))
			}
			return []*input{f}
		}
	})
}

// sizeIsReset sends a resize with each attachment but the first.
func sizeIsReset() grpc.StreamServerInterceptor {
	times, highest := newMemory[int64](), newMemory[uint64]()
	return attaching(func(a *attachment) {
		id := a.open.GetExecId()
		again := times.change(id, add(1)) > 1
		a.in = func(f *input) []*input {
			seq := highest.change(id, func(n uint64) uint64 { return max(n, f.GetResize().GetSeq()) })
			if f.GetOpen() == nil || !again || seq == 0 {
				return []*input{f}
			}
			return []*input{f, {Frame: &providerv1.ExecInput_Resize{Resize: &providerv1.ExecResize{
				Seq: seq + 1, Size: &providerv1.Terminal{Rows: 24, Cols: 80},
			}}}}
		}
	})
}

func keyboardMutants() []Mutant {
	without := func(c byte) func([]byte) []byte {
		return func(b []byte) []byte { return slices.DeleteFunc(b, func(x byte) bool { return x == c }) }
	}
	return []Mutant{
		{
			ID: "pty/ctrl-c~lost", Kills: "pty/ctrl-c", Also: []string{"pty/raw"},
			Bug:    "byte 3 does not reach the terminal",
			Driver: writing(atTerminal, without(3)),
		},
		{
			ID: "pty/ctrl-d~lost", Kills: "pty/ctrl-d", Also: []string{"pty/raw", "pty/paste"},
			Bug:    "byte 4 does not reach the terminal",
			Driver: writing(atTerminal, without(4)),
		},
		{
			ID: "pty/echo~off", Kills: "pty/echo",
			Bug: "a terminal does not echo what is typed",
			Driver: func(d *fake.Driver) sdk.Driver {
				return &commands{Driver: d, before: func(_ *providerv1.SandboxRef, _ string, spec *providerv1.ExecSpec) error {
					if atTerminal(spec) && spec.GetStdin() {
						spec.Argv = append([]string{"sh", "-c", `stty -echo; exec "$0" "$@"`}, spec.GetArgv()...)
					}
					return nil
				}}
			},
		},
		{
			ID: "pty/raw~returns", Kills: "pty/raw",
			Bug:    "return is a newline, even where the program said that it wants neither",
			Driver: writing(atTerminal, func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\r"), []byte("\n")) }),
		},
		{
			ID: "pty/paste~first-page", Kills: "pty/paste",
			Bug:    "of what is typed at once only 4 KiB arrive",
			Driver: writing(atTerminal, func(b []byte) []byte { return b[:min(len(b), 4<<10)] }),
		},
	}
}
