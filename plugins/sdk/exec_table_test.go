package sdk_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/plugins/sdk/exec"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// lostDriver's commands end without anybody knowing how.
type lostDriver struct{ *tinyDriver }

type lostProcess struct{ sdk.Process }

func (lostProcess) Wait(context.Context) (*providerv1.ExitStatus, error) {
	return nil, errors.New("the connection to the vendor broke")
}

func (d lostDriver) StartProcess(ctx context.Context, r *providerv1.SandboxRef, id string, spec *providerv1.ExecSpec) (sdk.Process, error) {
	p, err := d.tinyDriver.StartProcess(ctx, r, id, spec)
	return lostProcess{p}, err
}

func TestAnUnknownEndIsNeverExitZero(t *testing.T) {
	client, _ := serveDriver(t, lostDriver{newTiny("egress.deny")}, sdk.Options{Configured: true, Exec: exec.Options{Drain: 50 * time.Millisecond}})
	begin(t, client, startRequest("exe_1", "true"))
	got := attachAll(t, client, &providerv1.ExecOpen{Sandbox: ref("sbx_1"), ExecId: "exe_1"})
	if e := got.done.GetExit(); e.GetResult() != nil || e.GetCause() != providerv1.ExitCause_EXIT_CAUSE_UNKNOWN {
		t.Errorf("exit %v", e)
	}
	resp, err := client.GetExec(within(t, patience), &providerv1.GetExecRequest{Sandbox: ref("sbx_1"), ExecId: "exe_1"})
	if err != nil || resp.GetExec().GetState() != providerv1.ExecState_EXEC_STATE_UNKNOWN {
		t.Errorf("%v %v", resp, err)
	}
}

func TestStartExecIsIdempotent(t *testing.T) {
	d := newTiny("egress.deny")
	client, _ := serveDriver(t, d, sdk.Options{Configured: true})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := client.StartExec(within(t, patience), startRequest("exe_1", "true")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if d.count() != 1 {
		t.Errorf("%d processes for one exec id", d.count())
	}
	other := startRequest("exe_1", "true")
	other.RequestDigest = digest("other")
	_, err := client.StartExec(within(t, patience), other)
	wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED)
	_, err = client.GetExec(within(t, patience), &providerv1.GetExecRequest{Sandbox: ref("sbx_1"), ExecId: "exe_no"})
	wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND)
	if _, err := client.CreateSandbox(within(t, patience), createRequest("sbx_1")); err != nil {
		t.Fatal(err)
	}
	_, err = client.GetExec(within(t, patience), &providerv1.GetExecRequest{Sandbox: ref("sbx_1"), ExecId: "exe_no"})
	wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_EXEC_NOT_FOUND)
}

func TestEndedCommandsAreEvictedByNumber(t *testing.T) {
	d := newTiny("egress.deny", "exec.list")
	client, _ := serveDriver(t, d, sdk.Options{Configured: true, Exec: exec.Options{KeepFinished: 2}})
	if _, err := client.CreateSandbox(within(t, patience), createRequest("sbx_1")); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"exe_1", "exe_2", "exe_3"} {
		begin(t, client, startRequest(id, "echo", id))
		attachAll(t, client, &providerv1.ExecOpen{Sandbox: ref("sbx_1"), ExecId: id})
	}
	begin(t, client, startRequest("exe_4", "true"))
	attachAll(t, client, &providerv1.ExecOpen{Sandbox: ref("sbx_1"), ExecId: "exe_4"})
	_, err := client.GetExec(within(t, patience), &providerv1.GetExecRequest{Sandbox: ref("sbx_1"), ExecId: "exe_1"})
	wantReason(t, err, providerv1.ErrorReason_ERROR_REASON_EXEC_NOT_FOUND)
	list, err := client.ListExecs(within(t, patience), &providerv1.ListExecsRequest{Sandbox: ref("sbx_1")})
	if err != nil || len(list.GetExecs()) == 0 || list.GetExecs()[len(list.GetExecs())-1].GetExecId() != "exe_4" {
		t.Errorf("%v %v", list, err)
	}
}

// TestFrozenCommandMovesToAnotherTable is what a shim does when it pauses: freeze
// the running command, export it, and run it on in a new table, with offsets that
// continue and input that nobody has to send twice.
func TestFrozenCommandMovesToAnotherTable(t *testing.T) {
	d := newTiny("egress.deny", "exec.stdin")
	first := exec.NewTable(exec.Options{})
	client, _ := serveDriver(t, d, sdk.Options{Configured: true, Table: first})
	t.Cleanup(first.Close)
	begin(t, client, stdinRequest("exe_1", "cat"))
	stream := open(t, client, &providerv1.ExecOpen{ExecId: "exe_1", Stdin: true})
	sendStdin(t, stream, 0, "before ")
	until(t, stream, func(o *providerv1.ExecOutput) bool { return len(o.GetData().GetData()) == 7 })
	if err := first.Freeze(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	sendStdin(t, stream, 7, "during ")
	for { // accepted and not yet taken over: GetExec is the witness
		data, err := first.Export()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte("during ")) {
			break
		}
	}
	data, err := first.Export()
	if err != nil {
		t.Fatal(err)
	}
	second := exec.NewTable(exec.Options{})
	t.Cleanup(second.Close)
	client2, _ := serveDriver(t, d, sdk.Options{Configured: true, Table: second})
	obtain := func(exec.Key, *providerv1.ExecSpec) (exec.Process, error) {
		return startChild(stdinRequest("x", "cat").GetSpec())
	}
	if err := second.Import(data, "", obtain); err != nil {
		t.Fatal(err)
	}
	if err := second.Import(data, "", obtain); err == nil {
		t.Error("the same exec was imported twice")
	}
	stream2 := open(t, client2, &providerv1.ExecOpen{ExecId: "exe_1", Stdin: true, StdoutFrom: 3})
	until(t, stream2, isOpened)
	sendStdin(t, stream2, 14, "after")
	if err := stream2.Send(input(&providerv1.ExecInput_StdinClose{StdinClose: &providerv1.ExecStdinClose{Offset: 19}})); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	done := until(t, stream2, func(o *providerv1.ExecOutput) bool {
		out.Write(o.GetData().GetData())
		return o.GetDone() != nil
	}).GetDone()
	if out.String() != "ore during after" || done.GetStdoutTotal() != 19 {
		t.Errorf("%q, total %d", out.String(), done.GetStdoutTotal())
	}
	first.Thaw()
	until(t, stream, func(o *providerv1.ExecOutput) bool { return o.GetStdinAck().GetNext() == 14 })
}
