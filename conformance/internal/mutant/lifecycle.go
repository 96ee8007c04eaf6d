package mutant

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"sync"

	"google.golang.org/grpc"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/plugins/sdk"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func lifecycleMutants() []Mutant {
	return slices.Concat(createMutants(), keyMutants(), getMutants(), listMutants(), deleteMutants(), lifetimeMutants(), recoverMutants())
}

// creating is a driver that changes what CreateSandbox does.
type creating struct {
	*fake.Driver
	create func(context.Context, *fake.Driver, *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error)
}

func (d *creating) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	return d.create(ctx, d.Driver, clone(req))
}

func creates(id, bug string, create func(context.Context, *fake.Driver, *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error)) Mutant {
	return Mutant{
		ID: id, Kills: caseOf(id), Bug: bug, Inputs: inputs,
		Driver: func(d *fake.Driver) sdk.Driver { return &creating{d, create} },
	}
}

// userless knows one user, and does not say so well.
type userless struct{ *undeclared }

func (d *userless) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	if req.GetSpec().GetUser() != "" {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE, "there is one user")
	}
	return d.Driver.CreateSandbox(ctx, req) //nolint:wrapcheck // it is the same call
}

// withoutFirst makes the sandbox without what is refused.
func withoutFirst(reason providerv1.ErrorReason, less func(*providerv1.SandboxSpec)) func(context.Context, *fake.Driver, *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	return func(ctx context.Context, d *fake.Driver, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
		sb, err := d.CreateSandbox(ctx, req)
		if fault.Has(err, reason) {
			less(req.GetSpec())
			return d.CreateSandbox(ctx, req)
		}
		return sb, err
	}
}

func createMutants() []Mutant {
	return []Mutant{
		creates("create/answer~pending", "the answer says neither RUNNING nor CREATING",
			func(ctx context.Context, d *fake.Driver, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
				sb, err := d.CreateSandbox(ctx, req)
				if sb != nil {
					sb.State = providerv1.SandboxState_SANDBOX_STATE_UNKNOWN
				}
				return sb, err
			}).with("create/satisfies"),
		creates("create/answer~no-handle", "the answer has no handle",
			func(ctx context.Context, d *fake.Driver, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
				sb, err := d.CreateSandbox(ctx, req)
				if sb != nil {
					sb.Handle = nil
				}
				return sb, err
			}),
		creates("create/satisfies~workdir", "the default working directory is ignored",
			func(ctx context.Context, d *fake.Driver, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
				req.Spec.Workdir = ""
				return d.CreateSandbox(ctx, req)
			}),
		{
			ID: "create/satisfies~user-refused", Kills: "create/satisfies", Bug: "commands run as one user only, and a sandbox for another is refused without its name",
			Driver: func(d *fake.Driver) sdk.Driver { return &userless{&undeclared{Driver: d, ids: []string{"exec.user"}}} },
		},
		creates("create/refuses-as-a-whole~partly", "mounts that cannot be had are left out",
			withoutFirst(providerv1.ErrorReason_ERROR_REASON_VOLUME_NOT_FOUND, func(s *providerv1.SandboxSpec) { s.Mounts = nil })),
		creates("create/refuses-as-a-whole~leaves", "what was made before the refusal stays",
			func(ctx context.Context, d *fake.Driver, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
				sb, err := d.CreateSandbox(ctx, clone(req))
				if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_VOLUME_NOT_FOUND) {
					req.Spec.Mounts = nil
					if _, err := d.CreateSandbox(ctx, req); err != nil {
						return nil, err
					}
				}
				return sb, err
			}),
		creates("create/unknown-image~default", "an image that does not exist is replaced by the default",
			withoutFirst(providerv1.ErrorReason_ERROR_REASON_IMAGE_NOT_FOUND, func(s *providerv1.SandboxSpec) {
				if s.GetImage().GetOci() != "" {
					s.Image = nil
				}
			})),
		creates("create/unknown-template~default", "a template that does not exist is replaced by the default",
			withoutFirst(providerv1.ErrorReason_ERROR_REASON_IMAGE_NOT_FOUND, func(s *providerv1.SandboxSpec) {
				if s.GetImage().GetTemplate() != "" {
					s.Image = nil
				}
			})),
		creates("create/unknown-region~nearest", "a region that does not exist is replaced by the nearest",
			withoutFirst(providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE, func(s *providerv1.SandboxSpec) { s.Region = "" })),
	}
}

