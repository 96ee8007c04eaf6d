package fake_test

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPrograms(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	for i, tc := range []struct {
		argv     []string
		out, err string
		code     int32
	}{
		{argv: []string{"echo", "a b", "c"}, out: "a b c\n"},
		{argv: []string{"emit", "out\n", "err\n", "7"}, out: "out\n", err: "err\n", code: 7},
		{argv: []string{"pwd"}, out: "/\n"},
		{argv: []string{"seq", "3"}, out: "1\n2\n3\n"},
		{argv: []string{"false"}, code: 1},
		{argv: []string{"/bin/true"}},
		{argv: []string{"nothing"}, err: "nothing: not found\n", code: 127},
		{argv: []string{"/etc/os-release"}, err: "/etc/os-release: cannot be executed\n", code: 126},
		{argv: []string{"cat"}},
		{argv: []string{"sleep", "0.01"}},
	} {
		out, errs, exit := r.run("sbx_1", "exe_"+string(rune('a'+i)), tc.argv...)
		if out != tc.out || errs != tc.err || exit.GetCode() != tc.code || exit.GetCause() != providerv1.ExitCause_EXIT_CAUSE_TASK {
			t.Errorf("%q: out %q err %q exit %v", tc.argv, out, errs, exit)
		}
	}
}

func TestPauseStopsAndResumeContinuesACounter(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	stream := r.start("sbx_1", "exe_1", &providerv1.ExecSpec{Argv: []string{"counter", "1ms"}})
	for seen := 0; seen < 3; {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		seen += strings.Count(string(resp.GetOutput().GetData().GetData()), "\n")
	}
	sb, err := r.PauseSandbox(r.ctx, &providerv1.PauseSandboxRequest{Sandbox: ref("sbx_1"), Minimum: &providerv1.Keeps{Disk: true, Memory: true, Processes: true}})
	if err != nil || sb.GetSandbox().GetState() != providerv1.SandboxState_SANDBOX_STATE_PAUSED {
		t.Fatalf("%v %v", sb, err)
	}
	if _, err := r.ListPorts(r.ctx, &providerv1.ListPortsRequest{Sandbox: ref("sbx_1")}); reason(err) != providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING {
		t.Errorf("a paused sandbox answered %v", err)
	}
	if _, err := r.ResumeSandbox(r.ctx, &providerv1.ResumeSandboxRequest{Sandbox: ref("sbx_1")}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.SignalExec(r.ctx, &providerv1.SignalExecRequest{Sandbox: ref("sbx_1"), ExecId: "exe_1", Signal: providerv1.ExecSignal_EXEC_SIGNAL_TERM}); err != nil {
		t.Fatal(err)
	}
	_, _, exit := r.finish(stream)
	if exit.GetSignal() != "SIGTERM" || exit.GetCause() != providerv1.ExitCause_EXIT_CAUSE_SIGNALED {
		t.Errorf("exit %v", exit)
	}
	again := r.start("sbx_1", "exe_1", &providerv1.ExecSpec{Argv: []string{"counter", "1ms"}}) // the same id and digest: the same exec
	out, _, _ := r.finish(again)
	for i, line := range strings.Fields(out) {
		if want := i + 1; line != strconv.Itoa(want) {
			t.Fatalf("line %d is %q: the count broke", want, line)
		}
	}
}

func TestForkSnapshotAndDiffKeepFiles(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	if err := r.write("sbx_1", "/work/x", "one"); err != nil {
		t.Fatal(err)
	}
	snap, err := r.CreateSnapshot(r.ctx, &providerv1.CreateSnapshotRequest{Sandbox: ref("sbx_1"), Operation: op("snap"), SnapshotId: "snp_1"})
	if err != nil {
		t.Fatal(err)
	}
	forked, err := r.ForkSandbox(r.ctx, &providerv1.ForkSandboxRequest{
		Sandbox: ref("sbx_1"), Operation: op("fork"), Identities: []*providerv1.Identity{identity("sbx_2"), identity("sbx_3")},
	})
	if err != nil || len(forked.GetSandboxes()) != 2 {
		t.Fatalf("%v %v", forked, err)
	}
	if err := r.write("sbx_2", "/work/x", "two"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.RestoreSnapshot(r.ctx, &providerv1.RestoreSnapshotRequest{
		Operation: op("restore"), Identity: identity("sbx_4"), SnapshotId: "snp_1", Handle: snap.GetSnapshot().GetHandle(),
	}); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"sbx_1": "one", "sbx_2": "two", "sbx_3": "one", "sbx_4": "one"} {
		if got, err := r.read(id, "/work/x"); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", id, got, err, want)
		}
	}
	if _, err := r.ForkSandbox(r.ctx, &providerv1.ForkSandboxRequest{
		Sandbox: ref("sbx_1"), Operation: op("fork2"), Identities: []*providerv1.Identity{identity("sbx_9")}, Minimum: &providerv1.Keeps{Processes: true},
	}); reason(err) != providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED {
		t.Errorf("a fork that must keep processes answered %v", err)
	}
	diff, err := r.DiffFiles(r.ctx, &providerv1.DiffFilesRequest{Sandbox: ref("sbx_1")})
	if err != nil {
		t.Fatal(err)
	}
	got, err := diff.Recv()
	if err != nil || len(got.GetChanges()) != 1 || got.GetChanges()[0].GetPath() != "/work/x" {
		t.Errorf("diff %v %v", got, err)
	}
}

