package mutant

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

func startMutants() []Mutant {
	return []Mutant{
		{
			ID: "exec/argv~empty-dropped", Kills: "exec/argv",
			Bug: "empty arguments are left out",
			Unary: starting(func(s *providerv1.ExecSpec) {
				s.Argv = slices.DeleteFunc(s.GetArgv(), func(a string) bool { return a == "" })
			}),
		},
		{
			ID: "exec/unstartable~refused", Kills: "exec/unstartable",
			Bug: "a program that does not exist is refused, and no command that ends with 127",
			Driver: func(d *fake.Driver) sdk.Driver {
				return &commands{Driver: d, before: func(ref *providerv1.SandboxRef, _ string, spec *providerv1.ExecSpec) error {
					ctx, cancel := context.WithTimeout(context.Background(), askTime)
					defer cancel()
					if name := spec.GetArgv()[0]; strings.HasPrefix(name, "/") {
						if _, err := d.StatFile(ctx, &providerv1.StatFileRequest{Sandbox: ref, Path: name}); err != nil {
							return fault.Field("spec.argv", name, "want a program that exists")
						}
					}
					return nil
				}}
			},
		},
		{
			ID: "exec/workdir~sandbox-ignored", Kills: "exec/workdir",
			Bug:   "the sandbox's working directory is ignored",
			Unary: request("CreateSandbox", func(r *providerv1.CreateSandboxRequest) { r.GetSpec().Workdir = "" }),
		},
		{
			ID: "exec/workdir-refused~root", Kills: "exec/workdir-refused",
			Bug:    "a command whose working directory does not exist runs in another one",
			Driver: refusing("spec.workdir", func(s *providerv1.ExecSpec) { s.Workdir = "" }),
		},
		{
			ID: "exec/user~no-group", Kills: "exec/user",
			Bug: "the group in uid:gid is ignored",
			Unary: starting(func(s *providerv1.ExecSpec) {
				s.User, _, _ = strings.Cut(s.GetUser(), ":")
			}),
			Also: []string{"exec/user-refused"},
		},
		{
			ID: "exec/user-refused~root", Kills: "exec/user-refused",
			Bug:    "a command whose user does not exist runs as the sandbox's",
			Driver: refusing("spec.user", func(s *providerv1.ExecSpec) { s.User = "" }),
		},
	}
}

func environmentMutants() []Mutant {
	return []Mutant{
		{
			ID: "exec/env-order~sandbox-wins", Kills: "exec/env-order",
			Bug:   "the sandbox's variables win over the command's",
			Unary: sandboxWins(),
		},
		{
			ID: "exec/env-exact~trimmed", Kills: "exec/env-exact",
			Bug: "spaces around a variable's value are cut off",
			Unary: starting(func(s *providerv1.ExecSpec) {
				for name, value := range s.GetEnv() {
					s.Env[name] = strings.TrimSpace(value)
				}
			}),
		},
		{
			ID: "exec/env-foreign~inherited", Kills: "exec/env-foreign",
			Bug: "commands inherit what the plugin was started with",
			Unary: starting(func(s *providerv1.ExecSpec) {
				if s.GetEnv() == nil {
					s.Env = map[string]string{}
				}
				s.Env[handshake.CookieKey] = handshake.CookieValue
			}),
		},
	}
}

// sandboxWins gives each command its sandbox's variables again.
func sandboxWins() grpc.UnaryServerInterceptor {
	envs := newMemory[map[string]string]()
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		switch r := req.(type) {
		case *providerv1.CreateSandboxRequest:
			envs.set(r.GetIdentity().GetSandboxId(), r.GetSpec().GetEnv())
		case *providerv1.StartExecRequest:
			for name, value := range envs.get(r.GetSandbox().GetSandboxId()) {
				if _, ok := r.GetSpec().GetEnv()[name]; ok {
					r.Spec.Env[name] = value
				}
			}
		}
		return handler(ctx, req)
	}
}