// with adds cases that fail because the bug is theirs as well.
func (m Mutant) with(also ...string) Mutant {
	m.Also = append(m.Also, also...)
	return m
}

func keyMutants() []Mutant {
	return []Mutant{
		{
			ID: "create/idempotent-serial~new-id", Kills: "create/idempotent-serial",
			Also:   []string{"create/idempotent-concurrent-16", "create/idempotent-after-restart", "create/key-reused"},
			Bug:    "every call of CreateSandbox makes a sandbox, whatever its key",
			Driver: func(d *fake.Driver) sdk.Driver { return &forgetfulKeys{d} },
		},
		{
			ID: "create/idempotent-concurrent-16~race", Kills: "create/idempotent-concurrent-16", Inputs: inputs,
			Bug: "between looking for a key and using it there is time for another",
			Driver: func(d *fake.Driver) sdk.Driver {
				under := newOverlap()
				return &creating{d, func(ctx context.Context, d *fake.Driver, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
					if sb, err := d.GetSandbox(ctx, bySandboxID(req.GetIdentity().GetSandboxId())); err == nil && bytes.Equal(sb.GetOperation().GetRequestDigest(), req.GetOperation().GetRequestDigest()) {
						return sb, nil
					}
					nth, second, left := under.enter(req.GetIdentity().GetSandboxId())
					defer left()
					await(ctx, second, forAnother)
					if nth > 1 {
						req.Operation.IdempotencyKey = newKey()
						req.Identity.SandboxId += "-" + newKey()
					}
					return d.CreateSandbox(ctx, req)
				}}
			},
		},
		{
			ID: "create/idempotent-after-restart~in-memory", Kills: "create/idempotent-after-restart",
			Bug:    "keys are kept in the plugin's memory",
			Driver: func(d *fake.Driver) sdk.Driver { return &rememberedKeys{Driver: d, seen: map[string]bool{}} },
		},
		creates("create/key-reused~answered", "a key answers what it made, whatever is asked for",
			func(ctx context.Context, d *fake.Driver, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
				sb, err := d.CreateSandbox(ctx, req)
				if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED) {
					return d.GetSandbox(ctx, byKey(req.GetOperation().GetIdempotencyKey()))
				}
				return sb, err
			}),
	}
}

// forgetfulKeys gives each call a key of its own.
type forgetfulKeys struct{ *fake.Driver }

func (d *forgetfulKeys) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	fresh := clone(req)
	fresh.Operation.IdempotencyKey = newKey()
	if sb, err := d.GetSandbox(ctx, bySandboxID(req.GetIdentity().GetSandboxId())); err == nil && sb != nil {
		fresh.Identity.SandboxId += "-" + newKey()
	}
	return d.Driver.CreateSandbox(ctx, fresh)
}

// rememberedKeys knows the keys of its own life.
type rememberedKeys struct {
	*fake.Driver
	mu   sync.Mutex
	seen map[string]bool
}

func (d *rememberedKeys) CreateSandbox(ctx context.Context, req *providerv1.CreateSandboxRequest) (*providerv1.Sandbox, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := req.GetOperation().GetIdempotencyKey()
	if !d.seen[key] {
		d.seen[key] = true
		if _, err := d.GetSandbox(ctx, bySandboxID(req.GetIdentity().GetSandboxId())); err == nil {
			fresh := clone(req)
			fresh.Operation.IdempotencyKey = newKey()
			fresh.Identity.SandboxId += "-again"
			return d.Driver.CreateSandbox(ctx, fresh)
		}
	}
	return d.Driver.CreateSandbox(ctx, req)
}

// getting is a driver that changes what GetSandbox does.
type getting struct {
	*fake.Driver
	get func(context.Context, *fake.Driver, *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error)
}

func (d *getting) GetSandbox(ctx context.Context, req *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
	return d.get(ctx, d.Driver, req)
}

func gets(id, bug string, get func(context.Context, *fake.Driver, *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error)) Mutant {
	return Mutant{ID: id, Kills: caseOf(id), Bug: bug, Driver: func(d *fake.Driver) sdk.Driver { return &getting{d, get} }}
}

