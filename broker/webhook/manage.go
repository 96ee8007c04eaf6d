package webhook

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/broker/authz"
	"github.com/sandbar-dev/sandbar/broker/state"
	"github.com/sandbar-dev/sandbar/proto/fault"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/pattern"
)

// Limits of the public API. Each webhook reads the log by itself, so their number
// is what events cost.
const (
	maxWebhooks    = 20
	maxLabels      = 16
	maxText        = 255
	maxPage        = 1000
	defaultPage    = 100
	defaultOverlap = 24 * time.Hour
	maxOverlap     = 7 * 24 * time.Hour
)

var labelPattern = pattern.Lazy(`^[0-9A-Za-z._/-]{1,63}$`)

// newID returns a random id with a prefix. It has no dot.
func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()) }

// caller is who makes a call.
func caller(ctx context.Context) (authz.Principal, error) {
	p, ok := authz.From(ctx)
	if !ok {
		return p, fault.New(providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID, "the call is nobody's")
	}
	return p, nil
}

// CreateWebhook makes a webhook of the tenant that the call is for. secret is what
// nobody can be told again.
func (s *Service) CreateWebhook(ctx context.Context, req *brokerv1.CreateWebhookRequest) (_ *brokerv1.Webhook, secret string, err error) {
	p, err := caller(ctx)
	if err != nil {
		return nil, "", err
	}
	if p.Acting == authz.AllTenants {
		return nil, "", fault.Field("tenant", authz.AllTenants, "want the one tenant that the webhook is for")
	}
	if err := s.checkCreate(req); err != nil {
		return nil, "", err
	}
	have, _, err := s.store.ListWebhooks(ctx, p.Acting, state.Page{Size: maxWebhooks})
	if err != nil {
		return nil, "", state.Fault(err)
	}
	if len(have) == maxWebhooks {
		return nil, "", fault.New(providerv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
			"tenant %q has %d webhooks, which is the most: remove one first", p.Acting, maxWebhooks).
			With("tenant", p.Acting).With("max", strconv.Itoa(maxWebhooks))
	}
	_, newest, err := s.store.EventBounds(ctx)
	if err != nil {
		return nil, "", state.Fault(err)
	}
	id, fresh := newID("whk_"), newSecret()
	w := &state.Webhook{
		Body: &brokerv1.Webhook{
			WebhookId: id, Tenant: p.Acting, Url: req.GetUrl(), Description: req.GetDescription(),
			EventTypes: req.GetEventTypes(), Labels: req.GetLabels(), CreatedAt: timestamppb.Now(), CreatedBy: p.ID,
			State: brokerv1.WebhookState_WEBHOOK_STATE_ACTIVE, Cursor: newest,
		},
		Secret: s.sealed(id, fresh), Version: 1,
	}
	err = s.store.InsertWebhook(ctx, w)
	if errors.Is(err, state.ErrNoTenant) {
		return nil, "", fault.Field("tenant", p.Acting, "want a tenant that there is; `sandbar tenant ls` lists them")
	}
	if err != nil {
		return nil, "", state.Fault(err)
	}
	s.log.InfoContext(ctx, "webhook is created", "webhook_id", w.ID(), "tenant", p.Acting, "caller", p)
	s.poke()
	return w.Body, secretText(fresh), nil
}

func (s *Service) checkCreate(req *brokerv1.CreateWebhookRequest) error {
	if wrong := s.opts.Policy.checkURL(req.GetUrl()); wrong != "" {
		return fault.Field("url", shownURL(req.GetUrl()), wrong)
	}
	if d := req.GetDescription(); len(d) > maxText || !utf8.ValidString(d) {
		return fault.Field("description", d, fmt.Sprintf("want at most %d bytes of UTF-8", maxText))
	}
	for _, t := range req.GetEventTypes() {
		if _, err := ParseType(TypeName(t)); err != nil {
			return fault.Field("event_types", TypeName(t), "want some of "+strings.Join(TypeNames(), ", "))
		}
	}
	if n := len(req.GetLabels()); n > maxLabels {
		return fault.Field("labels", strconv.Itoa(n)+" labels", fmt.Sprintf("want at most %d", maxLabels))
	}
	for k, v := range req.GetLabels() {
		if !labelPattern().MatchString(k) {
			return fault.Field("labels", k, "want keys of 1 to 63 letters, digits and . _ / -")
		}
		if len(v) > maxText || !utf8.ValidString(v) {
			return fault.Field("labels["+k+"]", v, fmt.Sprintf("want at most %d bytes of UTF-8", maxText))
		}
	}
	return nil
}

