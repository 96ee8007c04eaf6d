package mutant

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func livePauseMutants() []Mutant {
	return []Mutant{
		{
			ID: "pause/keeps-processes~cold", Kills: "pause/keeps-processes", Bug: "a pause keeps the disk, says that it keeps processes, and starts anew",
			Also: []string{"pause/stops-processes", "pause/keeps-pipes", "pause/attach-again", "pause/thrice", "pause/exit-code-after"},
			Wrap: wrapping(func() map[string]hook { return map[string]hook{"ResumeSandbox": killedOnResume(0, nil)} }),
		},
		{
			ID: "pause/stops-processes~runs-on", Kills: "pause/stops-processes", Bug: "a pause only says that it paused",
			Also: []string{"pause/refuses-use", "pause/no-cpu", "pause/state-is-told"},
			Wrap: wrapping(pretendedPauses),
		},
		{
			ID: "pause/keeps-pipes~broken", Kills: "pause/keeps-pipes", Bug: "pipelines do not survive a pause",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"ResumeSandbox": killedOnResume(0, func(e *providerv1.Exec) bool {
					return strings.Contains(strings.Join(e.GetArgv(), " "), ") | (")
				})}
			}),
		},
		{
			ID: "pause/attach-again~gap", Kills: "pause/attach-again", Provider: "local", Bug: "the first byte after the offset asked for is lost",
			Wrap: func(conn grpc.ClientConnInterface) grpc.ClientConnInterface { return &gapConn{conn} },
		},
		{
			ID: "pause/thrice~second", Kills: "pause/thrice", Bug: "processes survive one pause, and not the second",
			Wrap: wrapping(func() map[string]hook { return map[string]hook{"ResumeSandbox": killedOnResume(2, nil)} }),
		},
		{
			ID: "pause/exit-code-after~unknown", Kills: "pause/exit-code-after", Provider: "local", Bug: "commands that ran before a pause are unknown after it",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"GetExec": after(func(_ context.Context, _ client, _ *providerv1.GetExecRequest, resp *providerv1.GetExecResponse) {
					resp.Exec.State = providerv1.ExecState_EXEC_STATE_UNKNOWN
				})}
			}),
		},
	}
}

// killedOnResume kills commands at a sandbox's nth resume; 0: at each.
func killedOnResume(nth int, which func(*providerv1.Exec) bool) hook {
	resumes := newMemory[int]()
	return after(func(ctx context.Context, c client, req *providerv1.ResumeSandboxRequest, _ *providerv1.ResumeSandboxResponse) {
		id := req.GetSandbox().GetSandboxId()
		if n := resumes.change(id, func(n int) int { return n + 1 }); nth == 0 || n == nth {
			killAll(ctx, c, id, which)
		}
	})
}

// pretendedPauses never pauses anything.
func pretendedPauses() map[string]hook {
	paused := newMemory[bool]()
	told := func(sb *providerv1.Sandbox) {
		if paused.get(sb.GetIdentity().GetSandboxId()) {
			sb.State, sb.Kept = pausedState, stage.Processes
		}
	}
	return map[string]hook{
		"PauseSandbox": func(ctx context.Context, c client, req, reply proto.Message, _ func(proto.Message) error) error {
			pause, _ := req.(*providerv1.PauseSandboxRequest)
			resp, err := c.GetSandbox(ctx, bySandboxID(pause.GetSandbox().GetSandboxId()))
			if err != nil {
				return err
			}
			paused.set(pause.GetSandbox().GetSandboxId(), true)
			told(resp.GetSandbox())
			proto.Merge(reply, &providerv1.PauseSandboxResponse{Sandbox: resp.GetSandbox()})
			return nil
		},
		"ResumeSandbox": before(func(_ context.Context, _ client, req *providerv1.ResumeSandboxRequest) {
			paused.set(req.GetSandbox().GetSandboxId(), false)
		}),
		"GetSandbox": after(func(_ context.Context, _ client, _ *providerv1.GetSandboxRequest, resp *providerv1.GetSandboxResponse) {
			told(resp.GetSandbox())
		}),
	}
}

// gapConn loses the first byte of standard output of an attachment that does not
// begin at the start.
type gapConn struct{ grpc.ClientConnInterface }

// NewStream implements grpc.ClientConnInterface.
func (g *gapConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := g.ClientConnInterface.NewStream(ctx, desc, method, opts...)
	if err != nil || !strings.HasSuffix(method, "/AttachExec") {
		return stream, err
	}
	return &gapStream{ClientStream: stream}, nil
}

type gapStream struct {
	grpc.ClientStream
	done bool
}

// RecvMsg implements grpc.ClientStream.
func (g *gapStream) RecvMsg(m any) error {
	err := g.ClientStream.RecvMsg(m)
	resp, ok := m.(*providerv1.AttachExecResponse)
	if err != nil || !ok || g.done {
		return err
	}
	d := resp.GetOutput().GetData()
	if d.GetStream() == providerv1.ExecStream_EXEC_STREAM_STDOUT && len(d.GetData()) > 0 {
		g.done = true
		if d.GetOffset() > 0 {
			d.Data, d.Offset = d.GetData()[1:], d.GetOffset()+1
		}
	}
	return nil
}