func getMutants() []Mutant {
	return []Mutant{
		gets("get/by-key~blind", "a key is looked for among the sandboxes that are being made",
			func(ctx context.Context, d *fake.Driver, req *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
				sb, err := d.GetSandbox(ctx, req)
				if req.GetIdempotencyKey() != "" && sb.GetState() == providerv1.SandboxState_SANDBOX_STATE_RUNNING {
					return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "no sandbox is being made with that key")
				}
				return sb, err
			}),
		{
			// The SDK notes what a driver denies: only a plugin without it can forget.
			ID: "get/by-key-settles~later", Kills: "get/by-key-settles", Also: []string{"get/by-key"},
			Bug: "keys are not looked for at all, and what is said of one is not noted",
			Unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				get, ok := req.(*providerv1.GetSandboxRequest)
				if !ok || get.GetIdempotencyKey() == "" {
					return handler(ctx, req)
				}
				return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "no sandbox has key %q", get.GetIdempotencyKey()).
					With("idempotency_key", get.GetIdempotencyKey()).GRPCStatus().Err()
			},
		},
		gets("get/with-ref-only~wants-handle", "without its handle a sandbox is not found",
			func(ctx context.Context, d *fake.Driver, req *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
				if req.GetSandbox() != nil && req.GetSandbox().GetHandle() == nil {
					return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, "sandbox %q has no handle", req.GetSandbox().GetSandboxId()).
						With("sandbox_id", req.GetSandbox().GetSandboxId())
				}
				return d.GetSandbox(ctx, req)
			}),
		gets("get/identity~labels", "labels do not come back from GetSandbox",
			func(ctx context.Context, d *fake.Driver, req *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
				sb, err := d.GetSandbox(ctx, req)
				if sb != nil {
					sb.Identity.Labels = nil
				}
				return sb, err
			}),
		gets("get/absent~unavailable", "what does not exist is answered as if the vendor were down",
			func(ctx context.Context, d *fake.Driver, req *providerv1.GetSandboxRequest) (*providerv1.Sandbox, error) {
				sb, err := d.GetSandbox(ctx, req)
				if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND) && req.GetIdempotencyKey() == "" {
					return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, "the vendor answered 404").
						WithEffect(providerv1.Effect_EFFECT_NONE)
				}
				return sb, err
			}).with("get/with-ref-only"),
	}
}

// listing is a driver that changes what ListSandboxes does.
type listing struct {
	*fake.Driver
	list func(context.Context, *fake.Driver, *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error)
}

func (d *listing) ListSandboxes(ctx context.Context, req *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error) {
	return d.list(ctx, d.Driver, req)
}

func listMutants() []Mutant {
	return []Mutant{
		{
			ID: "list/owner-filtered~prefix", Kills: "list/owner-filtered",
			Bug: "owners are filtered by prefix",
			Driver: func(d *fake.Driver) sdk.Driver {
				return &listing{d, func(ctx context.Context, d *fake.Driver, req *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error) {
					out, err := d.ListSandboxes(ctx, req)
					if err == nil && req.GetPageToken() == "" && out.GetNextPageToken() == "" {
						more, err := d.ListSandboxes(ctx, &providerv1.ListSandboxesRequest{Owner: req.GetOwner() + "/other", PageSize: req.GetPageSize()})
						if err != nil {
							return nil, err
						}
						out.Sandboxes = append(out.Sandboxes, more.GetSandboxes()...)
					}
					return out, err
				}}
			},
		},
		{
			ID: "list/pages-stable~offset", Kills: "list/pages-stable",
			Bug: "a page token is the number of sandboxes before the page",
			Driver: func(d *fake.Driver) sdk.Driver {
				return &listing{d, pagesByOffset}
			},
		},
		{
			ID: "list/state-truth~guess", Kills: "list/state-truth",
			Bug: "a listing takes every sandbox that exists for one that runs",
			Driver: func(d *fake.Driver) sdk.Driver {
				return &listing{d, func(ctx context.Context, d *fake.Driver, req *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error) {
					out, err := d.ListSandboxes(ctx, req)
					for _, sb := range out.GetSandboxes() {
						sb.State = providerv1.SandboxState_SANDBOX_STATE_RUNNING
					}
					return out, err
				}}
			},
		},
	}
}

func pagesByOffset(ctx context.Context, d *fake.Driver, req *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error) {
	const all = 1000
	out, err := d.ListSandboxes(ctx, &providerv1.ListSandboxesRequest{Owner: req.GetOwner(), PageSize: all})
	if err != nil {
		return nil, err
	}
	from, _ := strconv.Atoi(req.GetPageToken()) // an empty token is 0
	list := out.GetSandboxes()
	from = min(from, len(list))
	to := min(from+int(req.GetPageSize()), len(list))
	page := &providerv1.ListSandboxesResponse{Sandboxes: list[from:to]}
	if to < len(list) {
		page.NextPageToken = strconv.Itoa(to)
	}
	return page, nil
}