// shownURL is a URL as an error quotes it: without what may be a password or a
// token.
func shownURL(text string) string {
	text, _, _ = strings.Cut(text, "?")
	text, _, _ = strings.Cut(text, "#")
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		if i := strings.LastIndexByte(rest, '@'); i >= 0 {
			text = scheme + "://…" + rest[i:]
		}
	}
	if len(text) > maxText {
		text = text[:maxText] + "…"
	}
	return strings.ToValidUTF8(text, "�")
}

// ListWebhooks returns one page of the webhooks of the tenant that the call is for.
func (s *Service) ListWebhooks(ctx context.Context, req *brokerv1.ListWebhooksRequest) (*brokerv1.ListWebhooksResponse, error) {
	p, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	size := req.GetPageSize()
	switch {
	case size == 0:
		size = defaultPage
	case size < 0 || size > maxPage:
		return nil, fault.Field("page_size", strconv.Itoa(int(size)), fmt.Sprintf("want 1 to %d, or 0 for %d", maxPage, defaultPage))
	}
	tenant := p.Acting
	if tenant == authz.AllTenants {
		tenant = ""
	}
	list, token, err := s.store.ListWebhooks(ctx, tenant, state.Page{Size: int(size), Token: req.GetPageToken()})
	if errors.Is(err, state.ErrBadToken) {
		return nil, fault.Field("page_token", req.GetPageToken(), "want the token that the page before returned")
	}
	if err != nil {
		return nil, state.Fault(err)
	}
	out := &brokerv1.ListWebhooksResponse{NextPageToken: token}
	for _, w := range list {
		out.Webhooks = append(out.Webhooks, w.Body)
	}
	return out, nil
}

// lookUp returns a webhook that exists for the caller. ErrNotFound.
func (s *Service) lookUp(ctx context.Context, id string) (*state.Webhook, authz.Principal, error) {
	p, err := caller(ctx)
	if err != nil {
		return nil, p, err
	}
	w, err := s.store.Webhook(ctx, id)
	switch {
	case errors.Is(err, state.ErrNotFound):
		return nil, p, err
	case err != nil:
		return nil, p, state.Fault(err)
	case p.Acting != authz.AllTenants && w.Body.GetTenant() != p.Acting:
		return nil, p, state.ErrNotFound
	}
	return w, p, nil
}

// find is lookUp for what must exist.
func (s *Service) find(ctx context.Context, id string) (*state.Webhook, authz.Principal, error) {
	w, p, err := s.lookUp(ctx, id)
	if errors.Is(err, state.ErrNotFound) {
		err = fault.Field("webhook_id", id, fmt.Sprintf("want the id of a webhook of tenant %s; `sandbar webhook ls` lists them", p.Acting))
	}
	return w, p, err
}

