package broker

import (
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/broker/price"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/pattern"
)

var (
	namePattern  = pattern.Lazy(`^[a-z0-9][a-z0-9-]{0,62}$`)
	labelPattern = pattern.Lazy(`^[0-9A-Za-z._/-]{1,63}$`)
)

// Limits of the public API.
const (
	maxLabels     = 64
	maxLabelValue = 255
	maxKey        = 128
	maxCopies     = 64
	maxPage       = 1000
	defaultPage   = 100
)

func validateCreate(req *brokerv1.CreateSandboxRequest) error {
	return firstError(
		validateName(req.GetName()),
		validateLabels(req.GetLabels()),
		validateLabelsIn("provider_labels", req.GetProviderLabels()),
		validateStart(req),
		validateLifetime("lifetime", req.GetLifetime()),
		validateLifetime("spec.lifetime", req.GetSpec().GetLifetime()),
		validateIdle(req.GetIdle()),
		validateKey(req.GetIdempotencyKey()),
		validateMaxPrice(req.GetMaxPrice()),
	)
}

func validateMaxPrice(p *brokerv1.MaxPrice) error {
	switch {
	case p == nil:
		return nil
	case !price.ValidCurrency(p.GetCurrency()):
		return fault.Field("max_price.currency", p.GetCurrency(), "want three capital letters, such as USD")
	case p.GetNanosPerHour() < 1:
		return fault.Field("max_price.nanos_per_hour", strconv.FormatInt(p.GetNanosPerHour(), 10), "want 1 or more billionths")
	default:
		return nil
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func validateName(name string) error { return validateNameIn("name", name) }

func validateNameIn(field, name string) error {
	if name != "" && !namePattern().MatchString(name) {
		return fault.Field(field, name, "want up to 63 lower-case letters, digits and dashes, the first not a dash")
	}
	return nil
}

func nameTaken(name string) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS,
		"name is %q: a live sandbox of the tenant has it; choose another or delete that one", name).
		With("name", name).WithEffect(providerv1.Effect_EFFECT_NONE)
}

func validateLabels(labels map[string]string) error { return validateLabelsIn("labels", labels) }

func validateLabelsIn(field string, labels map[string]string) error {
	if len(labels) > maxLabels {
		return fault.Field(field, strconv.Itoa(len(labels))+" labels", fmt.Sprintf("want at most %d", maxLabels))
	}
	for k, v := range labels {
		if !labelPattern().MatchString(k) {
			return fault.Field(field, k, "want keys of 1 to 63 letters, digits and . _ / -")
		}
		if len(v) > maxLabelValue || !utf8.ValidString(v) {
			return fault.Field(field+"["+k+"]", v, fmt.Sprintf("want at most %d bytes of UTF-8", maxLabelValue))
		}
	}
	return nil
}

func validateLifetime(field string, d *durationpb.Duration) error {
	if d == nil {
		return nil
	}
	if err := d.CheckValid(); err != nil || d.AsDuration() <= 0 {
		return fault.Field(field, d.AsDuration().String(), "want a time above zero, or none")
	}
	return nil
}

// validateStart is about what is asked of a provider's start latency and egress.
func validateStart(req *brokerv1.CreateSandboxRequest) error {
	if err := validateLifetime("max_start_latency", req.GetMaxStartLatency()); err != nil {
		return err
	}
	if req.GetAllowUnmeasured() && req.GetMaxStartLatency() == nil {
		return fault.Field("allow_unmeasured", "true", "want max_start_latency beside it")
	}
	s := req.GetMinEgressStrength()
	if _, ok := providerv1.EgressStrength_name[int32(s)]; !ok {
		return fault.Field("min_egress_strength", s.String(), "want ENFORCED, NATIVE, COOPERATIVE or NONE")
	}
	return nil
}

func validateIdle(idle *brokerv1.Idle) error {
	if t := idle.GetTimeout(); t != nil && (t.CheckValid() != nil || t.AsDuration() < 0) {
		return fault.Field("idle.timeout", t.AsDuration().String(), "want a time, or zero for never")
	}
	if _, ok := brokerv1.IdleAction_name[int32(idle.GetAction())]; !ok {
		return fault.Field("idle.action", idle.GetAction().String(), "want DELETE or PAUSE")
	}
	return nil
}

func validateKey(key string) error {
	if len(key) > maxKey {
		return fault.Field("idempotency_key", key, fmt.Sprintf("want at most %d bytes", maxKey))
	}
	return nil
}

// pageSize returns the size to use for an asked one.
func pageSize(asked int32) (int, error) {
	switch {
	case asked == 0:
		return defaultPage, nil
	case asked < 0 || asked > maxPage:
		return 0, fault.Field("page_size", strconv.Itoa(int(asked)), fmt.Sprintf("want 1 to %d, or 0 for %d", maxPage, defaultPage))
	default:
		return int(asked), nil
	}
}

func validateEnd(end, now time.Time) error {
	if !end.After(now) {
		return fault.Field("expires_at", end.UTC().Format(time.RFC3339Nano), "want a time to come; to end a sandbox now, delete it")
	}
	return nil
}
