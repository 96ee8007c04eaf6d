package mutant

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/guard"
)

// capabilityMutants are generated as the cases are: each capability is ignored
// where it is not declared, and missing where it is.
func capabilityMutants() []Mutant {
	out := refusalMutants()
	for _, c := range guard.Registry() {
		if c.ID != "exec.reattach" {
			out = append(out, ignores(c.ID))
		}
		out = append(out, lacks(c.ID))
	}
	return append(append(out, limitMutants()...), excludedMutants()...)
}

// inputs are what the reference provider has to be told.
var inputs = map[string]string{"image": "registry.example/base:1", "template": "base", "region": "fake-east"}

// ignores accepts a request that uses an undeclared capability.
func ignores(id string) Mutant {
	unary, stream := refusals(id, func(full string, _ any, _ error) (any, error) { return emptyAnswer(full), nil })
	return Mutant{
		ID: "cap/" + id + "/refused~ignored", Kills: "cap/" + id + "/refused",
		Bug:    "what needs " + id + " is ignored, and the call succeeds",
		Driver: func(d *fake.Driver) sdk.Driver { return Without(d, id) },
		Unary:  unary, Stream: stream,
	}
}

// lacks declares a capability and answers UNIMPLEMENTED for what needs it.
func lacks(id string) Mutant {
	m := Mutant{
		ID: "cap/" + id + "/works~unimplemented", Kills: "cap/" + id + "/works",
		Bug:    id + " is declared and not implemented",
		Inputs: inputs,
		Driver: func(d *fake.Driver) sdk.Driver { return Promising(d, id) },
	}
	if id == "exec.reattach" { // it guards nothing: what is missing is what a restart loses
		return m
	}
	m.Unary = func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if uses(info.FullMethod, req, id) {
			return nil, status.Error(codes.Unimplemented, "method is not implemented")
		}
		return handler(ctx, req)
	}
	m.Stream = func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		first := &firstFrame{ServerStream: stream, method: info.FullMethod, id: id}
		err := handler(srv, first)
		if first.used.Load() || guard.Method(info.FullMethod) == id {
			return status.Error(codes.Unimplemented, "method is not implemented")
		}
		return err
	}
	return m
}

// uses reports whether a request needs a capability.
func uses(full string, req any, id string) bool {
	msg, ok := req.(proto.Message)
	return guard.Method(full) == id ||
		ok && slices.ContainsFunc(guard.Uses(msg), func(n guard.Need) bool { return n.Capability == id })
}

// firstFrame refuses frames that use a capability.
type firstFrame struct {
	grpc.ServerStream
	method, id string
	used       atomic.Bool // frames are received beside the handler
}

// RecvMsg implements grpc.ServerStream.
func (s *firstFrame) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if uses(s.method, m, s.id) {
		s.used.Store(true)
	}
	if s.used.Load() {
		return status.Error(codes.Unimplemented, "not implemented")
	}
	return nil
}

// refusals changes what the server says where it refuses a capability.
func refusals(id string, change func(full string, req any, err error) (any, error)) (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	refused := func(err error) bool {
		return err != nil && fault.From(err).Metadata[fault.MetaCapability] == id
	}
	unary := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		resp, err := handler(ctx, req)
		if refused(err) {
			return change(info.FullMethod, req, err)
		}
		return resp, err
	}
	stream := func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		err := handler(srv, stream)
		if !refused(err) {
			return err
		}
		answer, err := change(info.FullMethod, nil, err)
		if err == nil && !info.IsServerStream {
			return stream.SendMsg(answer)
		}
		return err
	}
	return unary, stream
}

// emptyAnswer is an answer that says nothing.
func emptyAnswer(full string) any {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(full, "/"), "/", "."))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil
	}
	md, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return nil
	}
	mt, err := protoregistry.GlobalTypes.FindMessageByName(md.Output().FullName())
	if err != nil {
		return nil
	}
	return mt.New().Interface()
}

