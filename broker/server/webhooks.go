package server

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"strings"

	"github.com/sandbar-dev/sandbar/broker/webhook"
)

// deliver begins to tell webhooks what happens. owner is the broker's id.
func (s *server) deliver(owner string) (*webhook.Service, error) {
	policy := webhook.Policy{AllowHTTP: s.opts.Config.Webhooks.AllowHTTP}
	for _, text := range s.opts.Config.Webhooks.AllowNetworks {
		n, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("webhooks.allow_networks: %w", err)
		}
		policy.AllowNetworks = append(policy.AllowNetworks, n)
	}
	// A database of the server's own is nobody else's while the server runs: what an
	// earlier one held is its own. Brokers that share one have the same owner, and so
	// need names.
	holder := owner
	if s.opts.Store != nil {
		holder = owner + "/" + strings.ToLower(rand.Text())
	}
	keys, err := s.sealingKeys()
	if err != nil {
		return nil, err
	}
	return webhook.New(s.store, webhook.Options{
		Policy: policy, Holder: holder, Keys: keys, Changed: s.service.EventsChanged, Attempted: s.observed.metrics.Webhook,
		Version: s.opts.Version, Log: s.opts.Log,
	}), nil
}
