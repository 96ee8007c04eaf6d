package mutant

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// misanswers is a wire mutant that changes errors of some methods; none named means
// of all.
func misanswers(id, bug string, change func(*fault.Error) error, methods ...string) Mutant {
	in := func(full string) bool {
		for _, m := range methods {
			if strings.HasSuffix(full, "/"+m) {
				return true
			}
		}
		return len(methods) == 0
	}
	return Mutant{
		ID: id, Kills: caseOf(id), Bug: bug,
		Unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			resp, err := handler(ctx, req)
			if err != nil && in(info.FullMethod) {
				return nil, change(fault.From(err))
			}
			return resp, err
		},
		Stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			err := handler(srv, stream)
			if err != nil && in(info.FullMethod) {
				return change(fault.From(err))
			}
			return err
		},
	}
}

// answered is a fault as it goes over the wire.
func answered(f *fault.Error) error { return f.GRPCStatus().Err() }

func errorMutants() []Mutant {
	out := []Mutant{
		misanswers("error/every-error-has-info~bare", "errors of the upload of files have no ErrorInfo", func(f *fault.Error) error {
			return status.Error(f.Code(), f.Message)
		}, "UploadArchive"),
		misanswers("error/every-error-has-info~unknown", "what nobody expected is answered with code UNKNOWN", func(f *fault.Error) error {
			if f.Reason == providerv1.ErrorReason_ERROR_REASON_EXEC_NOT_FOUND {
				return status.Error(codes.Unknown, f.Message)
			}
			return answered(f)
		}, "SignalExec"),
		misanswers("error/every-error-has-info~code", "a snapshot that does not exist is an invalid argument", func(f *fault.Error) error {
			if f.Reason == providerv1.ErrorReason_ERROR_REASON_SNAPSHOT_NOT_FOUND {
				st := f.GRPCStatus().Proto()
				st.Code = int32(codes.InvalidArgument)
				return status.FromProto(st).Err()
			}
			return answered(f)
		}),
		misanswers("error/every-error-has-info~broker-only", "a vendor that is away is called a plugin that restarts", func(f *fault.Error) error {
			f.Reason = providerv1.ErrorReason_ERROR_REASON_PLUGIN_RESTARTING
			return answered(f)
		}, "GetUsage"),
		misanswers("error/every-error-has-info~effect", "a reading call does not say that it did nothing", func(f *fault.Error) error {
			f.Effect = providerv1.Effect_EFFECT_UNSPECIFIED
			delete(f.Metadata, fault.MetaEffect)
			return answered(f)
		}, "StatFile"),
		misanswers("error/every-error-has-info~trace", "the message of an error is where it happened", func(f *fault.Error) error {
			f.Message += " (at driver.go:214)"
			return answered(f)
		}, "MoveFile"),
		misanswers("error/names-the-field~last-part", "only the last part of a field's path is named", func(f *fault.Error) error {
			field := f.Metadata[fault.MetaField]
			return answered(f.With(fault.MetaField, field[strings.LastIndexByte(field, '.')+1:]))
		}, "StartExec"),
		misanswers("error/message-variables-in-metadata~in-words", "what does not exist is named in words only", func(f *fault.Error) error {
			delete(f.Metadata, "exec_id")
			delete(f.Metadata, "sandbox_id")
			return answered(f)
		}, "GetExec"),
		{
			ID: "error/no-secret-in-message~quotes", Kills: "error/no-secret-in-message",
			Bug: "the refusal of an environment quotes it", Unary: quotesEnvironment,
		},
		{
			ID: "error/rate-limit-says-when~no-time", Kills: "error/rate-limit-says-when",
			Bug:    "the vendor's Retry-After is dropped",
			Driver: func(d *fake.Driver) sdk.Driver { return &limited{d} },
		},
	}
	return append(append(out, deadlineMutants()...), sizeMutants()...)
}

