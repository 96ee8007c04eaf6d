package identity

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/request"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func configure() []engine.Case {
	refusals := []string{"REQ-ID-004", "REQ-ID-002"}
	return []engine.Case{
		{
			ID: "configure/rejects-unknown-key", Title: "A setting that does not exist is refused by name, and nothing changes.",
			Profile: engine.Core, Requirements: refusals, Kinds: own,
			Run: unknownKey,
		},
		{
			ID: "configure/rejects-missing-required", Title: "A required setting that is missing is asked for by name.",
			Profile: engine.Core, Requirements: refusals, Kinds: own,
			Run: missingRequired,
		},
		{
			ID: "configure/rejects-wrong-type", Title: "A value of the wrong type is refused, for each setting by its name.",
			Profile: engine.Core, Requirements: refusals, Kinds: own,
			Run: wrongType,
		},
		{
			ID: "configure/rejects-secret-among-settings", Title: "A secret that was put among the settings is refused, and not repeated.",
			Profile: engine.Core, Requirements: []string{"REQ-ID-004", "REQ-ID-005"}, Kinds: own,
			Run: misplacedSecret,
		},
		{
			ID: "configure/generation", Title: "config_generation grows by one with each accepted Configure, and by nothing else.",
			Profile: engine.Core, Requirements: []string{"REQ-ID-002"}, Kinds: own,
			Run: generation,
		},
		{
			ID: "configure/not-configured", Title: "Before Configure every call but Describe, Configure and Drain is refused.",
			Profile: engine.Core, Requirements: []string{"REQ-ID-006"}, Kinds: own,
			Run: notConfigured,
		},
	}
}

// accept configures, which must be accepted.
func accept(t *engine.T, inst *subject.Instance, req *providerv1.ConfigureRequest) uint64 {
	resp, err := t.ClientOf(inst).Configure(t.Context(), req)
	stage.OK(t, "Configure with the operator's settings", err)
	return resp.GetConfigGeneration()
}

// change is a copy of an instance's configuration that something was done to.
func change(inst *subject.Instance, what func(*providerv1.ConfigureRequest)) *providerv1.ConfigureRequest {
	req := proto.CloneOf(inst.Configuration)
	if req.GetSettings() == nil {
		req.Settings = &structpb.Struct{}
	}
	if req.GetSettings().GetFields() == nil {
		req.Settings.Fields = map[string]*structpb.Value{}
	}
	if req.GetSecrets() == nil {
		req.Secrets = map[string][]byte{}
	}
	what(req)
	return req
}

// refuse configures, which must be refused because of one setting, and leave
// everything as it was.
func refuse(t *engine.T, inst *subject.Instance, setting string, req *providerv1.ConfigureRequest) {
	before := ask(t, inst)
	what := "Configure with a wrong " + setting
	_, err := t.ClientOf(inst).Configure(t.Context(), req)
	if err == nil {
		t.Errorf("%s was accepted: want FIELD_INVALID", what)
		return
	}
	f := stage.Refused(t, what, err, providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID)
	stage.NoEffect(t, what, f)
	if field := f.Metadata[fault.MetaField]; !slices.Contains(strings.Split(field, "."), setting) {
		t.Errorf("%s: metadata[field] is %q: want the path of the setting, such as settings.%s", what, field, setting)
	}
	unchanged(t, "with a Configure that was refused", before, ask(t, inst))
}

func unknownKey(t *engine.T) {
	const key = "sandbar_suite_setting"
	inst := stage.Open(t, subject.OpenOptions{})
	refuse(t, inst, key, change(inst, func(req *providerv1.ConfigureRequest) {
		req.Settings.Fields[key] = structpb.NewStringValue("x")
	}))
	refuse(t, inst, key, change(inst, func(req *providerv1.ConfigureRequest) { req.Secrets[key] = []byte("x") }))
	_, err := t.ClientOf(inst).ListSandboxes(t.Context(), &providerv1.ListSandboxesRequest{Owner: t.Owner()})
	stage.OK(t, "ListSandboxes after a Configure that was refused", err)
}

func missingRequired(t *engine.T) {
	inst := stage.Open(t, subject.OpenOptions{})
	found := false
	for _, s := range inst.Describe.GetSettings() {
		if !s.GetRequired() {
			continue
		}
		found = true
		refuse(t, inst, s.GetName(), change(inst, func(req *providerv1.ConfigureRequest) {
			delete(req.GetSettings().GetFields(), s.GetName())
			delete(req.GetSecrets(), s.GetName())
		}))
	}
	if !found {
		t.Skip(engine.NotDeclared, "a setting that is required")
	}
}

