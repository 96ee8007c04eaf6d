package image

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Registries such as Docker Hub give anonymous callers a token too, and another
// to those with a password.
func TestTokens(t *testing.T) {
	reg := newRegistry(t)
	public := reg.push(t, imageOf(t, gzipLayer(t, file("a", []byte("1")))), "public")
	private := reg.push(t, imageOf(t, gzipLayer(t, file("a", []byte("2")))), "private")
	reg.setBend(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			user, password, _ := r.BasicAuth()
			token := "anonymous"
			if user == "ann" && password == "right" {
				token = "ann"
			}
			if !strings.HasSuffix(r.URL.Query().Get("scope"), ":pull") {
				t.Errorf("scope asked for: %q", r.URL.Query().Get("scope"))
			}
			_, _ = fmt.Fprintf(w, `{"token": %q}`, token)
			return true
		}
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if token == "ann" || token == "anonymous" && !strings.Contains(r.URL.Path, "private") {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, reg.host))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	s := openStore(t, t.TempDir(), Options{})
	pull(t, s, public, PullOptions{})
	_, err := s.Pull(t.Context(), private, PullOptions{Platform: testPlatform})
	wantFault(t, err, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID)
	pull(t, s, private, PullOptions{Credentials: func(context.Context, string) (Credentials, error) {
		return Credentials{Username: "ann", Password: "right"}, nil
	}})
}

// A directory that the usual blocks cannot hold makes the image one of large blocks.
func TestCrowdedDirectory(t *testing.T) {
	reg := newRegistry(t)
	var items []item
	for n := range 200 {
		items = append(items, file(fmt.Sprintf("d/%0200d", n), fmt.Append(nil, n)))
	}
	ref := reg.push(t, imageOf(t, gzipLayer(t, items...)), "app")
	var last Progress
	img := pull(t, openStore(t, t.TempDir(), Options{}), ref, PullOptions{Progress: func(p Progress) { last = p }})
	got := contents(t, img.RootfsPath)
	if want := "100644 0:0 1 links " + sumOf([]byte("123")); len(got) != 202 || got[fmt.Sprintf("/d/%0200d", 123)] != want {
		t.Errorf("%d objects, one is %q", len(got), got[fmt.Sprintf("/d/%0200d", 123)])
	}
	if last.LayersDone != 1 || last.Bytes != last.TotalBytes {
		t.Errorf("last progress %+v", last)
	}
}
