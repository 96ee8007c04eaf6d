package authz

import (
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TenantHeader is the request header in which an admin names another tenant.
const TenantHeader = "Sandbar-Tenant"

// calls is the one table of what each call takes. A test fails for a call of the
// API that is not in it, and such a call is refused to everybody.
var calls = map[protoreflect.FullName]map[protoreflect.Name]Permission{
	"sandbar.broker.v1.SandboxService": {
		"CreateSandbox": SandboxWrite, "PlanSandbox": SandboxRead, "ExplainSandbox": SandboxRead, "GetSandbox": SandboxRead,
		"ListSandboxes": SandboxRead, "WatchEvents": SandboxRead, "DeleteSandbox": SandboxWrite, "PauseSandbox": SandboxWrite, "ResumeSandbox": SandboxWrite,
		"ExtendSandbox": SandboxWrite, "ForkSandbox": SandboxWrite, "GetUsage": SandboxRead,
		"CreateSnapshot": SandboxWrite, "ListSnapshots": SandboxRead, "DeleteSnapshot": SandboxWrite, "RestoreSnapshot": SandboxWrite,
		"StartExec": Exec, "AttachExec": Exec, "GetExec": Exec, "SignalExec": Exec, "ListExecs": Exec,
		"ReadFile": FileRead, "StatFile": FileRead, "ListFiles": FileRead, "DiffFiles": FileRead, "DownloadArchive": FileRead,
		"WriteFile": FileWrite, "MakeDirectory": FileWrite, "RemoveFile": FileWrite, "MoveFile": FileWrite, "UploadArchive": FileWrite,
		"ListPorts": Port, "OpenTunnel": Port,
		"CreateVolume": VolumeWrite, "ListVolumes": VolumeRead, "DeleteVolume": VolumeWrite,
		"GetCost": CostRead,
	},
	"sandbar.broker.v1.AdminService": {
		"GetServer": ServerRead, "StopServer": ServerWrite,
		"ListProviders": ProviderRead, "ProbeProvider": ProviderRead, "RestartProvider": ProviderWrite,
		"GetActivity": ActivityRead,
	},
	"sandbar.broker.v1.AccessService": {
		"WhoAmI":       Any,
		"CreateTenant": TenantWrite, "ListTenants": TenantRead, "DeleteTenant": TenantWrite,
		"CreateAPIKey": KeyWrite, "ListAPIKeys": KeyRead, "RevokeAPIKey": KeyWrite,
		"UpdateTenant": TenantWrite,
	},
	"sandbar.broker.v1.WebhookService": {
		"CreateWebhook": WebhookWrite, "ListWebhooks": WebhookRead, "DeleteWebhook": WebhookWrite, "TestWebhook": WebhookWrite,
		"RotateWebhookSecret": WebhookWrite, "EnableWebhook": WebhookWrite, "DisableWebhook": WebhookWrite,
	},
}

// Call is what is known about a procedure.
type Call struct {
	Permission Permission
	// Streams is true if a call may be open for long.
	Streams bool
}

// procedures are the calls by the path that they have in HTTP.
var procedures = sync.OnceValue(func() map[string]Call {
	out := make(map[string]Call)
	for service, methods := range calls {
		for method, permission := range methods {
			out["/"+string(service)+"/"+string(method)] = Call{Permission: permission, Streams: streams(service, method)}
		}
	}
	return out
})

func streams(service protoreflect.FullName, method protoreflect.Name) bool {
	for _, file := range []protoreflect.FileDescriptor{
		brokerv1.File_sandbar_broker_v1_broker_proto, brokerv1.File_sandbar_broker_v1_access_proto, brokerv1.File_sandbar_broker_v1_webhook_proto,
	} {
		if s := file.Services().ByName(service.Name()); s != nil && s.FullName() == service {
			if m := s.Methods().ByName(method); m != nil {
				return m.IsStreamingClient() || m.IsStreamingServer()
			}
		}
	}
	return false
}

// Lookup returns what is known about a procedure, such as
// "/sandbar.broker.v1.SandboxService/StartExec".
func Lookup(procedure string) (Call, bool) {
	c, ok := procedures()[procedure]
	return c, ok
}

// Admit decides whether the caller may make a call, for its own tenant or the one
// named. It returns the caller as the call has it.
func Admit(p Principal, procedure, tenant string) (Principal, error) {
	call, ok := Lookup(procedure)
	if !ok {
		return p, fault.New(providerv1.ErrorReason_ERROR_REASON_POLICY_DENIED, "%q is not a call of this API", procedure).With("procedure", procedure)
	}
	p.Acting = p.Tenant
	if tenant != "" && tenant != p.Tenant {
		if p.Role != brokerv1.Role_ROLE_ADMIN {
			return p, fault.New(providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT,
				"tenant is %q: %s, of role %s, may act for its own tenant %q only", tenant, p, RoleName(p.Role), p.Tenant).
				With("tenant", tenant).With("role", RoleName(p.Role))
		}
		p.Acting = tenant
	}
	return p, p.Need(call.Permission, procedure[strings.LastIndexByte(procedure, '/')+1:])
}

// Need refuses what takes a permission that the caller has not.
func (p Principal) Need(perm Permission, what string) error {
	if p.May(perm) {
		return nil
	}
	why := "its role " + RoleName(p.Role) + " has not"
	if (Principal{Role: p.Role}).May(perm) {
		why = "its scope leaves out"
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT,
		"%s takes the permission %s, which %s: %s", what, perm, why, p).
		With("permission", string(perm)).With("role", RoleName(p.Role)).With("call", what)
}
