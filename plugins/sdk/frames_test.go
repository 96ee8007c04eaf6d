package sdk_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/relay"
)

// relaying hands AttachExec on to another server, frame by frame.
type relaying struct {
	*tinyDriver
	to providerv1.ProviderServiceClient
}

func (d relaying) StartExec(ctx context.Context, req *providerv1.StartExecRequest) (*providerv1.StartExecResponse, error) {
	return d.to.StartExec(ctx, req)
}

func (d relaying) GetExec(ctx context.Context, req *providerv1.GetExecRequest) (*providerv1.GetExecResponse, error) {
	return d.to.GetExec(ctx, req)
}

func (d relaying) SignalExec(ctx context.Context, req *providerv1.SignalExecRequest) (*providerv1.SignalExecResponse, error) {
	return d.to.SignalExec(ctx, req)
}

func (d relaying) ListExecs(ctx context.Context, req *providerv1.ListExecsRequest) (*providerv1.ListExecsResponse, error) {
	return d.to.ListExecs(ctx, req)
}

func (d relaying) AttachExec(stream grpc.BidiStreamingServer[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	up, err := d.to.AttachExec(ctx, relay.Call())
	if err != nil {
		return err
	}
	if err := up.Send(first); err != nil {
		return err
	}
	upward := make(chan error, 1)
	go func() {
		err := relay.Copy(up, stream)
		_ = up.CloseSend()
		upward <- err
		cancel()
	}()
	downward := relay.Copy(stream, up)
	select {
	case err := <-upward:
		return err
	default:
		return downward
	}
}

// A driver that passes frames on does not pass the gate by.
func TestGateSeesFramesThatAreNotDecoded(t *testing.T) {
	behind, _ := serveDriver(t, newTiny("egress.deny", "exec.stdin", "exec.signal"), sdk.Options{Configured: true})
	client, _ := serveDriver(t, relaying{newTiny("exec.stdin"), behind}, sdk.Options{Configured: true})
	ctx := within(t, patience)
	if _, err := behind.CreateSandbox(ctx, createRequest("sbx_1")); err != nil {
		t.Fatal(err)
	}
	req := startRequest("exe_1", "/bin/cat")
	req.Spec.Stdin = true
	if _, err := client.StartExec(ctx, req); err != nil {
		t.Fatal(err)
	}
	stream, err := client.AttachExec(ctx)
	if err != nil {
		t.Fatal(err)
	}
	send := func(in *providerv1.ExecInput) {
		if err := stream.Send(&providerv1.AttachExecRequest{Input: in}); err != nil {
			t.Fatal(err)
		}
	}
	send(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Open{Open: &providerv1.ExecOpen{Sandbox: ref("sbx_1"), ExecId: "exe_1", Stdin: true}}})
	send(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Stdin{Stdin: &providerv1.ExecStdin{Data: []byte("hello")}}})
	for got := ""; got != "hello"; {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got += string(resp.GetOutput().GetData().GetData())
	}
	send(&providerv1.ExecInput{Frame: &providerv1.ExecInput_Signal{Signal: providerv1.ExecSignal_EXEC_SIGNAL_TERM}})
	for err == nil {
		_, err = stream.Recv()
	}
	wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED)
	state, err := behind.GetExec(ctx, &providerv1.GetExecRequest{Sandbox: ref("sbx_1"), ExecId: "exe_1"})
	if err != nil || state.GetExec().GetState() != providerv1.ExecState_EXEC_STATE_RUNNING {
		t.Errorf("the command is %v, %v; want it to run on", state.GetExec().GetState(), err)
	}
}