func wrongType(t *engine.T) {
	inst := stage.Open(t, subject.OpenOptions{})
	found := false
	for _, s := range inst.Describe.GetSettings() {
		if s.GetSecret() {
			continue
		}
		found = true
		for _, value := range wrong(s.GetType()) {
			refuse(t, inst, s.GetName(), change(inst, func(req *providerv1.ConfigureRequest) {
				req.Settings.Fields[s.GetName()] = value
			}))
		}
	}
	if !found {
		t.Skip(engine.NotDeclared, "a setting that is no secret")
	}
}

// wrong are values that a type does not have.
func wrong(kind providerv1.SettingType) []*structpb.Value {
	list := structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewNumberValue(1)}})
	switch kind {
	case providerv1.SettingType_SETTING_TYPE_STRING:
		return []*structpb.Value{structpb.NewNumberValue(7), structpb.NewBoolValue(true), list}
	case providerv1.SettingType_SETTING_TYPE_INTEGER:
		return []*structpb.Value{structpb.NewStringValue("seven"), structpb.NewNumberValue(1.5), structpb.NewBoolValue(true)}
	case providerv1.SettingType_SETTING_TYPE_BOOLEAN:
		return []*structpb.Value{structpb.NewStringValue("yes"), structpb.NewNumberValue(1)}
	case providerv1.SettingType_SETTING_TYPE_DURATION:
		return []*structpb.Value{structpb.NewStringValue("soon"), structpb.NewNumberValue(5)}
	case providerv1.SettingType_SETTING_TYPE_SIZE:
		return []*structpb.Value{structpb.NewStringValue("big"), structpb.NewBoolValue(true)}
	case providerv1.SettingType_SETTING_TYPE_STRING_LIST:
		return []*structpb.Value{structpb.NewStringValue("one"), list}
	case providerv1.SettingType_SETTING_TYPE_UNSPECIFIED:
	}
	return nil
}

func misplacedSecret(t *engine.T) {
	inst := stage.Open(t, subject.OpenOptions{})
	word := "misplaced-" + stage.NewID("secret")
	found := false
	for _, s := range inst.Describe.GetSettings() {
		if !s.GetSecret() {
			continue
		}
		found = true
		req := change(inst, func(req *providerv1.ConfigureRequest) {
			delete(req.GetSecrets(), s.GetName())
			req.Settings.Fields[s.GetName()] = structpb.NewStringValue(word)
		})
		refuse(t, inst, s.GetName(), req)
		_, err := t.ClientOf(inst).Configure(t.Context(), req)
		if text := subject.Describe(err); strings.Contains(text, word) {
			t.Errorf("the refusal of a misplaced secret repeats it: %s", text)
		}
	}
	if !found {
		t.Skip(engine.NotDeclared, "a setting that is a secret")
	}
}

func generation(t *engine.T) {
	inst := stage.Open(t, subject.OpenOptions{Unconfigured: true})
	before := ask(t, inst).GetConfigGeneration()
	for range 3 {
		answered := accept(t, inst, inst.Configuration)
		said := ask(t, inst).GetConfigGeneration()
		if answered != before+1 || said != answered {
			t.Errorf("after an accepted Configure config_generation is %d in its answer and %d in Describe: want %d, one more than before", answered, said, before+1)
		}
		before = said
	}
}

func notConfigured(t *engine.T) {
	inst := stage.Open(t, subject.OpenOptions{Unconfigured: true})
	values := stage.Values(t, nil)
	for _, md := range request.Methods() {
		switch md.Name() {
		case "Describe", "Configure", "Drain":
			continue
		}
		req, err := request.New(md, values)
		if err != nil {
			t.Broken("no request calls %s: %v", md.Name(), err)
		}
		ctx, cancel := withPatience(t)
		err = request.Send(ctx, inst.Conn, md, req)
		cancel()
		what := string(md.Name()) + " before Configure"
		if err == nil {
			t.Errorf("%s succeeded: want NOT_CONFIGURED", what)
			continue
		}
		allowed := []providerv1.ErrorReason{providerv1.ErrorReason_ERROR_REASON_NOT_CONFIGURED}
		if len(request.Undeclared(md, req, inst.Has)) > 0 {
			allowed = append(allowed, providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED, providerv1.ErrorReason_ERROR_REASON_CAPABILITY_DISABLED)
		}
		stage.NoEffect(t, what, stage.Refused(t, what, err, allowed...))
	}
	accept(t, inst, inst.Configuration)
	_, err := t.ClientOf(inst).ListSandboxes(t.Context(), &providerv1.ListSandboxesRequest{Owner: t.Owner()})
	stage.OK(t, "ListSandboxes after Configure", err)
}
