package lifecycle

import (
	"strings"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func create() []engine.Case {
	return []engine.Case{
		{
			ID: "create/answer", Title: "Creating answers a sandbox that runs, or is being made, with its identity and a handle that works.",
			Profile: engine.Core, Requirements: []string{"REQ-LIFE-002", "REQ-LIFE-004"}, Kinds: own, Cost: 5,
			Run: createAnswer,
		},
		{
			ID: "create/satisfies", Title: "Environment, folder, user and host name are as the spec says.",
			Profile: engine.Core, Requirements: []string{"REQ-LIFE-001"}, Cost: 5,
			Run: satisfies,
		},
		{
			ID: "create/refuses-as-a-whole", Title: "A spec with one thing that there is not makes nothing at all.",
			Profile: engine.Core, Requirements: []string{"REQ-LIFE-001"}, Needs: []string{"mount.volume"}, Kinds: own,
			Run: refusesAsAWhole,
		},
		{
			ID: "create/unknown-image", Title: "An image that does not exist is refused, and nothing is left behind.",
			Profile: engine.Core, Requirements: []string{"REQ-LIFE-005"}, Needs: []string{"image.oci"}, Kinds: own,
			Run: func(t *engine.T) {
				repository, _, _ := strings.Cut(t.Input("image"), "@")
				if i := strings.LastIndexByte(repository, ':'); i > strings.LastIndexByte(repository, '/') {
					repository = repository[:i]
				}
				missing := repository + "-is-missing"
				unknown(t, "image "+missing, func(s *providerv1.SandboxSpec) {
					s.Image = &providerv1.Image{Source: &providerv1.Image_Oci{Oci: missing}}
				})
			},
		},
		{
			ID: "create/unknown-template", Title: "A template that does not exist is refused, and nothing is left behind.",
			Profile: engine.Core, Requirements: []string{"REQ-LIFE-005"}, Needs: []string{"image.template"}, Kinds: own,
			Run: func(t *engine.T) {
				unknown(t, "a template", func(s *providerv1.SandboxSpec) {
					s.Image = &providerv1.Image{Source: &providerv1.Image_Template{Template: "suite-has-no-such-template"}}
				})
			},
		},
		{
			ID: "create/unknown-region", Title: "A region that does not exist is refused, and nothing is left behind.",
			Profile: engine.Core, Requirements: []string{"REQ-LIFE-005"}, Needs: []string{"placement.region"}, Kinds: own,
			Run: func(t *engine.T) {
				unknown(t, "a region", func(s *providerv1.SandboxSpec) { s.Region = "suite-has-no-such-region" })
			},
		},
	}
}

func createAnswer(t *engine.T) {
	req := stage.NewRequest(t)
	resp, err := t.Client().CreateSandbox(t.Context(), req)
	stage.OK(t, "CreateSandbox", err)
	sb := resp.GetSandbox()
	if got := sb.GetIdentity(); got.GetSandboxId() != req.GetIdentity().GetSandboxId() || got.GetOwner() != req.GetIdentity().GetOwner() {
		t.Errorf("the answer's identity is {%v}: want the request's, {%v}", got, req.GetIdentity())
	}
	switch sb.GetState() {
	case providerv1.SandboxState_SANDBOX_STATE_RUNNING, providerv1.SandboxState_SANDBOX_STATE_CREATING:
	default:
		t.Errorf("the answer's state is %s: want RUNNING or CREATING", stage.StateName(sb.GetState()))
	}
	if sb.GetVendorId() == "" {
		t.Errorf("the answer has no vendor_id: want what people find it by at the vendor")
	}
	if !sb.GetCreatedAt().IsValid() || sb.GetCreatedAt().GetSeconds() <= 0 {
		t.Errorf("created_at is %v: want when it was made", sb.GetCreatedAt())
	}
	const most = 4096
	if n := len(sb.GetHandle().GetData()); sb.GetHandle() == nil || n > most {
		t.Errorf("the handle is {%v} of %d bytes: want one of at most %d", sb.GetHandle(), n, most)
	}
	box := stage.Found(t, t.Client(), sb)
	box.AwaitRunning()
	box.Run("true").Code(0)
}

func satisfies(t *engine.T) {
	const user = "1000:1000"
	change := func(req *providerv1.CreateSandboxRequest) {
		req.Spec.Env = map[string]string{"SUITE_WORD": "with spaces, 'quotes' and ünïcode"}
		req.Spec.Workdir = "/tmp"
		if t.Has("sandbox.hostname") {
			req.Spec.Hostname = "suite-name"
		}
	}
	want := []string{"with spaces, 'quotes' and ünïcode", "/tmp"}
	script := `printf '%s\n' "$SUITE_WORD"; pwd`
	if t.Has("sandbox.hostname") {
		script += "; uname -n"
		want = append(want, "suite-name")
	}
	asUser := func(req *providerv1.CreateSandboxRequest) { req.Spec.User = user }
	if !t.Has("exec.user") && refusesUser(t, change, asUser) {
		asUser = func(*providerv1.CreateSandboxRequest) {}
	} else {
		script += "; id -u; id -g"
		want = append(want, "1000", "1000")
	}
	stage.Create(t, change, asUser).Sh(script).Code(0).Out(strings.Join(want, "\n") + "\n")
}

// refusesUser reports whether a provider that cannot run commands as a user of
// the caller's choice cannot do so for a whole sandbox either, which it must say.
func refusesUser(t *engine.T, change ...func(*providerv1.CreateSandboxRequest)) bool {
	req := stage.NewRequest(t)
	for _, c := range change {
		c(req)
	}
	_, err := t.Client().CreateSandbox(t.Context(), req)
	if err == nil {
		return false
	}
	what := "CreateSandbox with user " + req.GetSpec().GetUser()
	f := stage.Refused(t, what, err, providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE)
	stage.NoEffect(t, what, f)
	stage.Names(t, what, f, fault.MetaField, "spec.user")
	return true
}

func refusesAsAWhole(t *engine.T) {
	req := stage.NewRequest(t)
	req.Spec.Env = map[string]string{"A": "b"}
	req.Spec.Mounts = []*providerv1.Mount{{
		Target: "/mnt/suite", Mode: providerv1.MountMode_MOUNT_MODE_RW,
		Source: &providerv1.Mount_Volume{Volume: "suite-has-no-such-volume"},
	}}
	_, err := t.Client().CreateSandbox(t.Context(), req)
	what := "CreateSandbox with a volume that does not exist"
	stage.NoEffect(t, what, stage.Refused(t, what, err, providerv1.ErrorReason_ERROR_REASON_VOLUME_NOT_FOUND))
	nothing(t, what, req)
}

// unknown asks for a sandbox of something that does not exist.
func unknown(t *engine.T, what string, change func(*providerv1.SandboxSpec)) {
	req := stage.NewRequest(t)
	change(req.GetSpec())
	_, err := t.Client().CreateSandbox(t.Context(), req)
	what = "CreateSandbox with " + what + " that does not exist"
	f := stage.Refused(t, what, err, providerv1.ErrorReason_ERROR_REASON_IMAGE_NOT_FOUND, providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE)
	stage.NoEffect(t, what, f)
	nothing(t, what, req)
}

// nothing checks that a request left nothing behind.
func nothing(t *engine.T, what string, req *providerv1.CreateSandboxRequest) {
	_, err := t.Client().GetSandbox(t.Context(), byKey(req.GetOperation().GetIdempotencyKey()))
	gone(t, "GetSandbox by the key of "+what, err)
	if left := stage.ListAll(t, t.Client(), req.GetIdentity().GetOwner(), 0); len(left) > 0 {
		t.Errorf("%s was refused and left %q", what, ids(left))
	}
	_, err = t.Client().GetSandbox(t.Context(), &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{
		Sandbox: &providerv1.SandboxRef{SandboxId: req.GetIdentity().GetSandboxId()},
	}})
	gone(t, "GetSandbox by the id of "+what, err)
}
