package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sandbar-dev/sandbar/broker/webhook"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/client"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/value"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
)

type webhookCmd struct {
	Create  webhookCreateCmd  `cmd:"" help:"Tell a URL what happens from now on, and print the secret that signs it, once."`
	Ls      webhookLsCmd      `cmd:"" aliases:"list" help:"List webhooks."`
	Rm      webhookRmCmd      `cmd:"" help:"Remove webhooks."`
	Test    webhookTestCmd    `cmd:"" help:"Send a test message now, and say what came of it."`
	Rotate  webhookRotateCmd  `cmd:"" help:"Make a new secret and print it, once; the one before signs as well for a while."`
	Enable  webhookEnableCmd  `cmd:"" help:"Go on now, after a webhook was disabled or while it waits for its next attempt."`
	Disable webhookDisableCmd `cmd:"" help:"Send nothing until it is enabled."`
}

type webhookCreateCmd struct {
	Event       []string `sep:"none" help:"Only events of this type, such as sandbox.deleted. May be repeated; default: all." placeholder:"TYPE"`
	Label       []string `short:"l" sep:"none" help:"Only events of sandboxes with this label. May be repeated." placeholder:"NAME=VALUE"`
	Description string   `help:"What it is for." placeholder:"TEXT"`
	URL         string   `arg:"" name:"url" help:"Where to post events: https://…"`
}

// Help is shown below the flags.
func (*webhookCreateCmd) Help() string {
	return "Messages are signed as the Standard Webhooks specification says, so its libraries verify them. Each event is posted at least once and in order; " +
		"a repetition has the same webhook-id. Types are " + strings.Join(webhook.TypeNames(), ", ") + "."
}

// Run makes a webhook. Standard output gets the secret and nothing else, so that
// it can be caught.
func (c *webhookCreateCmd) Run(ctx context.Context, a *app) error {
	req := &brokerv1.CreateWebhookRequest{Url: c.URL, Description: c.Description}
	for _, name := range c.Event {
		t, err := webhook.ParseType(name)
		if err != nil {
			return &usageError{message: "--event: " + err.Error()}
		}
		req.EventTypes = append(req.EventTypes, t)
	}
	var err error
	if req.Labels, err = value.Labels(c.Label); err != nil {
		return err
	}
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, quickCall)
	defer cancel()
	res, err := cl.Webhooks.CreateWebhook(ctx, request(req))
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Message(a.stdout, res.Msg)
	}
	a.note("webhook %s of tenant %s; its secret is not shown again", res.Msg.GetWebhook().GetWebhookId(), res.Msg.GetWebhook().GetTenant())
	return a.out("%s", res.Msg.GetSecret())
}

type webhookLsCmd struct{}

// Run lists webhooks.
func (c *webhookLsCmd) Run(ctx context.Context, a *app) error {
	var all []*brokerv1.Webhook
	req := &brokerv1.ListWebhooksRequest{PageSize: listPage}
	for {
		page, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*brokerv1.ListWebhooksResponse, error) {
			res, err := cl.Webhooks.ListWebhooks(ctx, request(req))
			if err != nil {
				return nil, err
			}
			return res.Msg, nil
		})
		if err != nil {
			return err
		}
		all = append(all, page.GetWebhooks()...)
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if a.JSON {
		return render.Messages(a.stdout, all)
	}
	rows := make([][]string, 0, len(all))
	for _, w := range all {
		rows = append(rows, []string{
			w.GetWebhookId(), w.GetTenant(), render.Enum(w.GetState(), "WEBHOOK_STATE_"), w.GetUrl(), webhookFilter(w),
			render.Ago(a.now(), w.GetLastDeliveredAt()), webhookTrouble(w, a.now()),
		})
	}
	return render.Table(a.stdout, []string{"ID", "TENANT", "STATE", "URL", "WANTS", "DELIVERED", "REASON"}, rows)
}

// webhookFilter says which events a webhook wants.
func webhookFilter(w *brokerv1.Webhook) string {
	var parts []string
	for _, t := range w.GetEventTypes() {
		parts = append(parts, webhook.TypeName(t))
	}
	if len(w.GetLabels()) > 0 {
		parts = append(parts, render.Pairs(w.GetLabels()))
	}
	if len(parts) == 0 {
		return "all"
	}
	return strings.Join(parts, " ")
}

func webhookTrouble(w *brokerv1.Webhook, now time.Time) string {
	reason := w.GetStatusReason()
	if w.GetState() == brokerv1.WebhookState_WEBHOOK_STATE_FAILING {
		reason += fmt.Sprintf(" (attempt %d; the next %s)", w.GetAttempts(), render.Until(now, w.GetNextAttemptAt()))
	}
	return reason
}

type webhookRmCmd struct {
	ID []string `arg:"" name:"id" help:"Ids."`
}

