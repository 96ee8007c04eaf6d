package sdk_test

import (
	"bytes"
	"testing"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestExecOutputAndExit(t *testing.T) {
	client, _ := serveDriver(t, newTiny("egress.deny"), sdk.Options{Configured: true})
	ctx := within(t, patience)
	if _, err := client.StartExec(ctx, startRequest("exe_1", "sh", "-c", "echo out; echo err >&2; exit 7")); err != nil {
		t.Fatal(err)
	}
	got := attachAll(t, client, &providerv1.ExecOpen{Sandbox: ref("sbx_1"), ExecId: "exe_1"})
	if got.out.String() != "out\n" || got.err.String() != "err\n" {
		t.Errorf("stdout %q, stderr %q", got.out.String(), got.err.String())
	}
	if got.done.GetExit().GetCode() != 7 || got.done.GetExit().GetCause() != providerv1.ExitCause_EXIT_CAUSE_TASK {
		t.Errorf("exit %v", got.done.GetExit())
	}
	if got.done.GetStdoutTotal() != 4 || got.done.GetStderrTotal() != 4 {
		t.Errorf("done %v", got.done)
	}
}

// transcript is what one attachment received.
type transcript struct {
	out, err bytes.Buffer
	exit     *providerv1.ExitStatus
	done     *providerv1.ExecDone
}

// attachAll reads an exec to its Done, acknowledging all it gets.
func attachAll(tb testing.TB, client providerv1.ProviderServiceClient, open *providerv1.ExecOpen) *transcript {
	tb.Helper()
	stream, err := client.AttachExec(within(tb, patience))
	if err != nil {
		tb.Fatal(err)
	}
	if err := stream.Send(input(&providerv1.ExecInput_Open{Open: open})); err != nil {
		tb.Fatal(err)
	}
	got := &transcript{}
	offsets := [2]int64{}
	for {
		resp, err := stream.Recv()
		if err != nil {
			tb.Fatalf("attachment ended without Done: %v", err)
		}
		switch f := resp.GetOutput().GetFrame().(type) {
		case *providerv1.ExecOutput_Opened:
			offsets = [2]int64{f.Opened.GetStdoutFrom(), f.Opened.GetStderrFrom()}
		case *providerv1.ExecOutput_Data:
			i := int(f.Data.GetStream()) - 1
			if f.Data.GetOffset() != offsets[i] {
				tb.Fatalf("offset %d of stream %d, want %d", f.Data.GetOffset(), i, offsets[i])
			}
			offsets[i] += int64(len(f.Data.GetData()))
			[]*bytes.Buffer{&got.out, &got.err}[i].Write(f.Data.GetData())
			_ = stream.Send(input(&providerv1.ExecInput_Ack{Ack: &providerv1.ExecAck{Stdout: offsets[0], Stderr: offsets[1]}}))
		case *providerv1.ExecOutput_Exit:
			got.exit = f.Exit
		case *providerv1.ExecOutput_Done:
			got.done = f.Done
			return got
		case *providerv1.ExecOutput_Fault:
			tb.Fatalf("fault: %v", f.Fault)
		}
	}
}

// frame is one of ExecInput's frames.
type inputFrame interface {
	*providerv1.ExecInput_Open | *providerv1.ExecInput_Stdin | *providerv1.ExecInput_StdinClose |
		*providerv1.ExecInput_Ack | *providerv1.ExecInput_Resize | *providerv1.ExecInput_Signal
}

func input[F inputFrame](frame F) *providerv1.AttachExecRequest {
	in := &providerv1.ExecInput{}
	switch f := any(frame).(type) {
	case *providerv1.ExecInput_Open:
		in.Frame = f
	case *providerv1.ExecInput_Stdin:
		in.Frame = f
	case *providerv1.ExecInput_StdinClose:
		in.Frame = f
	case *providerv1.ExecInput_Ack:
		in.Frame = f
	case *providerv1.ExecInput_Resize:
		in.Frame = f
	case *providerv1.ExecInput_Signal:
		in.Frame = f
	}
	return &providerv1.AttachExecRequest{Input: in}
}