func execKeyMutants() []Mutant {
	home := homes{newMemory[*providerv1.SandboxRef]()}
	return []Mutant{
		{
			ID: "exec/idempotent~runs-again", Kills: "exec/idempotent",
			Bug:   "a command that is started again with its id runs again",
			Unary: runsAgain(),
		},
		{
			ID: "exec/id-reused~first-wins", Kills: "exec/id-reused",
			Bug: "another command with an id that exists is answered with the first one",
			Unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				resp, err := handler(ctx, req)
				r, ok := req.(*providerv1.StartExecRequest)
				server, isServer := info.Server.(providerv1.ProviderServiceServer)
				if !ok || !isServer || !answers(err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED) {
					return resp, err
				}
				got, err := server.GetExec(ctx, &providerv1.GetExecRequest{Sandbox: r.GetSandbox(), ExecId: r.GetExecId()})
				return &providerv1.StartExecResponse{Exec: got.GetExec()}, err
			},
		},
		{
			ID: "exec/unknown-id~sandbox-too", Kills: "exec/unknown-id",
			Bug: "in a sandbox that does not exist it is the command that is not found",
			Unary: answer("GetExec", func(_ any, _ *providerv1.GetExecResponse, err error) error {
				if answers(err, noSuchSandbox) {
					return refuse(noSuchExec, "there is no such command")
				}
				return err
			}),
		},
		{
			ID: "exec/other-sandbox~by-id-alone", Kills: "exec/other-sandbox",
			Bug:    "a command is looked up by its id alone, whatever sandbox is asked",
			Unary:  home.unary,
			Stream: attaching(func(a *attachment) { a.open.Sandbox = home.of(a.open.GetExecId(), a.open.GetSandbox()) }),
		},
	}
}

// homes remembers in which sandbox each command was started first.
type homes struct {
	known *memory[*providerv1.SandboxRef]
}

func (h homes) of(id string, asked *providerv1.SandboxRef) *providerv1.SandboxRef {
	if first := h.known.get(id); first != nil {
		return first
	}
	return asked
}

func (h homes) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	switch r := req.(type) {
	case *providerv1.StartExecRequest:
		h.known.change(r.GetExecId(), func(first *providerv1.SandboxRef) *providerv1.SandboxRef {
			if first == nil {
				return r.GetSandbox()
			}
			return first
		})
	case *providerv1.GetExecRequest:
		r.Sandbox = h.of(r.GetExecId(), r.GetSandbox())
	case *providerv1.SignalExecRequest:
		r.Sandbox = h.of(r.GetExecId(), r.GetSandbox())
	}
	return handler(ctx, req)
}

// runsAgain starts another command for each repetition.
func runsAgain() grpc.UnaryServerInterceptor {
	digests, times := newMemory[string](), newMemory[int64]()
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		r, ok := req.(*providerv1.StartExecRequest)
		if !ok {
			return handler(ctx, req)
		}
		id, digest := r.GetExecId(), string(r.GetRequestDigest())
		first := digests.change(id, func(d string) string {
			if d == "" {
				return digest
			}
			return d
		})
		if n := times.change(id, add(1)); n > 1 && first == digest {
			r = clone(r)
			r.ExecId += "-" + strconv.FormatInt(n, 10)
		}
		resp, err := handler(ctx, r)
		if started, ok := resp.(*providerv1.StartExecResponse); ok && err == nil {
			started.Exec.ExecId = id
		}
		return resp, err
	}
}

func crowdMutants() []Mutant {
	return []Mutant{
		{
			ID: "exec/concurrent~sixteen", Kills: "exec/concurrent",
			Bug: "no more than sixteen commands run at once in a sandbox",
			Driver: func(d *fake.Driver) sdk.Driver {
				running := newMemory[int64]()
				return &commands{
					Driver: d,
					before: func(ref *providerv1.SandboxRef, _ string, _ *providerv1.ExecSpec) error {
						return atMost(16, running.change(ref.GetSandboxId(), add(1)))
					},
					after: func(c started) sdk.Process {
						return &counted{Process: c.Process, ended: func() { running.change(c.ref.GetSandboxId(), add(-1)) }}
					},
				}
			},
		},
		{
			ID: "exec/in-a-row~never-forgotten", Kills: "exec/in-a-row",
			Bug: "commands that have ended count as if they still ran, up to a limit of 64",
			Driver: func(d *fake.Driver) sdk.Driver {
				all := newMemory[int64]()
				return &commands{Driver: d, before: func(ref *providerv1.SandboxRef, _ string, _ *providerv1.ExecSpec) error {
					return atMost(64, all.change(ref.GetSandboxId(), add(1)))
				}}
			},
		},
	}
}

func atMost(limit, n int64) error {
	if n > limit {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, "%d commands run already", limit)
	}
	return nil
}

// counted tells when a command has ended.
type counted struct {
	sdk.Process
	ended func()
}

// Wait implements sdk.Process.
func (p *counted) Wait(ctx context.Context) (*providerv1.ExitStatus, error) {
	defer p.ended()
	return p.Process.Wait(ctx)
}
