package mutant

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

func identityMutants() []Mutant {
	return slices.Concat(describeMutants(), configureMutants(), probeMutants(), drainMutants())
}

// described changes what Describe answers.
func described(id, bug string, change func(*providerv1.DescribeResponse)) Mutant {
	kills, _, _ := strings.Cut(id, "~")
	return Mutant{ID: id, Kills: kills, Bug: bug, Unary: answer("Describe", func(_ any, resp *providerv1.DescribeResponse, err error) error {
		if err == nil {
			change(resp)
		}
		return err
	})}
}

func describeMutants() []Mutant {
	var calls atomic.Int64
	counting := described("describe/pure~counter", "Describe counts how often it was called", func(d *providerv1.DescribeResponse) {
		d.Limits["calls"] = calls.Add(1)
	})
	return []Mutant{
		counting,
		{
			ID: "describe/fast-without-config~wants-config", Kills: "describe/fast-without-config",
			Bug:   "before Configure Describe does not know what the plugin can do",
			Also:  []string{"describe/names"},
			Unary: emptyBeforeConfigure(),
		},
		{
			ID: "describe/matches-manifest~more", Kills: "describe/matches-manifest",
			Bug:    "the manifest promises more than Describe",
			Driver: func(d *fake.Driver) sdk.Driver { return &boasting{d} },
		},
		described("describe/names~setting", "a setting is written with a dash", func(d *providerv1.DescribeResponse) {
			d.Settings[0].Name = strings.ReplaceAll(d.GetSettings()[0].GetName()+"_", "_", "-")
		}),
		described("describe/names~version", "the version is the name of a branch", func(d *providerv1.DescribeResponse) { d.Version = "main" }),
		described("describe/capabilities~unsorted", "capabilities come in no order", func(d *providerv1.DescribeResponse) {
			slices.Reverse(d.Capabilities)
		}),
		described("describe/capabilities~unknown", "a capability of the vendor's own is not marked as one", func(d *providerv1.DescribeResponse) {
			d.Capabilities = append(d.Capabilities, sdk.Supported("zz.turbo")...)
		}),
		described("describe/capabilities~alone", "mount.volume is declared without volume", func(d *providerv1.DescribeResponse) {
			d.Capabilities = slices.DeleteFunc(d.GetCapabilities(), func(c *providerv1.Capability) bool { return c.GetId() == "volume" })
		}),
		described("describe/capabilities~no-reason", "what is switched off does not say why", func(d *providerv1.DescribeResponse) {
			d.Capabilities[0].State = providerv1.CapabilityState_CAPABILITY_STATE_DISABLED
		}),
	}
}

func emptyBeforeConfigure() grpc.UnaryServerInterceptor {
	return answer("Describe", func(_ any, resp *providerv1.DescribeResponse, err error) error {
		if err == nil && resp.GetConfigGeneration() == 0 {
			resp.Name, resp.Version, resp.Capabilities, resp.Settings = "", "", nil, nil
		}
		return err
	})
}

// boasting declares one more capability where it prints its manifest.
type boasting struct{ *fake.Driver }

func (d *boasting) Describe(ctx context.Context) (*providerv1.DescribeResponse, error) {
	out, err := d.Driver.Describe(ctx)
	if out != nil && slices.Contains(os.Args, handshake.DescribeFlag) {
		out.Capabilities = append(out.Capabilities, sdk.Supported("image.host")...)
	}
	return out, err
}

// onConfigure is a wire mutant that does something of its own on Configure.
func onConfigure(do func(ctx context.Context, req *providerv1.ConfigureRequest, handler grpc.UnaryHandler) (any, error)) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		m, ok := req.(*providerv1.ConfigureRequest)
		if !ok {
			return handler(ctx, req)
		}
		return do(ctx, clone(m), handler)
	}
}

