package errors

import (
	"bytes"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// sizes are the cases about how large a message may be.
func sizes() []engine.Case {
	return []engine.Case{
		{
			ID: "message/large-accepted", Title: "A message of 3.9 MiB is taken.",
			Profile: engine.Core, Requirements: []string{"REQ-PROC-005"}, Kinds: own,
			Run: largeAccepted,
		},
		{
			ID: "message/too-large-refused", Title: "A message of more than 4 MiB is refused, and the plugin goes on.",
			Profile: engine.Core, Requirements: []string{"REQ-PROC-005"}, Kinds: own,
			Run: tooLargeRefused,
		},
	}
}

// most is how many handles one Recover takes, and how large each may be.
const (
	mostHandles = 1000
	handleBytes = 4096
)

// large is a valid request whose size is that of n handles.
func large(n int, bytesEach int) *providerv1.RecoverRequest {
	req := &providerv1.RecoverRequest{}
	for range n {
		req.Sandboxes = append(req.Sandboxes, &providerv1.SandboxRef{
			SandboxId: stage.NewID("sbx"), Handle: &providerv1.Handle{Version: 1, Data: bytes.Repeat([]byte("x"), bytesEach)},
		})
	}
	return req
}

func largeAccepted(t *engine.T) {
	const bytesEach = 4050 // with what is around them 3.9 MiB
	resp, err := t.Client().Recover(t.Context(), large(mostHandles, bytesEach))
	stage.OK(t, "Recover with 3.9 MiB", err)
	if n := len(resp.GetRecoveries()); n != mostHandles {
		t.Errorf("Recover answered %d of %d", n, mostHandles)
	}
}

func tooLargeRefused(t *engine.T) {
	ctx := t.Context()
	req := large(mostHandles+100, handleBytes)
	var resp providerv1.RecoverResponse
	err := t.Instance().Conn.Invoke(ctx, providerv1.ProviderService_Recover_FullMethodName, req, &resp,
		grpc.MaxCallSendMsgSize(4*handshake.MaxMessageBytes)) // this side would refuse it, too
	if err == nil {
		t.Errorf("a message of more than 4 MiB was taken: want RESOURCE_EXHAUSTED")
	} else if code := status.Code(err); code != codes.ResourceExhausted {
		t.Errorf("a message of more than 4 MiB is answered %s: want RESOURCE_EXHAUSTED", subject.Describe(err))
	}
	_, err = t.Client().ListSandboxes(ctx, &providerv1.ListSandboxesRequest{Owner: t.Owner()})
	stage.OK(t, "ListSandboxes after a message that was too large", err)
}
