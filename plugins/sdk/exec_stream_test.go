package sdk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

type attachStream = grpc.BidiStreamingClient[providerv1.AttachExecRequest, providerv1.AttachExecResponse]

func open(tb testing.TB, client providerv1.ProviderServiceClient, req *providerv1.ExecOpen) attachStream {
	tb.Helper()
	stream, err := client.AttachExec(within(tb, time.Minute))
	if err != nil {
		tb.Fatal(err)
	}
	req.Sandbox = ref("sbx_1")
	if err := stream.Send(input(&providerv1.ExecInput_Open{Open: req})); err != nil {
		tb.Fatal(err)
	}
	return stream
}

func begin(tb testing.TB, client providerv1.ProviderServiceClient, req *providerv1.StartExecRequest) {
	tb.Helper()
	if _, err := client.StartExec(within(tb, patience), req); err != nil {
		tb.Fatal(err)
	}
}

func stdinRequest(id string, argv ...string) *providerv1.StartExecRequest {
	req := startRequest(id, argv...)
	req.Spec.Stdin = true
	return req
}

// until reads frames until one satisfies ok.
func until(tb testing.TB, stream attachStream, ok func(*providerv1.ExecOutput) bool) *providerv1.ExecOutput {
	tb.Helper()
	for {
		resp, err := stream.Recv()
		if err != nil {
			tb.Fatalf("the stream ended: %v", err)
		}
		if ok(resp.GetOutput()) {
			return resp.GetOutput()
		}
	}
}

func isFault(o *providerv1.ExecOutput) bool  { return o.GetFault() != nil }
func isOpened(o *providerv1.ExecOutput) bool { return o.GetOpened() != nil }
func isDone(o *providerv1.ExecOutput) bool   { return o.GetDone() != nil }

func sendStdin(tb testing.TB, stream attachStream, offset int64, text string) {
	tb.Helper()
	if err := stream.Send(input(&providerv1.ExecInput_Stdin{Stdin: &providerv1.ExecStdin{Offset: offset, Data: []byte(text)}})); err != nil {
		tb.Fatal(err)
	}
}

// TestBigInputAndOutputAtOnce echoes 64 MiB through cat, by a client that keeps
// to the stdin window and by one that knows nothing of it.
func TestBigInputAndOutputAtOnce(t *testing.T) {
	const size = 64 << 20
	for _, windowed := range []bool{true, false} {
		client, _ := serveDriver(t, newTiny("egress.deny", "exec.stdin"), sdk.Options{Configured: true})
		begin(t, client, stdinRequest("exe_1", "cat"))
		stream := open(t, client, &providerv1.ExecOpen{ExecId: "exe_1", Stdin: true})
		var taken int64
		var mu sync.Mutex
		moved := sync.NewCond(&mu)
		sent := sha256.New()
		var sends sync.Mutex // grpc allows one sender at a time
		var wg sync.WaitGroup
		wg.Go(func() {
			source := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{}), size), sent)
			buf := make([]byte, handshake.FrameBytes)
			for offset := int64(0); offset < size; {
				n, err := io.ReadFull(source, buf)
				if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Error(err)
					return
				}
				mu.Lock()
				for windowed && offset+int64(n) > taken+handshake.StdinWindowBytes {
					moved.Wait()
				}
				mu.Unlock()
				sends.Lock()
				err = stream.Send(input(&providerv1.ExecInput_Stdin{Stdin: &providerv1.ExecStdin{Offset: offset, Data: buf[:n]}}))
				sends.Unlock()
				if err != nil {
					t.Error(err)
					return
				}
				offset += int64(n)
			}
			sends.Lock()
			defer sends.Unlock()
			if err := stream.Send(input(&providerv1.ExecInput_StdinClose{StdinClose: &providerv1.ExecStdinClose{Offset: size}})); err != nil {
				t.Error(err)
			}
		})
		got := sha256.New()
		var total, acked int64
		acks := make(chan int64, size/(256<<10)+1)
		wg.Go(func() {
			for n := range acks {
				sends.Lock()
				_ = stream.Send(input(&providerv1.ExecInput_Ack{Ack: &providerv1.ExecAck{Stdout: n}}))
				sends.Unlock()
			}
		})
		until(t, stream, func(o *providerv1.ExecOutput) bool {
			if o.GetStdinAck() != nil {
				mu.Lock()
				taken = o.GetStdinAck().GetNext()
				mu.Unlock()
				moved.Broadcast()
			}
			got.Write(o.GetData().GetData())
			total += int64(len(o.GetData().GetData()))
			if total-acked >= 256<<10 {
				acked = total
				acks <- acked
			}
			return o.GetDone() != nil
		})
		close(acks)
		wg.Wait()
		if total != size || !bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
			t.Errorf("windowed %v: %d bytes of %d came back, or others", windowed, total, size)
		}
	}
}

