package api

import (
	"context"

	"connectrpc.com/connect"

	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	"github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1/brokerv1connect"
)

// Webhooks is what WebhookService is about: URLs that are told of events. The
// caller is in the context.
type Webhooks interface {
	CreateWebhook(ctx context.Context, req *brokerv1.CreateWebhookRequest) (_ *brokerv1.Webhook, secret string, err error)
	ListWebhooks(ctx context.Context, req *brokerv1.ListWebhooksRequest) (*brokerv1.ListWebhooksResponse, error)
	DeleteWebhook(ctx context.Context, id string) (alreadyAbsent bool, err error)
	TestWebhook(ctx context.Context, id string) (*brokerv1.TestWebhookResponse, error)
	RotateWebhookSecret(ctx context.Context, req *brokerv1.RotateWebhookSecretRequest) (_ *brokerv1.Webhook, secret string, err error)
	EnableWebhook(ctx context.Context, req *brokerv1.EnableWebhookRequest) (*brokerv1.Webhook, error)
	DisableWebhook(ctx context.Context, id string) (*brokerv1.Webhook, error)
}

// webhooks serves WebhookService.
type webhooks struct{ w Webhooks }

var _ brokerv1connect.WebhookServiceHandler = webhooks{}

func (h webhooks) CreateWebhook(ctx context.Context, req *connect.Request[brokerv1.CreateWebhookRequest]) (*connect.Response[brokerv1.CreateWebhookResponse], error) {
	w, secret, err := h.w.CreateWebhook(ctx, req.Msg)
	return answer(&brokerv1.CreateWebhookResponse{Webhook: w, Secret: secret}, err)
}

func (h webhooks) ListWebhooks(ctx context.Context, req *connect.Request[brokerv1.ListWebhooksRequest]) (*connect.Response[brokerv1.ListWebhooksResponse], error) {
	return answer(h.w.ListWebhooks(ctx, req.Msg))
}

func (h webhooks) DeleteWebhook(ctx context.Context, req *connect.Request[brokerv1.DeleteWebhookRequest]) (*connect.Response[brokerv1.DeleteWebhookResponse], error) {
	absent, err := h.w.DeleteWebhook(ctx, req.Msg.GetWebhookId())
	return answer(&brokerv1.DeleteWebhookResponse{AlreadyAbsent: absent}, err)
}

func (h webhooks) TestWebhook(ctx context.Context, req *connect.Request[brokerv1.TestWebhookRequest]) (*connect.Response[brokerv1.TestWebhookResponse], error) {
	return answer(h.w.TestWebhook(ctx, req.Msg.GetWebhookId()))
}

func (h webhooks) RotateWebhookSecret(ctx context.Context, req *connect.Request[brokerv1.RotateWebhookSecretRequest]) (*connect.Response[brokerv1.RotateWebhookSecretResponse], error) {
	w, secret, err := h.w.RotateWebhookSecret(ctx, req.Msg)
	return answer(&brokerv1.RotateWebhookSecretResponse{Webhook: w, Secret: secret}, err)
}

func (h webhooks) EnableWebhook(ctx context.Context, req *connect.Request[brokerv1.EnableWebhookRequest]) (*connect.Response[brokerv1.EnableWebhookResponse], error) {
	w, err := h.w.EnableWebhook(ctx, req.Msg)
	return answer(&brokerv1.EnableWebhookResponse{Webhook: w}, err)
}

func (h webhooks) DisableWebhook(ctx context.Context, req *connect.Request[brokerv1.DisableWebhookRequest]) (*connect.Response[brokerv1.DisableWebhookResponse], error) {
	w, err := h.w.DisableWebhook(ctx, req.Msg.GetWebhookId())
	return answer(&brokerv1.DisableWebhookResponse{Webhook: w}, err)
}