// DeleteWebhook ends a webhook; one that does not exist is a success.
func (s *Service) DeleteWebhook(ctx context.Context, id string) (alreadyAbsent bool, err error) {
	w, p, err := s.lookUp(ctx, id)
	if errors.Is(err, state.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	switch err := s.store.RemoveWebhook(ctx, w.ID()); {
	case errors.Is(err, state.ErrNotFound):
		return true, nil
	case err != nil:
		return false, state.Fault(err)
	}
	s.log.InfoContext(ctx, "webhook is deleted", "webhook_id", id, "tenant", w.Body.GetTenant(), "caller", p)
	s.poke()
	return false, nil
}

// TestWebhook sends one message and says what came of it.
func (s *Service) TestWebhook(ctx context.Context, id string) (*brokerv1.TestWebhookResponse, error) {
	w, _, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	m, err := testMessage(w, newID("msg_test_"), time.Now())
	if err != nil {
		return nil, err
	}
	a := s.post(ctx, w, m)
	if a.outcome == canceled {
		return nil, fault.From(ctx.Err())
	}
	return &brokerv1.TestWebhookResponse{
		Delivered: a.outcome == delivered, StatusCode: int32(a.status), Reason: a.problem, Took: durationpb.New(a.took), MessageId: m.id,
	}, nil
}

// change reads a webhook and stores what fn makes of it, again if somebody else
// changed it meanwhile, as its deliverer does at each message.
func (s *Service) change(ctx context.Context, id string, fn func(*state.Webhook) error) (*brokerv1.Webhook, error) {
	for {
		w, p, err := s.find(ctx, id)
		if err != nil {
			return nil, err
		}
		if err := fn(w); err != nil {
			return nil, err
		}
		err = s.store.UpdateWebhook(ctx, w)
		if errors.Is(err, state.ErrConflict) {
			continue // find says if it is gone
		}
		if err != nil {
			return nil, state.Fault(err)
		}
		s.log.InfoContext(ctx, "webhook is changed", "webhook_id", id, "tenant", w.Body.GetTenant(), "state", stateName(w.Body), "caller", p)
		s.poke()
		return w.Body, nil
	}
}

func stateName(w *brokerv1.Webhook) string {
	return strings.ToLower(strings.TrimPrefix(w.GetState().String(), "WEBHOOK_STATE_"))
}

// RotateWebhookSecret makes a new secret, beside which the one before signs for a
// while.
func (s *Service) RotateWebhookSecret(ctx context.Context, req *brokerv1.RotateWebhookSecretRequest) (_ *brokerv1.Webhook, secret string, err error) {
	overlap := defaultOverlap
	if o := req.GetOverlap(); o != nil {
		overlap = o.AsDuration()
		if o.CheckValid() != nil || overlap < 0 || overlap > maxOverlap {
			return nil, "", fault.Field("overlap", overlap.String(), fmt.Sprintf("want 0 to %s", maxOverlap))
		}
	}
	fresh := newSecret()
	body, err := s.change(ctx, req.GetWebhookId(), func(w *state.Webhook) error {
		w.Previous, w.Secret = w.Secret, s.sealed(w.ID(), fresh)
		w.Body.PreviousSecretExpiresAt = timestamppb.New(time.Now().Add(overlap))
		if overlap == 0 {
			w.Previous, w.Body.PreviousSecretExpiresAt = nil, nil
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return body, secretText(fresh), nil
}

// EnableWebhook makes a webhook go on, at once.
func (s *Service) EnableWebhook(ctx context.Context, req *brokerv1.EnableWebhookRequest) (*brokerv1.Webhook, error) {
	return s.change(ctx, req.GetWebhookId(), func(w *state.Webhook) error {
		b := w.Body
		if req.GetFromNow() {
			_, newest, err := s.store.EventBounds(ctx)
			if err != nil {
				return state.Fault(err)
			}
			b.Cursor = newest
		}
		b.State, b.StatusReason, b.DisabledAt = brokerv1.WebhookState_WEBHOOK_STATE_ACTIVE, "", nil
		b.Attempts, b.FailingSince, b.NextAttemptAt = 0, nil, nil
		return nil
	})
}

// DisableWebhook stops a webhook until it is enabled.
func (s *Service) DisableWebhook(ctx context.Context, id string) (*brokerv1.Webhook, error) {
	return s.change(ctx, id, func(w *state.Webhook) error {
		if w.Disabled() {
			return nil // since when and why stays
		}
		p, err := caller(ctx)
		if err != nil {
			return err
		}
		disable(w.Body, "disabled by "+p.ID, timestamppb.Now())
		return nil
	})
}
