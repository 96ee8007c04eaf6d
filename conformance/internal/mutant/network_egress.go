package mutant

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// leaking lets some of what commands send leave their sandbox: what it is asked
// with the sandbox's policy says which networks. It reads a command as the suite
// writes it, whose last arguments are network, host, port and text.
func leaking(leaks func(*providerv1.Egress) []string) func(grpc.ClientConnInterface) grpc.ClientConnInterface {
	return wrapping(func() map[string]hook {
		policies := newMemory[*providerv1.Egress]()
		return map[string]hook{
			"CreateSandbox": before(func(_ context.Context, _ client, req *providerv1.CreateSandboxRequest) {
				policies.set(req.GetIdentity().GetSandboxId(), req.GetSpec().GetEgress())
			}),
			"StartExec": before(func(ctx context.Context, _ client, req *providerv1.StartExecRequest) {
				argv := req.GetSpec().GetArgv()
				if len(argv) < 4 {
					return
				}
				network, host, port, text := argv[len(argv)-4], argv[len(argv)-3], argv[len(argv)-2], argv[len(argv)-1]
				if !slices.Contains(leaks(policies.get(req.GetSandbox().GetSandboxId())), network) {
					return
				}
				conn, err := (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(host, port))
				if err != nil {
					return // there is nobody, as for a sandbox that is open
				}
				_, _ = conn.Write([]byte(text)) // nobody to tell
				_ = conn.Close()
			}),
		}
	})
}

// flows makes a mutant that changes what is announced; change says whether a flow
// is announced at all.
func flows(change func(f *providerv1.Flow) bool) func(grpc.ClientConnInterface) grpc.ClientConnInterface {
	return watches(func() flowBug { return flowBug{announced: change} })
}

// flowBug changes one WatchFlows. Each hook may be nil.
type flowBug struct {
	opened    func(owner string)
	announced func(f *providerv1.Flow) bool
}

// watches is flows with a bug for each WatchFlows.
func watches(fresh func() flowBug) func(grpc.ClientConnInterface) grpc.ClientConnInterface {
	return func(conn grpc.ClientConnInterface) grpc.ClientConnInterface {
		return &flowConn{ClientConnInterface: conn, fresh: fresh}
	}
}

type flowConn struct {
	grpc.ClientConnInterface
	fresh func() flowBug
}

// NewStream implements grpc.ClientConnInterface.
func (c *flowConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := c.ClientConnInterface.NewStream(ctx, desc, method, opts...)
	if err != nil || !strings.HasSuffix(method, "/WatchFlows") {
		return stream, err
	}
	return &flowStream{ClientStream: stream, bug: c.fresh()}, nil
}

type flowStream struct {
	grpc.ClientStream
	bug flowBug
}

// SendMsg implements grpc.ClientStream.
func (s *flowStream) SendMsg(m any) error {
	if req, ok := m.(*providerv1.WatchFlowsRequest); ok && s.bug.opened != nil {
		s.bug.opened(req.GetOwner())
	}
	return s.ClientStream.SendMsg(m)
}

// RecvMsg implements grpc.ClientStream.
func (s *flowStream) RecvMsg(m any) error {
	for {
		if err := s.ClientStream.RecvMsg(m); err != nil {
			return err
		}
		if resp, ok := m.(*providerv1.WatchFlowsResponse); !ok || s.bug.announced == nil || s.bug.announced(resp.GetFlow()) {
			return nil
		}
	}
}

// firstFlows names the first sandbox that a flow came from in every flow.
func firstFlows() flowBug {
	first := ""
	return flowBug{announced: func(f *providerv1.Flow) bool {
		if first == "" {
			first = f.GetSandboxId()
		}
		f.SandboxId = first
		return true
	}}
}

// unwatched lets out what is sent while nobody listens. It reads a command as
// leaking does.
func unwatched(conn grpc.ClientConnInterface) grpc.ClientConnInterface {
	owners, watched := newMemory[string](), newMemory[bool]()
	return wrapping(func() map[string]hook {
		return map[string]hook{
			"CreateSandbox": before(func(_ context.Context, _ client, req *providerv1.CreateSandboxRequest) {
				owners.set(req.GetIdentity().GetSandboxId(), req.GetIdentity().GetOwner())
			}),
			"StartExec": before(func(_ context.Context, _ client, req *providerv1.StartExecRequest) {
				argv := req.GetSpec().GetArgv()
				if len(argv) > 4 && argv[len(argv)-4] == "tcp" && !watched.get(owners.get(req.GetSandbox().GetSandboxId())) {
					req.Spec.Argv = []string{"true"}
				}
			}),
		}
	})(watches(func() flowBug {
		return flowBug{opened: func(owner string) { watched.set(owner, true) }}
	})(conn))
}

