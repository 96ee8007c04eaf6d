package pluginhost_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// testPluginArg makes the test binary a plugin; the arguments after it are its
// behaviours.
const testPluginArg = "be-a-plugin"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == testPluginArg {
		bePlugin(os.Args[2:])
		return
	}
	if len(os.Args) > 1 && os.Args[1] == testHostArg {
		beHost(os.Args[2:])
		return
	}
	if len(os.Args) > 1 && os.Args[1] == handshake.DescribeFlag {
		d, _ := (&testPlugin{does: map[string]string{"name": "test"}}).Describe(context.Background(), nil)
		text, _ := handshake.Manifest{ProtocolMajors: []int{handshake.ProtocolMajor}, Describe: d}.Encode()
		_, _ = os.Stdout.Write(text)
		return
	}
	os.Exit(m.Run())
}

// testPlugin is a provider whose behaviours are switched on by name, some with a
// value: name=value.
type testPlugin struct {
	providerv1.UnimplementedProviderServiceServer
	does  map[string]string
	state string
}

func bePlugin(behaviours []string) {
	t := &testPlugin{does: map[string]string{"name": "test"}}
	for _, b := range behaviours {
		name, value, _ := strings.Cut(b, "=")
		t.does[name] = value
	}
	if text, ok := t.does["print-first"]; ok {
		fmt.Println(text)
	}
	if _, ok := t.does["silent"]; ok {
		select {}
	}
	if path, ok := t.does["crash-while"]; ok { // until the file is removed
		if _, err := os.Stat(path); err == nil {
			fmt.Fprintln(os.Stderr, "cannot find the flux capacitor")
			os.Exit(3)
		}
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion: handshake.ProtocolMajor, MagicCookieKey: handshake.CookieKey, MagicCookieValue: handshake.CookieValue,
		},
		VersionedPlugins: map[int]plugin.PluginSet{handshake.ProtocolMajor: {handshake.PluginName: served{impl: t}}},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts,
				grpc.MaxRecvMsgSize(handshake.MaxMessageBytes), grpc.MaxSendMsgSize(64<<20),
				grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: handshake.KeepaliveMinTime, PermitWithoutStream: true}))...)
		},
	})
}

type served struct {
	plugin.NetRPCUnsupportedPlugin
	impl *testPlugin
}

func (s served) GRPCServer(_ *plugin.GRPCBroker, srv *grpc.Server) error {
	providerv1.RegisterProviderServiceServer(srv, s.impl)
	return nil
}

func (s served) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("not a host")
}

func (t *testPlugin) Describe(context.Context, *providerv1.DescribeRequest) (*providerv1.DescribeResponse, error) {
	return &providerv1.DescribeResponse{Name: t.does["name"], Vendor: "tests", Version: "1.0.0", Capabilities: []*providerv1.Capability{
		{Id: "usage", State: providerv1.CapabilityState_CAPABILITY_STATE_SUPPORTED},
	}}, nil
}

func (t *testPlugin) Configure(_ context.Context, req *providerv1.ConfigureRequest) (*providerv1.ConfigureResponse, error) {
	if _, ok := t.does["refuse-config"]; ok {
		return nil, status.Error(codes.InvalidArgument, "setting colour is unknown")
	}
	t.state = req.GetStateDir()
	return &providerv1.ConfigureResponse{ConfigGeneration: 1}, nil
}

func (t *testPlugin) Probe(context.Context, *providerv1.ProbeRequest) (*providerv1.ProbeResponse, error) {
	if _, ok := t.does["not-ready"]; ok {
		return &providerv1.ProbeResponse{Checks: []*providerv1.ProbeCheck{{
			Name: "quota", Status: providerv1.ProbeStatus_PROBE_STATUS_FAILED, Detail: "no credit left", Remedy: "add some",
		}}}, nil
	}
	return &providerv1.ProbeResponse{Ready: true}, nil
}

func (t *testPlugin) Drain(context.Context, *providerv1.DrainRequest) (*providerv1.DrainResponse, error) {
	if path, ok := t.does["note-drain"]; ok {
		return &providerv1.DrainResponse{}, os.WriteFile(path, []byte("drained"), 0o600)
	}
	return &providerv1.DrainResponse{}, nil
}

// testFacts is what the plugin tells about itself through GetSandbox.
type testFacts struct {
	PID, PPID, PGID, SID int
	Env                  []string
	Stdin                string
	FDs                  []string
	Child                int
}

// GetSandbox runs the command that the id spells.
func (t *testPlugin) GetSandbox(ctx context.Context, req *providerv1.GetSandboxRequest) (*providerv1.GetSandboxResponse, error) {
	command, arg, _ := strings.Cut(req.GetSandbox().GetSandboxId(), " ")
	var facts testFacts
	switch command {
	case "facts":
		facts = ownFacts()
	case "panic":
		go func() { panic("the cat " + arg) }()
		select {}
	case "exit":
		fmt.Fprintln(rawStderr(), "last words of", arg)
		os.Exit(7)
	case "wait":
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	case "print":
		fmt.Println(arg)
	case "unavailable":
		return nil, status.Error(codes.Unavailable, "upstream is asleep")
	case "big":
		facts.Env = []string{strings.Repeat("x", 5<<20)}
	case "child": // in the group, holding stderr; "session": outside
		cmd := exec.Command("/bin/sleep", "300")
		cmd.Stderr = rawStderr()
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: arg == "session"}
		if err := cmd.Start(); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		facts.Child = cmd.Process.Pid
	}
	data, err := json.Marshal(facts)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &providerv1.GetSandboxResponse{Sandbox: &providerv1.Sandbox{StatusReason: string(data)}}, nil
}

// rawStderr is descriptor 2, which os.Stderr no longer is in a served plugin.
func rawStderr() *os.File { return os.NewFile(2, "stderr") }

func ownFacts() testFacts {
	stdin, _ := os.Readlink("/proc/self/fd/0")
	sid, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
	f := testFacts{
		PID: os.Getpid(), PPID: os.Getppid(), PGID: syscall.Getpgrp(), SID: int(sid),
		Env: os.Environ(), Stdin: stdin,
	}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			f.FDs = append(f.FDs, target)
		}
	}
	return f
}

// AttachExec echoes until the client closes.
func (t *testPlugin) AttachExec(s grpc.BidiStreamingServer[providerv1.AttachExecRequest, providerv1.AttachExecResponse]) error {
	for {
		_, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&providerv1.AttachExecResponse{}); err != nil {
			return err
		}
	}
}