// refusalMutants are other ways to get a refusal wrong, on one capability each.
func refusalMutants() []Mutant {
	wrong := func(id, word, bug string, change func(f *fault.Error) error) Mutant {
		unary, stream := refusals(id, func(_ string, _ any, err error) (any, error) { return nil, change(fault.From(err)) })
		return Mutant{
			ID: "cap/" + id + "/refused~" + word, Kills: "cap/" + id + "/refused", Bug: bug,
			Driver: func(d *fake.Driver) sdk.Driver { return Without(d, id) }, Unary: unary, Stream: stream,
		}
	}
	return []Mutant{
		wrong("pause", "bare", "the refusal is a bare UNIMPLEMENTED", func(*fault.Error) error {
			return status.Error(codes.Unimplemented, "unknown method PauseSandbox")
		}),
		wrong("compute.pids", "unnamed", "the refusal does not name the capability", func(f *fault.Error) error {
			delete(f.Metadata, fault.MetaCapability)
			return f.GRPCStatus().Err()
		}),
		wrong("fs.read", "effect", "the refusal does not promise that nothing happened", func(f *fault.Error) error {
			return f.WithEffect(providerv1.Effect_EFFECT_UNKNOWN).GRPCStatus().Err()
		}),
		wrong("usage", "late", "the vendor is asked first, and the refusal takes more than a second", func(f *fault.Error) error {
			const late = 1200 * time.Millisecond
			<-time.After(late)
			return f.GRPCStatus().Err()
		}),
		madeAllTheSame(), undeclaredInsteadOfDisabled(),
	}
}

// madeAllTheSame makes the sandbox without what it cannot do, and says no.
func madeAllTheSame() Mutant {
	const id = "sandbox.hostname"
	return Mutant{
		ID: "cap/" + id + "/refused~made", Kills: "cap/" + id + "/refused",
		Bug:    "the sandbox is made before the field is looked at",
		Driver: func(d *fake.Driver) sdk.Driver { return Without(d, id) },
		Unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			m, ok := req.(*providerv1.CreateSandboxRequest)
			if !ok || m.GetSpec().GetHostname() == "" {
				return handler(ctx, req)
			}
			less := clone(m)
			less.Spec.Hostname = ""
			if _, err := handler(ctx, less); err != nil {
				return nil, err
			}
			return nil, fault.Unsupported(id).GRPCStatus().Err()
		},
	}
}

func undeclaredInsteadOfDisabled() Mutant {
	const id = "watch"
	unary, stream := refusals(id, func(string, any, error) (any, error) { return nil, fault.Unsupported(id).GRPCStatus().Err() })
	return Mutant{
		ID: "cap/" + id + "/refused~not-disabled", Kills: "cap/" + id + "/refused",
		Bug:      "a capability that is switched off is refused as if it did not exist",
		Settings: map[string]any{"disable": []any{id}}, Unary: unary, Stream: stream,
	}
}

// limitMutants accept one more than they say. Those of limits that the reference
// does not have declare them first.
func limitMutants() []Mutant {
	var out []Mutant
	for id, name := range map[string]string{
		"compute.cpu": "max", "compute.disk": "max", "compute.memory": "max", "compute.pids": "max",
		"fork": "max_copies", "lifetime.native": "max_seconds", "port.declare": "max_ports",
	} {
		out = append(out, Mutant{
			ID: "cap/limits/" + id + "." + name + "~not-held", Kills: "cap/limits/" + id + "." + name,
			Bug:    "the limit that is declared is not the one that is enforced",
			Driver: func(d *fake.Driver) sdk.Driver { return &smallLimit{d, id, name} },
		})
	}
	slices.SortFunc(out, func(a, b Mutant) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// smallLimit declares a limit of 2.
type smallLimit struct {
	*fake.Driver
	id, name string
}

func (d *smallLimit) Describe(ctx context.Context) (*providerv1.DescribeResponse, error) {
	out, err := d.Driver.Describe(ctx)
	for _, c := range out.GetCapabilities() {
		if c.GetId() == d.id {
			c.Limits = maps.Clone(c.GetLimits())
			if c.Limits == nil {
				c.Limits = map[string]int64{}
			}
			c.Limits[d.name] = 2
		}
	}
	return out, err
}

func excludedMutants() []Mutant {
	return []Mutant{{
		ID: "excluded/refused~works", Kills: "excluded/refused",
		Bug:    "a sandbox says that it has no list of commands, and has one",
		Driver: func(d *fake.Driver) sdk.Driver { return &excluding{d, "exec.list"} },
	}}
}

// excluding says that sandboxes lack a capability.
type excluding struct {
	*fake.Driver
	id string
}

func (d *excluding) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	sb, err := d.Driver.CreateSandbox(ctx, req)
	if sb != nil {
		sb.ExcludedCapabilities = []string{d.id}
	}
	return sb, err
}