// Run removes webhooks; removing an absent one is a success.
func (c *webhookRmCmd) Run(ctx context.Context, a *app) error {
	return a.removeEach("webhook", c.ID, func(id string) (bool, error) {
		res, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*brokerv1.DeleteWebhookResponse, error) {
			res, err := cl.Webhooks.DeleteWebhook(ctx, request(&brokerv1.DeleteWebhookRequest{WebhookId: id}))
			if err != nil {
				return nil, err
			}
			return res.Msg, nil
		})
		return res.GetAlreadyAbsent(), err
	})
}

type webhookTestCmd struct {
	ID string `arg:"" name:"id" help:"Id."`
}

// errNotDelivered is the end of a test that the receiver did not take.
var errNotDelivered = errors.New("the test message was not delivered")

// Run sends a test message.
func (c *webhookTestCmd) Run(ctx context.Context, a *app) error {
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer a.progress("waiting for the receiver")()
	ctx, cancel := context.WithTimeout(ctx, quickCall)
	defer cancel()
	res, err := cl.Webhooks.TestWebhook(ctx, request(&brokerv1.TestWebhookRequest{WebhookId: c.ID}))
	if err != nil {
		return err
	}
	m := res.Msg
	if a.JSON {
		err = render.Message(a.stdout, m)
	} else if m.GetDelivered() {
		err = a.out("delivered in %s, status %s", render.Span(m.GetTook().AsDuration()), strconv.Itoa(int(m.GetStatusCode())))
	}
	if err != nil || m.GetDelivered() {
		return err
	}
	return fmt.Errorf("%w: %s", errNotDelivered, m.GetReason())
}

type webhookRotateCmd struct {
	Overlap value.Duration `default:"24h" help:"How long the secret before signs as well, up to 7d." placeholder:"TIME"`
	AtOnce  bool           `help:"End the secret before at once, as after a leak."`
	ID      string         `arg:"" name:"id" help:"Id."`
}

// Run makes a new secret.
func (c *webhookRotateCmd) Run(ctx context.Context, a *app) error {
	cl, err := a.connect(ctx)
	if err != nil {
		return err
	}
	overlap := time.Duration(c.Overlap)
	if c.AtOnce {
		overlap = 0
	}
	ctx, cancel := context.WithTimeout(ctx, quickCall)
	defer cancel()
	res, err := cl.Webhooks.RotateWebhookSecret(ctx, request(&brokerv1.RotateWebhookSecretRequest{WebhookId: c.ID, Overlap: durationpb.New(overlap)}))
	if err != nil {
		return err
	}
	if a.JSON {
		return render.Message(a.stdout, res.Msg)
	}
	if end := res.Msg.GetWebhook().GetPreviousSecretExpiresAt(); end != nil {
		a.note("the secret before signs as well; it ends %s", render.Until(a.now(), end))
	}
	return a.out("%s", res.Msg.GetSecret())
}

type webhookEnableCmd struct {
	FromNow bool     `help:"Leave out all that has happened until now."`
	ID      []string `arg:"" name:"id" help:"Ids."`
}

// Run enables webhooks, all that it can.
func (c *webhookEnableCmd) Run(ctx context.Context, a *app) error {
	return a.changeWebhooks(ctx, c.ID, func(ctx context.Context, cl *client.Client, id string) (*brokerv1.Webhook, error) {
		res, err := cl.Webhooks.EnableWebhook(ctx, request(&brokerv1.EnableWebhookRequest{WebhookId: id, FromNow: c.FromNow}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetWebhook(), nil
	})
}

type webhookDisableCmd struct {
	ID []string `arg:"" name:"id" help:"Ids."`
}

// Run disables webhooks, all that it can.
func (c *webhookDisableCmd) Run(ctx context.Context, a *app) error {
	return a.changeWebhooks(ctx, c.ID, func(ctx context.Context, cl *client.Client, id string) (*brokerv1.Webhook, error) {
		res, err := cl.Webhooks.DisableWebhook(ctx, request(&brokerv1.DisableWebhookRequest{WebhookId: id}))
		if err != nil {
			return nil, err
		}
		return res.Msg.GetWebhook(), nil
	})
}

// changeWebhooks changes each webhook and shows those that were.
func (a *app) changeWebhooks(ctx context.Context, ids []string, change func(context.Context, *client.Client, string) (*brokerv1.Webhook, error)) error {
	var changed []*brokerv1.Webhook
	var errs []error
	for _, id := range ids {
		w, err := steady(ctx, a, quickCall, func(ctx context.Context, cl *client.Client) (*brokerv1.Webhook, error) { return change(ctx, cl, id) })
		if err != nil {
			errs = append(errs, err)
			continue
		}
		changed = append(changed, w)
		if !a.JSON {
			if err := a.out("%s", w.GetWebhookId()); err != nil {
				return err
			}
		}
	}
	if a.JSON {
		errs = append(errs, render.Messages(a.stdout, changed))
	}
	return errors.Join(errs...)
}
