package fake

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// ghost is a deleted sandbox that listings still show.
type ghost struct {
	box   *box
	until time.Time
}

func (c *cloud) setLag(lag time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lag = lag
}

// haunt keeps a sandbox that was just deleted in the listings for a while. The
// caller holds mu.
func (c *cloud) haunt(b *box) {
	now := c.now()
	c.ghosts = slices.DeleteFunc(c.ghosts, func(g ghost) bool { return !now.Before(g.until) })
	if c.lag > 0 {
		c.ghosts = append(c.ghosts, ghost{box: b, until: now.Add(c.lag)})
	}
}

// listed returns an owner's sandboxes as a listing shows them, in order of seq.
// The caller holds mu.
func (c *cloud) listed(owner string) []*box {
	if c.lag == 0 && len(c.ghosts) == 0 {
		return c.owners[owner]
	}
	now := c.now()
	var out []*box
	for _, b := range c.owners[owner] {
		if now.Sub(b.CreatedAt) >= c.lag {
			out = append(out, b)
		}
	}
	for _, g := range c.ghosts {
		if g.box.Identity.Owner == owner && now.Before(g.until) && now.Sub(g.box.CreatedAt) >= c.lag {
			out = append(out, g.box)
		}
	}
	slices.SortFunc(out, func(a, b *box) int { return int(int64(a.Seq) - int64(b.Seq)) })
	return out
}

// ListSandboxes implements sdk.Driver. A page token is the sequence number of the
// last sandbox seen, so that it never goes stale.
func (d *Driver) ListSandboxes(ctx context.Context, req *providerv1.ListSandboxesRequest) (*providerv1.ListSandboxesResponse, error) {
	return during(ctx, d, "ListSandboxes", func(c *cloud) (*providerv1.ListSandboxesResponse, error) {
		after, err := parseToken(req.GetPageToken())
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		out := &providerv1.ListSandboxesResponse{}
		var last uint64
		for _, b := range c.listed(req.GetOwner()) {
			if b.Seq <= after || (!b.ExpiresAt.IsZero() && !c.now().Before(b.ExpiresAt)) {
				continue
			}
			if len(out.GetSandboxes()) == int(req.GetPageSize()) {
				out.NextPageToken = strconv.FormatUint(last, 10)
				break
			}
			out.Sandboxes = append(out.Sandboxes, c.proto(b))
			last = b.Seq
		}
		return out, nil
	})
}

func parseToken(token string) (uint64, error) {
	if token == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(token, 10, 64)
	if err != nil {
		return 0, fault.Field("page_token", token, "want the token of the page before")
	}
	return n, nil
}