func TestRestartOfThePluginLosesNoSandbox(t *testing.T) {
	dir := t.TempDir()
	conf := &providerv1.ConfigureRequest{Owner: "brk_1", StateDir: dir}
	first := serve(t, conf)
	made := first.create("sbx_1", &providerv1.SandboxSpec{Env: map[string]string{"K": "v"}})
	if err := first.write("sbx_1", "/work/x", "kept"); err != nil {
		t.Fatal(err)
	}
	if _, err := first.CreateVolume(first.ctx, &providerv1.CreateVolumeRequest{Owner: "brk_1", Name: "vol"}); err != nil {
		t.Fatal(err)
	}
	second := serve(t, conf) // the first one is simply not asked any more, as after kill -9
	resp, err := second.Recover(second.ctx, &providerv1.RecoverRequest{Sandboxes: []*providerv1.SandboxRef{ref("sbx_1"), ref("sbx_no")}})
	if err != nil {
		t.Fatal(err)
	}
	if resp.GetRecoveries()[0].GetOutcome() != providerv1.RecoveryOutcome_RECOVERY_OUTCOME_RECOVERED ||
		resp.GetRecoveries()[1].GetOutcome() != providerv1.RecoveryOutcome_RECOVERY_OUTCOME_GONE {
		t.Errorf("recoveries %v", resp)
	}
	if got, err := second.read("sbx_1", "/work/x"); err != nil || got != "kept" {
		t.Errorf("%q %v", got, err)
	}
	again := second.create("sbx_1", &providerv1.SandboxSpec{Env: map[string]string{"K": "v"}}) // same key, same digest
	if again.GetVendorId() != made.GetVendorId() {
		t.Errorf("the key made %q again, want %q", again.GetVendorId(), made.GetVendorId())
	}
	if out, _, _ := second.run("sbx_1", "exe_1", "env"); !strings.Contains(out, "K=v\n") {
		t.Errorf("environment %q", out)
	}
}

func TestFaultsAndLatency(t *testing.T) {
	list, err := structpb.NewList([]any{"CreateSandbox:lost_answer:1", "GetSandbox:panic:1", "ListSandboxes:rate_limited:1"})
	if err != nil {
		t.Fatal(err)
	}
	r := serve(t, &providerv1.ConfigureRequest{Owner: "brk_1", Settings: &structpb.Struct{Fields: map[string]*structpb.Value{
		"faults": structpb.NewListValue(list), "latency": structpb.NewStringValue("1ms"),
	}}})
	req := &providerv1.CreateSandboxRequest{Operation: op("k"), Identity: identity("sbx_1")}
	_, err = r.CreateSandbox(r.ctx, req)
	if e := fault.From(err); e == nil || e.Reason != providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE || e.Effect != providerv1.Effect_EFFECT_UNKNOWN {
		t.Fatalf("lost answer: %v", err)
	}
	if _, err := r.GetSandbox(r.ctx, &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_IdempotencyKey{IdempotencyKey: op("k").GetIdempotencyKey()}}); reason(err) != providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG {
		t.Errorf("panic: %v", err)
	}
	got, err := r.GetSandbox(r.ctx, &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_IdempotencyKey{IdempotencyKey: op("k").GetIdempotencyKey()}})
	if err != nil || got.GetSandbox().GetIdentity().GetSandboxId() != "sbx_1" {
		t.Errorf("settling a lost create: %v %v", got, err)
	}
	if _, err := r.ListSandboxes(r.ctx, &providerv1.ListSandboxesRequest{Owner: "brk_1"}); fault.From(err).RetryAfter != time.Second {
		t.Errorf("rate limit: %v", err)
	}
	req.Operation = op("k")
	req.Operation.RequestDigest = op("other").GetRequestDigest()
	if _, err := r.CreateSandbox(r.ctx, req); reason(err) != providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED {
		t.Errorf("reused key: %v", err)
	}
}

