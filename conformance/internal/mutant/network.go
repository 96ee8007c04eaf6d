package mutant

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// tunnelBug changes what one tunnel carries. Each hook may be nil.
type tunnelBug struct {
	// sent sees each frame from the client and says whether it goes on.
	sent func(f *providerv1.TunnelFrame) bool
	// received sees each frame, or the end, and returns the error in its place.
	received func(ctx context.Context, f *providerv1.TunnelFrame, err error) error
	closed   func()
}

// tunnels makes a mutant that gives each tunnel of a connection a bug; fresh is
// called once for a connection, and what it returns for each tunnel.
func tunnels(fresh func() func() tunnelBug) func(grpc.ClientConnInterface) grpc.ClientConnInterface {
	return func(conn grpc.ClientConnInterface) grpc.ClientConnInterface {
		return &tunnelConn{ClientConnInterface: conn, next: fresh()}
	}
}

type tunnelConn struct {
	grpc.ClientConnInterface
	next func() tunnelBug
}

// NewStream implements grpc.ClientConnInterface.
func (c *tunnelConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := c.ClientConnInterface.NewStream(ctx, desc, method, opts...)
	if err != nil || !strings.HasSuffix(method, "/OpenTunnel") {
		return stream, err
	}
	return &tunnelStream{ClientStream: stream, bug: c.next()}, nil
}

type tunnelStream struct {
	grpc.ClientStream
	bug tunnelBug
}

// SendMsg implements grpc.ClientStream.
func (s *tunnelStream) SendMsg(m any) error {
	if req, ok := m.(*providerv1.OpenTunnelRequest); ok && s.bug.sent != nil {
		own := clone(req)
		if !s.bug.sent(own.GetFrame()) {
			return nil
		}
		m = own
	}
	return s.ClientStream.SendMsg(m)
}

// RecvMsg implements grpc.ClientStream.
func (s *tunnelStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil && s.bug.closed != nil {
		s.bug.closed()
	}
	if resp, ok := m.(*providerv1.OpenTunnelResponse); ok && s.bug.received != nil {
		return s.bug.received(s.Context(), resp.GetFrame(), err)
	}
	return err
}

// each is for bugs that have nothing in common between tunnels.
func each(bug func() tunnelBug) func() func() tunnelBug {
	return func() func() tunnelBug { return bug }
}

func networkMutants() []Mutant {
	return []Mutant{
		{
			ID: "port/roundtrip~text", Kills: "port/roundtrip", Bug: "zero bytes are lost", Also: []string{"port/half-close", "port/concurrent", "port/slow-reader", "port/bulk"},
			Wrap: tunnels(each(func() tunnelBug {
				return tunnelBug{received: func(_ context.Context, f *providerv1.TunnelFrame, err error) error {
					if d, ok := f.GetFrame().(*providerv1.TunnelFrame_Data); ok {
						d.Data = bytes.ReplaceAll(d.Data, []byte{0}, nil)
					}
					return err
				}}
			})),
		},
		{
			ID: "port/half-close~swallowed", Kills: "port/half-close", Bug: "a half-close does not arrive inside",
			Wrap: tunnels(each(func() tunnelBug {
				return tunnelBug{sent: func(f *providerv1.TunnelFrame) bool { return f.GetHalfClose() == nil }}
			})),
		},
		{
			ID: "port/concurrent~mixed", Kills: "port/concurrent", Bug: "of more than eight tunnels at once, bytes of one arrive changed",
			Wrap: tunnels(mixedTunnels),
		},
		{
			ID: "port/bulk~ends", Kills: "port/bulk", Bug: "what comes after two MiB is lost",
			Wrap: tunnels(each(func() tunnelBug {
				total := 0
				return tunnelBug{received: func(_ context.Context, f *providerv1.TunnelFrame, err error) error {
					if d, ok := f.GetFrame().(*providerv1.TunnelFrame_Data); ok {
						if total += len(d.Data); total > 2<<20 {
							d.Data = nil
						}
					}
					return err
				}}
			})),
		},
		{
			ID: "port/slow-reader~shared", Kills: "port/slow-reader", Bug: "all tunnels share one window",
			Wrap: sharedWindow,
		},
		{
			ID: "port/refused~unavailable", Kills: "port/refused", Bug: "a closed port is reported as trouble of the vendor", Also: []string{"port/own-sandbox", "port/listener-ends"},
			Wrap: tunnels(each(func() tunnelBug {
				return tunnelBug{received: func(_ context.Context, _ *providerv1.TunnelFrame, err error) error {
					if err != nil && fault.Has(fault.From(err), providerv1.ErrorReason_ERROR_REASON_PORT_REFUSED) {
						return refuse(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "try again")
					}
					return err
				}}
			})),
		},
		{
			ID: "port/own-sandbox~first", Kills: "port/own-sandbox", Bug: "a tunnel goes to the owner's first sandbox",
			Wrap: firstSandbox,
		},
		{
			ID: "port/listener-ends~hangs", Kills: "port/listener-ends", Bug: "the end of a connection inside is not told", Also: []string{"port/sandbox-ends"},
			Wrap: tunnels(each(func() tunnelBug { return hanging(func() bool { return true }) })),
		},
		{
			ID: "port/sandbox-ends~hangs", Kills: "port/sandbox-ends", Bug: "tunnels of a deleted sandbox stay open",
			Wrap: outlivingTunnels,
		},
		{
			ID: "port/listed~never", Kills: "port/listed", Bug: "no port is ever listed",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"ListPorts": after(func(_ context.Context, _ client, _ *providerv1.ListPortsRequest, resp *providerv1.ListPortsResponse) {
					resp.Ports = nil
				})}
			}),
		},
	}
}

