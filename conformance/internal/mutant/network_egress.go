package mutant

import (
	"context"
	"net"
	"slices"

	"google.golang.org/grpc"

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