func configureMutants() []Mutant {
	return []Mutant{
		{
			ID: "configure/rejects-unknown-key~ignored", Kills: "configure/rejects-unknown-key",
			Bug: "settings that nobody knows are ignored",
			Unary: onConfigure(func(ctx context.Context, req *providerv1.ConfigureRequest, handler grpc.UnaryHandler) (any, error) {
				delete(req.GetSettings().GetFields(), "sandbar_suite_setting")
				delete(req.GetSecrets(), "sandbar_suite_setting")
				return handler(ctx, req)
			}),
		},
		{
			ID: "configure/rejects-unknown-key~applied", Kills: "configure/rejects-unknown-key",
			Also: []string{"configure/rejects-wrong-type", "configure/rejects-secret-among-settings"},
			Bug:  "a Configure that is refused has taken effect as far as it was right",
			Unary: onConfigure(func(ctx context.Context, req *providerv1.ConfigureRequest, handler grpc.UnaryHandler) (any, error) {
				resp, err := handler(ctx, req)
				if err != nil {
					_, _ = handler(ctx, &providerv1.ConfigureRequest{StateDir: req.GetStateDir(), Owner: req.GetOwner()})
				}
				return resp, err
			}),
		},
		{
			ID: "configure/rejects-missing-required~default", Kills: "configure/rejects-missing-required",
			Bug:      "a required setting that is missing is made up",
			Driver:   func(d *fake.Driver) sdk.Driver { return &demanding{d} },
			Settings: map[string]any{"account": "a"},
			Unary: onConfigure(func(ctx context.Context, req *providerv1.ConfigureRequest, handler grpc.UnaryHandler) (any, error) {
				if req.GetSettings().GetFields()["account"] == nil {
					req.Settings = &structpb.Struct{Fields: map[string]*structpb.Value{"account": structpb.NewStringValue("default")}}
				}
				return handler(ctx, req)
			}),
		},
		{
			ID: "configure/rejects-wrong-type~coerced", Kills: "configure/rejects-wrong-type",
			Bug: "a whole number is read from whatever there is",
			Unary: onConfigure(func(ctx context.Context, req *providerv1.ConfigureRequest, handler grpc.UnaryHandler) (any, error) {
				if v := req.GetSettings().GetFields()["max_sandboxes"]; v != nil {
					req.Settings.Fields["max_sandboxes"] = structpb.NewNumberValue(float64(int64(v.GetNumberValue())))
				}
				return handler(ctx, req)
			}),
		},
		{
			ID: "configure/rejects-secret-among-settings~taken", Kills: "configure/rejects-secret-among-settings",
			Bug: "a secret is taken from among the settings",
			Unary: onConfigure(func(ctx context.Context, req *providerv1.ConfigureRequest, handler grpc.UnaryHandler) (any, error) {
				delete(req.GetSettings().GetFields(), "api_token")
				return handler(ctx, req)
			}),
		},
		{
			ID: "configure/rejects-secret-among-settings~repeated", Kills: "configure/rejects-secret-among-settings",
			Bug: "the refusal of a setting quotes its value",
			Unary: onConfigure(func(ctx context.Context, req *providerv1.ConfigureRequest, handler grpc.UnaryHandler) (any, error) {
				resp, err := handler(ctx, req)
				if value := req.GetSettings().GetFields()["api_token"].GetStringValue(); err != nil && value != "" {
					err = fault.From(err).With("value", value).GRPCStatus().Err()
				}
				return resp, err
			}),
		},
		described("configure/generation~constant", "config_generation says only whether it is configured", func(d *providerv1.DescribeResponse) {
			d.ConfigGeneration = min(d.GetConfigGeneration(), 1)
		}),
		{
			ID: "configure/not-configured~empty", Kills: "configure/not-configured",
			Bug: "without a configuration there are no sandboxes, instead of no answer",
			Unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				resp, err := handler(ctx, req)
				if _, list := req.(*providerv1.ListSandboxesRequest); list && answers(err, providerv1.ErrorReason_ERROR_REASON_NOT_CONFIGURED) {
					return emptyAnswer(info.FullMethod), nil
				}
				return resp, err
			},
		},
	}
}

// demanding has a setting that is required.
type demanding struct{ *fake.Driver }