func TestConfigureIsAtomic(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	for name, conf := range map[string]*providerv1.ConfigureRequest{
		"unknown":  {Settings: &structpb.Struct{Fields: map[string]*structpb.Value{"nope": structpb.NewBoolValue(true)}}},
		"type":     {Settings: &structpb.Struct{Fields: map[string]*structpb.Value{"latency": structpb.NewNumberValue(3)}}},
		"secret":   {Settings: &structpb.Struct{Fields: map[string]*structpb.Value{"api_token": structpb.NewStringValue("x")}}},
		"fault":    {Settings: &structpb.Struct{Fields: map[string]*structpb.Value{"faults": structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue("x")}})}}},
		"stateDir": {StateDir: "relative"},
	} {
		if _, err := r.Configure(r.ctx, conf); reason(err) != providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.GetSandbox(r.ctx, &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: ref("sbx_1")}}); err != nil {
		t.Errorf("a refused Configure changed something: %v", err)
	}
}

func TestLifetimeEndsASandboxAndItsCommands(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", &providerv1.SandboxSpec{Lifetime: durationpb.New(300 * time.Millisecond)})
	_, _, exit := r.run("sbx_1", "exe_1", "sleep", "60")
	if exit.GetSignal() != "SIGKILL" || exit.GetCause() != providerv1.ExitCause_EXIT_CAUSE_SANDBOX {
		t.Errorf("exit %v", exit)
	}
	if _, err := r.GetSandbox(r.ctx, &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: ref("sbx_1")}}); reason(err) != providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND {
		t.Errorf("an expired sandbox answered %v", err)
	}
}

func TestTunnelEchoes(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	program := r.start("sbx_1", "exe_1", &providerv1.ExecSpec{Argv: []string{"listen", "8080"}})
	for out := ""; out != "listening\n"; {
		resp, err := program.Recv()
		if err != nil {
			t.Fatal(err)
		}
		out += string(resp.GetOutput().GetData().GetData())
	}
	tunnel, err := r.OpenTunnel(r.ctx)
	if err != nil {
		t.Fatal(err)
	}
	target := &providerv1.PortTarget{Sandbox: ref("sbx_1"), Port: 8080}
	for _, f := range []*providerv1.TunnelFrame{
		{Frame: &providerv1.TunnelFrame_Open{Open: &providerv1.TunnelOpen{Target: &providerv1.TunnelOpen_Port{Port: target}}}},
		{Frame: &providerv1.TunnelFrame_Data{Data: []byte("hello")}},
		{Frame: &providerv1.TunnelFrame_HalfClose{HalfClose: &providerv1.TunnelHalfClose{}}},
	} {
		if err := tunnel.Send(&providerv1.OpenTunnelRequest{Frame: f}); err != nil {
			t.Fatal(err)
		}
	}
	var got strings.Builder
	var last string
	for {
		resp, err := tunnel.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got.Write(resp.GetFrame().GetData())
		if resp.GetFrame().GetHalfClose() != nil {
			last = "half_close"
		}
	}
	if got.String() != "hello" || last != "half_close" {
		t.Errorf("echo %q, last frame %q", got.String(), last)
	}
	if ports, err := r.ListPorts(r.ctx, &providerv1.ListPortsRequest{Sandbox: ref("sbx_1")}); err != nil || len(ports.GetPorts()) != 1 {
		t.Errorf("ports %v %v", ports, err)
	}
	refusedTunnel, err := r.OpenTunnel(r.ctx)
	if err != nil {
		t.Fatal(err)
	}
	target = &providerv1.PortTarget{Sandbox: ref("sbx_1"), Port: 1}
	_ = refusedTunnel.Send(&providerv1.OpenTunnelRequest{Frame: &providerv1.TunnelFrame{Frame: &providerv1.TunnelFrame_Open{Open: &providerv1.TunnelOpen{Target: &providerv1.TunnelOpen_Port{Port: target}}}}})
	if _, err := refusedTunnel.Recv(); reason(err) != providerv1.ErrorReason_ERROR_REASON_PORT_REFUSED {
		t.Errorf("a port nobody listens on answered %v", err)
	}
}
