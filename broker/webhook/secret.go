package webhook

import (
	"context"
	"errors"

	"github.com/sandbar-dev/sandbar/broker/state"
)

// What is stored of a secret is sealed if there are keys for that. Rows from before
// there were have the secret itself, whose length tells it from a sealed one.

// sealed is what is stored of a webhook's secret.
func (s *Service) sealed(id string, secret []byte) []byte {
	return s.opts.Keys.Seal(secret, "webhook "+id)
}

// opened returns a webhook with its secrets as they sign. One from before a rotation
// that cannot be read signs no more.
func (s *Service) opened(w *state.Webhook) (_ *state.Webhook, err error) {
	c := *w
	if c.Secret, err = s.opts.Keys.Open(w.Secret, "webhook "+w.ID()); err != nil {
		return nil, err
	}
	if c.Previous, err = s.opts.Keys.Open(w.Previous, "webhook "+w.ID()); err != nil {
		c.Previous = nil
	}
	return &c, nil
}

// reseal brings what is stored of all secrets under the newest key: those from before
// there was one, and those of the key before it.
func (s *Service) reseal(ctx context.Context) {
	if s.opts.Keys == nil {
		return
	}
	for token := ""; ; {
		page, next, err := s.store.ListWebhooks(ctx, "", state.Page{Size: maxPage, Token: token})
		if err != nil {
			s.logged(ctx, "secrets of webhooks are not sealed", err)
			return
		}
		for _, w := range page {
			if err := s.resealOne(ctx, w); err != nil {
				s.logged(ctx, "secret of a webhook is not sealed", err, "webhook_id", w.ID())
			}
		}
		if token = next; token == "" {
			return
		}
	}
}

// resealOne goes on until nobody else changed the webhook meanwhile.
func (s *Service) resealOne(ctx context.Context, w *state.Webhook) error {
	id := w.ID()
	for !s.opts.Keys.Current(w.Secret) || !s.opts.Keys.Current(w.Previous) {
		open, err := s.opened(w)
		if err != nil {
			return err
		}
		w.Secret = s.sealed(id, open.Secret)
		if len(open.Previous) > 0 {
			w.Previous = s.sealed(id, open.Previous)
		}
		if err := s.store.UpdateWebhook(ctx, w); !errors.Is(err, state.ErrConflict) {
			return err
		}
		if w, err = s.store.Webhook(ctx, id); errors.Is(err, state.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}
