package stage

import (
	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// ListAll lists an owner's sandboxes, in pages of the given size; 0 leaves the
// size to the provider.
func ListAll(t *engine.T, client providerv1.ProviderServiceClient, owner string, pageSize int32) []*providerv1.Sandbox {
	var out []*providerv1.Sandbox
	req := &providerv1.ListSandboxesRequest{Owner: owner, PageSize: pageSize}
	for {
		resp, err := client.ListSandboxes(t.Context(), req)
		OK(t, "ListSandboxes", err)
		out = append(out, resp.GetSandboxes()...)
		if pageSize > 0 && len(resp.GetSandboxes()) > int(pageSize) {
			t.Errorf("a page has %d sandboxes: want at most %d", len(resp.GetSandboxes()), pageSize)
		}
		if resp.GetNextPageToken() == "" {
			return out
		}
		if resp.GetNextPageToken() == req.GetPageToken() {
			t.Fatalf("the next page's token is the one that was sent: the list never ends")
		}
		req.PageToken = resp.GetNextPageToken()
	}
}
