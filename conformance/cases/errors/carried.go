package errors

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/request"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// carried are the cases about what an error has beside its message.
func carried() []engine.Case {
	return []engine.Case{
		{
			ID: "error/every-error-has-info", Title: "Whatever is asked wrongly, the error has a reason of the contract, its code and an effect.",
			Profile: engine.Core, Requirements: []string{"REQ-ERR-001", "REQ-ERR-002", "REQ-ERR-007", "REQ-ERR-008"}, Kinds: own, Cost: 5,
			Budget: time.Minute, Run: everyError,
		},
		{
			ID: "error/names-the-field", Title: "FIELD_INVALID names the path of the field, and says what would be right.",
			Profile: engine.Core, Requirements: []string{"REQ-ERR-005"}, Kinds: own, Cost: 3,
			Run: namesTheField,
		},
		{
			ID: "error/rate-limit-says-when", Title: "A rate limit that the vendor gave a time for is answered with that time.",
			Profile: engine.Core, Requirements: []string{"REQ-ERR-006"}, Kinds: own,
			Run: rateLimit,
		},
	}
}

// everyError calls each RPC with nothing, with what does not exist, and with each
// field wrong in turn.
func everyError(t *engine.T) {
	box := stage.Create(t)
	absent := stage.Values(t, nil)
	for _, md := range request.Methods() {
		if md.Name() == "Configure" || md.Name() == "Drain" || md.Name() == "Describe" || md.Name() == "Probe" {
			continue // of these nothing can be wrong, or it would not be this plugin any more
		}
		t.Step("%s", md.Name())
		empty, err := request.Empty(md)
		if err != nil {
			t.Broken("%v", err)
		}
		judge(t, md, empty, "with nothing in it", md.Name() != "Recover") // nothing to recover is no mistake
		valid, err := request.New(md, absent)
		if err != nil {
			t.Broken("%v", err)
		}
		if request.NeedsSandbox(md) && md.Name() != "DeleteSandbox" && md.Name() != "Recover" {
			judge(t, md, valid, "for what does not exist", true)
		}
		there, err := request.New(md, stage.Values(t, box))
		if err != nil {
			t.Broken("%v", err)
		}
		if harmless[string(md.Name())] {
			judge(t, md, there, "for what the sandbox does not have", true)
		}
		if disturbing[string(md.Name())] {
			there = valid
		}
		for _, bad := range request.Spoiled(there) {
			judge(t, md, bad.Request, "with "+bad.Field+" "+bad.What, false)
		}
	}
}

// harmless are the calls about something inside a sandbox that does not exist.
var harmless = map[string]bool{
	"AttachExec": true, "GetExec": true, "SignalExec": true, "ReadFile": true, "StatFile": true, "ListFiles": true,
	"MoveFile": true, "DownloadArchive": true, "OpenTunnel": true, "RestoreSnapshot": true,
}

// disturbing are the calls that would change the sandbox that the others need,
// were what is wrong with them not noticed.
var disturbing = map[string]bool{
	"DeleteSandbox": true, "PauseSandbox": true, "ResumeSandbox": true, "ExtendLifetime": true, "UpdateEgress": true,
}

