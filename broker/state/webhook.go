package state

import (
	"context"
	"time"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

// Webhook is a URL that is told of events.
type Webhook struct {
	// Body is what users see.
	Body *brokerv1.Webhook
	// Secret signs messages, and so does Previous, if there is one, until
	// Body.previous_secret_expires_at. A signature takes the secret itself; package
	// webhook seals what is stored of them.
	Secret, Previous []byte
	// Holder is who delivers, or did. It changes by HoldWebhooks alone.
	Holder string
	// Version grows with each update, and with each new holder.
	Version int64
	// Events tell of the change that is stored next, and are stored with it. The
	// store takes them away then.
	Events []*brokerv1.Event
}

// ID returns the webhook's id.
func (w *Webhook) ID() string { return w.Body.GetWebhookId() }

// Disabled reports whether nothing is delivered.
func (w *Webhook) Disabled() bool {
	return w.Body.GetState() == brokerv1.WebhookState_WEBHOOK_STATE_DISABLED
}

// Webhooks keeps webhooks, and which of the brokers that share the store delivers
// to which. One that is not disabled is held by one broker at a time: what another
// one has read of it before cannot be stored any more.
type Webhooks interface {
	// InsertWebhook stores a new webhook. ErrNoTenant.
	InsertWebhook(ctx context.Context, w *Webhook) error
	// Webhook returns one by id. ErrNotFound.
	Webhook(ctx context.Context, id string) (*Webhook, error)
	// ListWebhooks returns those of a tenant, or all for "", the newest first.
	// ErrBadToken.
	ListWebhooks(ctx context.Context, tenant string, p Page) ([]*Webhook, string, error)
	// UpdateWebhook stores w, which must have the version that was read, and
	// increments w.Version. ErrConflict, also for one that was removed.
	UpdateWebhook(ctx context.Context, w *Webhook) error
	// RemoveWebhook drops one. ErrNotFound.
	RemoveWebhook(ctx context.Context, id string) error
	// HoldWebhooks takes for a holder all that nobody holds at now, keeps what it
	// holds already, and returns the versions of both by id. They are held until
	// until. Disabled ones are nobody's.
	HoldWebhooks(ctx context.Context, holder string, now, until time.Time) (map[string]int64, error)
	// ReleaseWebhooks gives up all that a holder holds.
	ReleaseWebhooks(ctx context.Context, holder string) error
}