func (d *demanding) Describe(ctx context.Context) (*providerv1.DescribeResponse, error) {
	out, err := d.Driver.Describe(ctx)
	if out != nil {
		out.Settings = append(out.Settings, &providerv1.Setting{
			Name: "account", Type: providerv1.SettingType_SETTING_TYPE_STRING, Required: true, Description: "Whose sandboxes they are.",
		})
	}
	return out, err
}

// talkative repeats its secret.
type talkative struct {
	*fake.Driver
	token string
}

func (d *talkative) Configure(ctx context.Context, req *providerv1.ConfigureRequest) error {
	d.token = string(req.GetSecrets()["api_token"])
	return d.Driver.Configure(ctx, req)
}

func (d *talkative) Probe(ctx context.Context) (*providerv1.ProbeResponse, error) {
	out, err := d.Driver.Probe(ctx)
	for _, c := range out.GetChecks() {
		c.Detail += "; the token is " + d.token
	}
	return out, err
}

func probeMutants() []Mutant {
	return []Mutant{
		{
			ID: "secret/not-echoed~in-probe", Kills: "secret/not-echoed",
			Bug:    "the detail of a check quotes the token it was made with",
			Driver: func(d *fake.Driver) sdk.Driver { return &talkative{Driver: d} },
		},
		{
			ID: "probe/says-why~mute", Kills: "probe/says-why",
			Bug: "Probe says not ready and not why",
			Unary: answer("Probe", func(_ any, resp *providerv1.ProbeResponse, err error) error {
				if err == nil {
					resp.Ready = false
				}
				return err
			}),
		},
		{
			ID: "probe/says-why~no-remedy", Kills: "probe/says-why",
			Bug: "a check that is degraded does not say what to do",
			Unary: answer("Probe", func(_ any, resp *providerv1.ProbeResponse, err error) error {
				if err == nil {
					resp.Checks[0].Status = providerv1.ProbeStatus_PROBE_STATUS_DEGRADED
				}
				return err
			}),
		},
		{
			ID: "probe/wrong-credentials~ready", Kills: "probe/wrong-credentials",
			Bug:    "credentials are not looked at before the first sandbox",
			Driver: func(d *fake.Driver) sdk.Driver { return &trusting{d} },
		},
	}
}

// trusting never shows its token to the vendor.
type trusting struct{ *fake.Driver }

func (d *trusting) Configure(ctx context.Context, req *providerv1.ConfigureRequest) error {
	req = clone(req)
	delete(req.GetSecrets(), "api_token")
	return d.Driver.Configure(ctx, req)
}

func drainMutants() []Mutant {
	onDrain := func(do func(ctx context.Context, req *providerv1.DrainRequest, handler grpc.UnaryHandler) (any, error)) grpc.UnaryServerInterceptor {
		return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if m, ok := req.(*providerv1.DrainRequest); ok {
				return do(ctx, clone(m), handler)
			}
			return handler(ctx, req)
		}
	}
	return []Mutant{
		{
			ID: "drain/refuses-new-work~ignored", Kills: "drain/refuses-new-work",
			Also: []string{"drain/finishes-in-flight", "drain/counts-unfinished"},
			Bug:  "Drain does nothing",
			Unary: onDrain(func(context.Context, *providerv1.DrainRequest, grpc.UnaryHandler) (any, error) {
				return &providerv1.DrainResponse{}, nil
			}),
		},
		{
			ID: "drain/finishes-in-flight~cut", Kills: "drain/finishes-in-flight",
			Also: []string{"drain/counts-unfinished"},
			Bug:  "Drain gives calls in flight no time",
			Unary: onDrain(func(ctx context.Context, req *providerv1.DrainRequest, handler grpc.UnaryHandler) (any, error) {
				req.Grace = nil
				return handler(ctx, req)
			}),
		},
		{
			ID: "drain/counts-unfinished~none", Kills: "drain/counts-unfinished",
			Bug: "Drain never says how many calls did not finish",
			Unary: answer("Drain", func(_ any, resp *providerv1.DrainResponse, err error) error {
				if err == nil {
					resp.Unfinished = 0
				}
				return err
			}),
		},
	}
}