// hasty lets flows out before anybody decides, and refuses none.
type hasty struct {
	*fake.Driver
	early bool
}

// WatchFlows implements sdk.FlowSource.
func (d *hasty) WatchFlows(ctx context.Context, owner string, send func(*providerv1.Flow) error) error {
	return d.Driver.WatchFlows(ctx, owner, func(f *providerv1.Flow) error { //nolint:wrapcheck // it is the same call
		if d.early {
			if conn, err := d.AcceptFlow(ctx, f.GetFlowId()); err == nil {
				_ = conn.Close()
			}
		}
		return send(f)
	})
}

// RefuseFlow implements sdk.FlowSource.
func (d *hasty) RefuseFlow(ctx context.Context, id string) error {
	conn, err := d.AcceptFlow(ctx, id)
	if err != nil {
		return err //nolint:wrapcheck // it is the same call
	}
	return conn.Close()
}

// firstPolicy answers updates and keeps the policy that a sandbox was made with, or
// got first.
func firstPolicy(updates int32) func(grpc.ClientConnInterface) grpc.ClientConnInterface {
	return wrapping(func() map[string]hook {
		var seen atomic.Int32
		return map[string]hook{"UpdateEgress": func(_ context.Context, _ client, req, reply proto.Message, next func(proto.Message) error) error {
			if seen.Add(1) <= updates {
				return next(req)
			}
			if resp, ok := reply.(*providerv1.UpdateEgressResponse); ok {
				resp.Strength = providerv1.EgressStrength_EGRESS_STRENGTH_ENFORCED
			}
			return nil
		}}
	})
}

func egressMutants() []Mutant { return slices.Concat(closedMutants(), captureMutants()) }

func closedMutants() []Mutant {
	return []Mutant{
		{
			ID: "egress/closed~tcp", Kills: "egress/closed", Bug: "connections to the machine that the provider runs on leave",
			Wrap: leaking(func(*providerv1.Egress) []string { return []string{"tcp"} }),
		},
		{
			ID: "egress/closed~udp", Kills: "egress/closed", Bug: "connections are held back, datagrams are not",
			Wrap: leaking(func(*providerv1.Egress) []string { return []string{"udp"} }),
		},
		{
			ID: "egress/closed~unset", Kills: "egress/closed", Bug: "without a policy everything leaves",
			Wrap: leaking(func(policy *providerv1.Egress) []string {
				if policy != nil {
					return nil
				}
				return []string{"tcp", "udp"}
			}),
		},
	}
}

func captureMutants() []Mutant {
	return []Mutant{
		{
			ID: "egress/captured~port", Kills: "egress/captured", Bug: "the destination's port is not told",
			Wrap: flows(func(f *providerv1.Flow) bool { f.DestinationPort = 0; return true }),
		},
		{
			ID: "egress/captured~refuses-none", Kills: "egress/captured", Bug: "a refused connection is made, and then closed",
			Driver: func(d *fake.Driver) sdk.Driver { return &hasty{Driver: d} },
		},
		{
			ID: "egress/captured~udp", Kills: "egress/captured", Bug: "datagrams are not announced",
			Wrap: flows(func(f *providerv1.Flow) bool { return f.GetProtocol() != providerv1.FlowProtocol_FLOW_PROTOCOL_UDP }),
		},
		{
			ID: "egress/names~unannounced", Kills: "egress/names", Bug: "queries for names are not announced",
			Wrap: flows(func(f *providerv1.Flow) bool { return f.GetProtocol() != providerv1.FlowProtocol_FLOW_PROTOCOL_DNS }),
		},
		{
			ID: "egress/held~early", Kills: "egress/held", Bug: "connections are made while the broker decides", Also: []string{"egress/captured", "egress/names", "egress/own-flows", "egress/updated"},
			Driver: func(d *fake.Driver) sdk.Driver { return &hasty{Driver: d, early: true} },
		},
		{
			ID: "egress/held~unwatched", Kills: "egress/held", Bug: "while nobody listens everything leaves",
			Wrap: unwatched,
		},
		{
			ID: "egress/own-flows~first", Kills: "egress/own-flows", Bug: "every flow names the sandbox that was captured first",
			Wrap: watches(firstFlows),
		},
		{
			ID: "egress/updated~never", Kills: "egress/updated", Bug: "an update is answered and does nothing",
			Wrap: firstPolicy(0),
		},
		{
			ID: "egress/updated~opens-only", Kills: "egress/updated", Bug: "a policy can be opened, and then not be closed again",
			Wrap: firstPolicy(1),
		},
	}
}