// hanging never tells that a connection has ended, unless the client has said so
// first.
func hanging(when func() bool) tunnelBug {
	var opened, half atomic.Bool
	return tunnelBug{
		sent: func(f *providerv1.TunnelFrame) bool {
			half.Store(half.Load() || f.GetHalfClose() != nil)
			return true
		},
		received: func(ctx context.Context, f *providerv1.TunnelFrame, err error) error {
			opened.Store(opened.Load() || err == nil && f.GetOpened() != nil)
			if over := err != nil || f.GetHalfClose() != nil || f.GetReset_() != nil; over && opened.Load() && !half.Load() && when() {
				<-ctx.Done()
				return ctx.Err()
			}
			return err
		},
	}
}

// outlivingTunnels do not tell that they ended once their sandbox is deleted.
func outlivingTunnels(conn grpc.ClientConnInterface) grpc.ClientConnInterface {
	deleted := newMemory[bool]()
	seen := wrapping(func() map[string]hook {
		return map[string]hook{"DeleteSandbox": before(func(_ context.Context, _ client, req *providerv1.DeleteSandboxRequest) {
			deleted.set(req.GetSandbox().GetSandboxId(), true)
		})}
	})(conn)
	return tunnels(each(func() tunnelBug {
		var sandbox string
		bug := hanging(func() bool { return deleted.get(sandbox) })
		sent := bug.sent
		bug.sent = func(f *providerv1.TunnelFrame) bool {
			if target := f.GetOpen().GetPort(); target != nil {
				sandbox = target.GetSandbox().GetSandboxId()
			}
			return sent(f)
		}
		return bug
	}))(seen)
}

// mixedTunnels counts the tunnels of each sandbox, and spoils what comes through
// the ninth and later ones.
func mixedTunnels() func() tunnelBug {
	open := newMemory[int64]()
	return func() tunnelBug {
		var nth atomic.Int64
		var sandbox string
		var once sync.Once
		return tunnelBug{
			sent: func(f *providerv1.TunnelFrame) bool {
				if target := f.GetOpen().GetPort(); target != nil {
					sandbox = target.GetSandbox().GetSandboxId()
					nth.Store(open.change(sandbox, add(1)))
				}
				return true
			},
			closed: func() { once.Do(func() { open.change(sandbox, add(-1)) }) },
			received: func(_ context.Context, f *providerv1.TunnelFrame, err error) error {
				if d := f.GetData(); nth.Load() > 8 && len(d) > 0 {
					d[0]++
				}
				return err
			},
		}
	}
}

// sharedWindow holds back the data of a sandbox's tunnels while a MiB of another
// of them waits to be read.
func sharedWindow(conn grpc.ClientConnInterface) grpc.ClientConnInterface {
	waiting := newMemory[*atomic.Int64]()
	of := func(sandbox string) *atomic.Int64 {
		return waiting.change(sandbox, func(n *atomic.Int64) *atomic.Int64 {
			if n == nil {
				return &atomic.Int64{}
			}
			return n
		})
	}
	return tunnels(func() func() tunnelBug {
		return func() tunnelBug {
			var all, own atomic.Int64
			mine := &all
			return tunnelBug{
				sent: func(f *providerv1.TunnelFrame) bool {
					if target := f.GetOpen().GetPort(); target != nil {
						mine = of(target.GetSandbox().GetSandboxId())
					}
					n := int64(len(f.GetData()))
					full := n > 0 && mine.Load()-own.Load() > 1<<20
					own.Add(n)
					mine.Add(n)
					return !full
				},
				received: func(_ context.Context, f *providerv1.TunnelFrame, err error) error {
					n := int64(len(f.GetData()))
					if err != nil {
						n = own.Load()
					}
					own.Add(-n)
					mine.Add(-n)
					return err
				},
			}
		}
	})(conn)
}

// firstSandbox sends every tunnel to the first sandbox of its sandbox's owner.
func firstSandbox(conn grpc.ClientConnInterface) grpc.ClientConnInterface {
	owners, first := newMemory[string](), newMemory[string]()
	seen := wrapping(func() map[string]hook {
		return map[string]hook{"CreateSandbox": func(_ context.Context, _ client, req, _ proto.Message, next func(proto.Message) error) error {
			if create, ok := req.(*providerv1.CreateSandboxRequest); ok {
				id, owner := create.GetIdentity().GetSandboxId(), create.GetIdentity().GetOwner()
				owners.set(id, owner)
				first.change(owner, func(was string) string {
					if was == "" {
						return id
					}
					return was
				})
			}
			return next(req)
		}}
	})(conn)
	return tunnels(each(func() tunnelBug {
		return tunnelBug{sent: func(f *providerv1.TunnelFrame) bool {
			if target := f.GetOpen().GetPort(); target != nil {
				target.Sandbox = ref(first.get(owners.get(target.GetSandbox().GetSandboxId())))
			}
			return true
		}}
	}))(seen)
}