func TestStoppedReaderStopsOnlyItsOwnCommand(t *testing.T) {
	client, _ := serveDriver(t, newTiny("egress.deny"), sdk.Options{Configured: true})
	begin(t, client, startRequest("exe_1", "head", "-c", "33554432", "/dev/zero"))
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	stalled, err := client.AttachExec(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stalled.Send(input(&providerv1.ExecInput_Open{Open: &providerv1.ExecOpen{Sandbox: ref("sbx_1"), ExecId: "exe_1"}})); err != nil {
		t.Fatal(err)
	}
	until(t, stalled, isOpened)
	// Nothing of the stalled stream is read while the others run to their end.
	for i := range 3 {
		id := "exe_ok" + string(rune('a'+i))
		begin(t, client, startRequest(id, "head", "-c", "4194304", "/dev/zero"))
		if got := attachAll(t, client, &providerv1.ExecOpen{Sandbox: ref("sbx_1"), ExecId: id}); got.out.Len() != 4<<20 {
			t.Errorf("%s: %d bytes", id, got.out.Len())
		}
	}
	resp, err := client.GetExec(within(t, patience), &providerv1.GetExecRequest{Sandbox: ref("sbx_1"), ExecId: "exe_1"})
	if err != nil {
		t.Fatal(err)
	}
	if e := resp.GetExec(); e.GetState() != providerv1.ExecState_EXEC_STATE_RUNNING || e.GetStdoutTotal()-e.GetStdoutOldest() > 1<<20 || e.GetStdoutOldest() != 0 {
		t.Errorf("a command nobody acknowledges must stand still within its retention: %v", e)
	}
	leave()
	if got := attachAll(t, client, &providerv1.ExecOpen{Sandbox: ref("sbx_1"), ExecId: "exe_1"}); got.out.Len() != 32<<20 {
		t.Errorf("after the stalled reader left, another got %d bytes", got.out.Len())
	}
}

func TestStdinTakeOverDuplicatesAndGaps(t *testing.T) {
	client, _ := serveDriver(t, newTiny("egress.deny", "exec.stdin"), sdk.Options{Configured: true})
	begin(t, client, stdinRequest("exe_1", "cat"))
	first := open(t, client, &providerv1.ExecOpen{ExecId: "exe_1", Stdin: true})
	sendStdin(t, first, 0, "abc")
	until(t, first, func(o *providerv1.ExecOutput) bool { return o.GetStdinAck().GetNext() == 3 })
	second := open(t, client, &providerv1.ExecOpen{ExecId: "exe_1", Stdin: true})
	if o := until(t, second, isOpened).GetOpened(); o.GetStdinNext() != 3 {
		t.Errorf("stdin_next %d, want 3", o.GetStdinNext())
	}
	sendStdin(t, first, 3, "STOLEN")
	if f := until(t, first, isFault).GetFault(); f.GetReason() != providerv1.ErrorReason_ERROR_REASON_OBJECT_IN_USE {
		t.Errorf("the old writer got %v", f)
	}
	sendStdin(t, second, 0, "abcde") // three of them again
	sendStdin(t, second, 5, "f")
	third := open(t, client, &providerv1.ExecOpen{ExecId: "exe_1", Stdin: true})
	until(t, third, isOpened)
	sendStdin(t, third, 99, "x")
	if f := until(t, third, isFault).GetFault(); f.GetReason() != providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID {
		t.Errorf("a gap got %v", f)
	}
	last := open(t, client, &providerv1.ExecOpen{ExecId: "exe_1", Stdin: true})
	next := until(t, last, isOpened).GetOpened().GetStdinNext()
	sendStdin(t, last, next, "abcdef"[next:])
	if err := last.Send(input(&providerv1.ExecInput_StdinClose{StdinClose: &providerv1.ExecStdinClose{Offset: 6}})); err != nil {
		t.Fatal(err)
	}
	until(t, last, isDone)
	if got := attachAll(t, client, &providerv1.ExecOpen{Sandbox: ref("sbx_1"), ExecId: "exe_1"}); got.out.String() != "abcdef" {
		t.Errorf("the command read %q", got.out.String())
	}
}

func TestCancelDetachesAndTimeoutKills(t *testing.T) {
	client, _ := serveDriver(t, newTiny("egress.deny"), sdk.Options{Configured: true})
	req := startRequest("exe_1", "sh", "-c", "sleep 1000 & sleep 1000")
	req.Spec.Timeout = durationpb.New(5 * time.Second)
	begin(t, client, req)
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := client.AttachExec(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(input(&providerv1.ExecInput_Open{Open: &providerv1.ExecOpen{Sandbox: ref("sbx_1"), ExecId: "exe_1"}}))
	until(t, stream, isOpened)
	cancel()
	resp, err := client.GetExec(within(t, patience), &providerv1.GetExecRequest{Sandbox: ref("sbx_1"), ExecId: "exe_1"})
	if err != nil || resp.GetExec().GetState() != providerv1.ExecState_EXEC_STATE_RUNNING {
		t.Fatalf("after cancelling the attachment: %v %v", resp, err)
	}
	start := time.Now()
	got := attachAll(t, client, &providerv1.ExecOpen{Sandbox: ref("sbx_1"), ExecId: "exe_1"})
	if got.done.GetExit().GetSignal() != "SIGKILL" || got.done.GetExit().GetCause() != providerv1.ExitCause_EXIT_CAUSE_TIMEOUT {
		t.Errorf("exit %v", got.done.GetExit())
	}
	if took := time.Since(start); took > patience {
		t.Errorf("the timeout took %v: its descendant was not killed", took)
	}
}

func TestDescendantThatHoldsAPipeDelaysTheEndByTheDrainTime(t *testing.T) {
	client, _ := serveDriver(t, newTiny("egress.deny"), sdk.Options{Configured: true, Exec: exec.Options{Drain: 200 * time.Millisecond}})
	begin(t, client, startRequest("exe_1", "sh", "-c", "echo now; (sleep 30; echo never) & exit 3"))
	got := attachAll(t, client, &providerv1.ExecOpen{Sandbox: ref("sbx_1"), ExecId: "exe_1"})
	if got.out.String() != "now\n" || got.done.GetExit().GetCode() != 3 {
		t.Errorf("%q %v", got.out.String(), got.done.GetExit())
	}
	if _, err := client.DeleteSandbox(within(t, patience), &providerv1.DeleteSandboxRequest{Sandbox: ref("sbx_1")}); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkStdoutThroughOneAttachment(b *testing.B) {
	client, _ := serveDriver(b, newTiny("egress.deny"), sdk.Options{Configured: true})
	begin(b, client, startRequest("exe_1", "cat", "/dev/zero"))
	stream := open(b, client, &providerv1.ExecOpen{ExecId: "exe_1"})
	b.SetBytes(1 << 20)
	var total, acked int64
	for b.Loop() {
		for target := total + 1<<20; total < target; {
			resp, err := stream.Recv()
			if err != nil {
				b.Fatal(err)
			}
			total += int64(len(resp.GetOutput().GetData().GetData()))
			if total-acked > 256<<10 {
				acked = total
				if err := stream.Send(input(&providerv1.ExecInput_Ack{Ack: &providerv1.ExecAck{Stdout: acked}})); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.StopTimer()
	if _, err := client.DeleteSandbox(within(b, patience), &providerv1.DeleteSandboxRequest{Sandbox: ref("sbx_1")}); err != nil {
		b.Fatal(err)
	}
}