// judge sends a request and looks at the error, of which there must be one if it
// is wrong in any case.
func judge(t *engine.T, md protoreflect.MethodDescriptor, req proto.Message, how string, must bool) {
	patience := t.Slowly(5 * time.Second)
	if md.IsStreamingServer() && !must {
		patience = 500 * time.Millisecond // it may be right after all, and go on
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	what := string(md.Name()) + " " + how
	err := request.Send(ctx, t.Conn(), md, req)
	switch {
	case !must && (status.Code(err) == codes.DeadlineExceeded || ctx.Err() != nil):
		// It is right after all and goes on, until our own deadline ended it.
	case err != nil:
		stage.ProperError(t, what, err)
		f := fault.From(err)
		if f.Reason == providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID && f.Metadata[fault.MetaField] == "" {
			t.Errorf("%s: FIELD_INVALID without metadata[field]", what)
		}
	case must:
		t.Errorf("%s succeeded: want it refused", what)
	}
}

// wrong is a request with one wrong field.
type wrong struct {
	field string
	send  func(context.Context, providerv1.ProviderServiceClient) error
}

func namesTheField(t *engine.T) {
	box := stage.Create(t)
	for _, w := range slices.Concat(wrongCreates(t), wrongCalls(box)) {
		what := "a request with a wrong " + w.field
		err := w.send(t.Context(), t.Client())
		if err == nil {
			t.Errorf("%s succeeded: want FIELD_INVALID", what)
			continue
		}
		f := stage.Refused(t, what, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
		stage.NoEffect(t, what, f)
		if got := f.Metadata[fault.MetaField]; got != w.field {
			t.Errorf("%s: metadata[field] is %q: want %q", what, got, w.field)
		}
		if !strings.Contains(f.Message, "want") && len(strings.Fields(f.Message)) < 4 {
			t.Errorf("%s: message %q: want it to say what would be right", what, f.Message)
		}
	}
}

func wrongCreates(t *engine.T) []wrong {
	create := func(field string, change func(*providerv1.CreateSandboxRequest)) wrong {
		return wrong{field, func(ctx context.Context, client providerv1.ProviderServiceClient) error {
			req := stage.NewRequest(t)
			change(req)
			_, err := client.CreateSandbox(ctx, req)
			return err //nolint:wrapcheck // it is the peer's answer
		}}
	}
	return []wrong{
		create("operation.idempotency_key", func(r *providerv1.CreateSandboxRequest) { r.Operation.IdempotencyKey = "short" }),
		create("operation.request_digest", func(r *providerv1.CreateSandboxRequest) { r.Operation.RequestDigest = []byte("short") }),
		create("identity.sandbox_id", func(r *providerv1.CreateSandboxRequest) { r.Identity.SandboxId = "" }),
		create("identity.owner", func(r *providerv1.CreateSandboxRequest) { r.Identity.Owner = "" }),
		create("identity.labels", func(r *providerv1.CreateSandboxRequest) { r.Identity.Labels = map[string]string{"no spaces": ""} }),
		create("spec.workdir", func(r *providerv1.CreateSandboxRequest) { r.Spec.Workdir = "relative" }),
		create("spec.env", func(r *providerv1.CreateSandboxRequest) { r.Spec.Env = map[string]string{"A=B": ""} }),
	}
}

func wrongCalls(box *stage.Box) []wrong {
	exec := func(field string, change func(*providerv1.StartExecRequest)) wrong {
		return wrong{field, func(ctx context.Context, client providerv1.ProviderServiceClient) error {
			req := box.NewExec(stage.Argv("true"))
			change(req)
			_, err := client.StartExec(ctx, req)
			return err //nolint:wrapcheck // it is the peer's answer
		}}
	}
	return []wrong{
		exec("spec.argv", func(r *providerv1.StartExecRequest) { r.Spec.Argv = nil }),
		exec("exec_id", func(r *providerv1.StartExecRequest) { r.ExecId = "" }),
		exec("spec.workdir", func(r *providerv1.StartExecRequest) { r.Spec.Workdir = "relative" }),
		exec("sandbox.sandbox_id", func(r *providerv1.StartExecRequest) { r.Sandbox = nil }),
		{"page_size", func(ctx context.Context, client providerv1.ProviderServiceClient) error {
			_, err := client.ListSandboxes(ctx, &providerv1.ListSandboxesRequest{Owner: "o", PageSize: 1001})
			return err //nolint:wrapcheck // it is the peer's answer
		}},
		{"owner", func(ctx context.Context, client providerv1.ProviderServiceClient) error {
			_, err := client.ListSandboxes(ctx, &providerv1.ListSandboxesRequest{})
			return err //nolint:wrapcheck // it is the peer's answer
		}},
		{"sandboxes", func(ctx context.Context, client providerv1.ProviderServiceClient) error {
			_, err := client.Recover(ctx, &providerv1.RecoverRequest{Sandboxes: make([]*providerv1.SandboxRef, 1001)})
			return err //nolint:wrapcheck // it is the peer's answer
		}},
	}
}

// rateLimit asks often. Few vendors say stop that soon; one that does has to say
// for how long.
func rateLimit(t *engine.T) {
	const often = 20
	for range often {
		_, err := t.Client().ListSandboxes(t.Context(), &providerv1.ListSandboxesRequest{Owner: t.Owner()})
		if err == nil {
			continue
		}
		stage.ProperError(t, "ListSandboxes", err)
		if f := fault.From(err); f.Reason == providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED {
			if f.RetryAfter <= 0 {
				t.Errorf("%s: want RetryInfo with how long to wait", subject.Describe(err))
			}
			return
		}
		t.Fatalf("ListSandboxes: %s: want success, or RATE_LIMITED", subject.Describe(err))
	}
}
