package server_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

var mays = map[protoreflect.Name]string{
	"CreateSandbox": "AOU", "PlanSandbox": "AOUX", "ExplainSandbox": "AOUX", "GetSandbox": "AOUX", "ListSandboxes": "AOUX", "WatchEvents": "AOUX",
	"DeleteSandbox": "AOU", "PauseSandbox": "AOU", "ResumeSandbox": "AOU", "ExtendSandbox": "AOU", "ForkSandbox": "AOU",
	"CreateSnapshot": "AOU", "ListSnapshots": "AOUX", "DeleteSnapshot": "AOU", "RestoreSnapshot": "AOU",
	"StartExec": "AOU", "AttachExec": "AOU", "GetExec": "AOU", "SignalExec": "AOU", "ListExecs": "AOU",
	"ReadFile": "AOU", "WriteFile": "AOU", "StatFile": "AOU", "ListFiles": "AOU", "MakeDirectory": "AOU", "RemoveFile": "AOU",
	"MoveFile": "AOU", "DiffFiles": "AOU", "DownloadArchive": "AOU", "UploadArchive": "AOU",
	"ListPorts": "AOU", "OpenTunnel": "AOU", "GetUsage": "AOUX",
	"CreateVolume": "AOU", "ListVolumes": "AOUX", "DeleteVolume": "AOU", "GetCost": "AOUX",
	"GetServer": "AOUX", "StopServer": "A", "ListProviders": "AOX", "ProbeProvider": "AOX", "RestartProvider": "A", "GetActivity": "A",
	"WhoAmI": "AOUX", "CreateTenant": "A", "ListTenants": "AOUX", "DeleteTenant": "A", "UpdateTenant": "A",
	"CreateAPIKey": "AO", "ListAPIKeys": "AOX", "RevokeAPIKey": "AO",
	"CreateWebhook": "AO", "ListWebhooks": "AOX", "DeleteWebhook": "AO", "TestWebhook": "AO",
	"RotateWebhookSecret": "AO", "EnableWebhook": "AO", "DisableWebhook": "AO",
}

var letters = map[brokerv1.Role]string{
	brokerv1.Role_ROLE_ADMIN: "A", brokerv1.Role_ROLE_OPERATOR: "O", brokerv1.Role_ROLE_USER: "U", brokerv1.Role_ROLE_AUDITOR: "X",
}

func methods() []protoreflect.MethodDescriptor {
	var out []protoreflect.MethodDescriptor
	for _, file := range []protoreflect.FileDescriptor{
		brokerv1.File_sandbar_broker_v1_broker_proto, brokerv1.File_sandbar_broker_v1_access_proto, brokerv1.File_sandbar_broker_v1_webhook_proto,
	} {
		for i := range file.Services().Len() {
			for j := range file.Services().Get(i).Methods().Len() {
				out = append(out, file.Services().Get(i).Methods().Get(j))
			}
		}
	}
	return out
}

func call(t *testing.T, conn *grpc.ClientConn, m protoreflect.MethodDescriptor, credential string) *fault.Error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if credential != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+credential)
	}
	path := "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
	in, out := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: m.IsStreamingServer(), ClientStreams: m.IsStreamingClient()}, path)
	check(t, err)
	if err := stream.SendMsg(in); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	check(t, stream.CloseSend())
	// What answers at all was let in; some streams go on until the caller leaves.
	if err := stream.RecvMsg(out); err != nil && !errors.Is(err, io.EOF) {
		return fault.From(err)
	}
	return nil
}

func TestEveryCallByEveryRole(t *testing.T) {
	o := newOffice(t, "acme")
	conn, err := grpc.NewClient(o.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(t, err)
	t.Cleanup(func() { check(t, conn.Close()) })
	keys := map[brokerv1.Role]string{}
	for role := range letters {
		_, keys[role] = o.key(t, "acme", role)
	}
	_, narrow := o.key(t, "acme", brokerv1.Role_ROLE_ADMIN, "exec")
	_, kept := o.key(t, "acme", brokerv1.Role_ROLE_ADMIN, "label:team=a")
	known := 0
	for _, m := range methods() {
		want, ok := mays[m.Name()]
		if !ok {
			t.Errorf("%s: nobody has said who may make this call", m.FullName())
			continue
		}
		known++
		for role, letter := range letters {
			f := call(t, conn, m, keys[role])
			switch refused := f != nil && f.Reason == insufficient; {
			case f != nil && f.Reason == providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID:
				t.Errorf("%s by %v: not recognized: %v", m.Name(), role, f)
			case refused == strings.Contains(want, letter):
				t.Errorf("%s by %v: %v", m.Name(), role, f)
			case refused && (f.Metadata["permission"] == "" || f.Metadata["role"] != authz.RoleName(role) || f.Metadata["call"] != string(m.Name())):
				t.Errorf("%s by %v: the refusal says %v", m.Name(), role, f.Metadata)
			}
		}
		if f := call(t, conn, m, ""); f == nil || f.Reason != providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID {
			t.Errorf("%s by nobody: %v", m.Name(), f)
		}
		may := strings.HasSuffix(string(m.Name()), "Exec") || m.Name() == "ListExecs" || m.Name() == "WhoAmI"
		if f := call(t, conn, m, narrow); (f != nil && f.Reason == insufficient) == may {
			t.Errorf("%s by an admin's key for exec alone: %v", m.Name(), f)
		}
		may = !strings.Contains(string(m.Name()), "APIKey") && !strings.Contains(string(m.Name()), "Webhook") &&
			m.Name() != "CreateTenant" && m.Name() != "DeleteTenant" &&
			m.Name() != "StopServer" && m.Name() != "RestartProvider" && m.Name() != "UpdateTenant" && m.Name() != "GetCost" && m.Name() != "GetActivity"
		if f := call(t, conn, m, kept); (f != nil && f.Reason == insufficient) == may {
			t.Errorf("%s by an admin's key for one team: %v", m.Name(), f)
		}
	}
	if known != len(mays) {
		t.Errorf("the API has %d of the %d calls that this test knows", known, len(mays))
	}
}