// quotesEnvironment adds the environment to why a command was refused.
func quotesEnvironment(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	m, ok := req.(*providerv1.StartExecRequest)
	if err == nil || !ok {
		return resp, err
	}
	f := fault.From(err)
	for _, value := range m.GetSpec().GetEnv() {
		f = f.With("value", strings.Map(letters, value))
	}
	return nil, answered(f)
}

// letters keeps what may stand in metadata.
func letters(r rune) rune {
	if r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
		return r
	}
	return -1
}

// limited has a vendor that says stop.
type limited struct{ *fake.Driver }

func (d *limited) ListSandboxes(context.Context, *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error) {
	return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED, "the vendor limits the rate")
}

func deadlineMutants() []Mutant {
	return []Mutant{
		{
			ID: "deadline/missing-refused~given", Kills: "deadline/missing-refused",
			Bug: "a call without a deadline gets one",
			Unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				const enough = 30 * time.Second
				ctx, cancel := context.WithTimeout(ctx, enough)
				defer cancel()
				return handler(ctx, req)
			},
		},
		{
			ID: "deadline/honoured~ignored", Kills: "deadline/honoured",
			Bug: "creating goes on when its deadline has passed, and says nothing",
			Unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				if _, ok := req.(*providerv1.CreateSandboxRequest); ok {
					const long = 2500 * time.Millisecond
					wait(context.WithoutCancel(ctx), long)
				}
				return handler(ctx, req)
			},
		},
		{
			ID: "deadline/honoured~effect", Kills: "deadline/honoured",
			Bug:    "a deadline that passed is taken for proof that nothing happened",
			Driver: func(d *fake.Driver) sdk.Driver { return &optimist{d} },
		},
		{
			ID: "cancel/propagates~goes-on", Kills: "cancel/propagates",
			Bug: "creating does not notice that nobody waits for it",
			Driver: func(d *fake.Driver) sdk.Driver {
				return &creating{d, func(ctx context.Context, d *fake.Driver, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
					sb, err := d.CreateSandbox(ctx, req)
					if req.GetSpec().GetLifetime() != nil && sb != nil {
						if others, err := d.ListSandboxes(ctx, &providerv1.ListSandboxesRequest{Owner: req.GetIdentity().GetOwner(), PageSize: 2}); err == nil && len(others.GetSandboxes()) > 1 {
							const long = 8 * time.Second // from the owner's second sandbox on
							wait(context.WithoutCancel(ctx), long)
						}
					}
					return sb, err
				}}
			},
		},
	}
}

// optimist makes a sandbox, is too slow to say so, and says that it made none.
type optimist struct{ *fake.Driver }

func (d *optimist) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	if _, err := d.Driver.CreateSandbox(ctx, req); err != nil {
		return nil, err
	}
	<-ctx.Done()
	return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, "the vendor did not answer in time").
		WithEffect(providerv1.Effect_EFFECT_NONE)
}

func sizeMutants() []Mutant {
	const small, huge = 1 << 20, 64 << 20
	return []Mutant{
		{
			ID: "message/large-accepted~small", Kills: "message/large-accepted",
			Bug:    "the server takes messages of 1 MiB at most",
			Server: []grpc.ServerOption{grpc.MaxRecvMsgSize(small)},
		},
		{
			ID: "message/too-large-refused~huge", Kills: "message/too-large-refused",
			Bug:    "the server takes messages of any size",
			Server: []grpc.ServerOption{grpc.MaxRecvMsgSize(huge)},
			Unary:  firstHandles(),
		},
	}
}

// firstHandles recovers as many as the contract allows, and answers for all.
func firstHandles() grpc.UnaryServerInterceptor {
	const most = 1000
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		m, ok := req.(*providerv1.RecoverRequest)
		if !ok || len(m.GetSandboxes()) <= most {
			return handler(ctx, req)
		}
		return handler(ctx, &providerv1.RecoverRequest{Sandboxes: m.GetSandboxes()[:most]})
	}
}
