package image

import (
	"net/http"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"

	"github.com/sandbar-dev/sandbar/plugins/local/image/union"
)

func TestRefusals(t *testing.T) {
	reg := newRegistry(t)
	arm := reg.push(t, imageFor(t, v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, gzipLayer(t, file("a", nil))), "arm")
	escape := reg.push(t, imageOf(t, gzipLayer(t, file("../a", nil))), "escape")
	fat := reg.push(t, imageOf(t, gzipLayer(t, file("a", make([]byte, 2<<20)))), "fat")
	plain := tarOf(t, file("a", noise(1, 1000)))
	liar := reg.push(t, imageOf(t, layerOf(t, gzipped(t, plain), []byte("other"), types.OCILayer)), "liar")
	torn := reg.push(t, imageOf(t, layerOf(t, gzipped(t, plain)[:200], plain, types.OCILayer)), "torn")
	chart := reg.push(t, mutate.ConfigMediaType(imageOf(t, gzipLayer(t, file("a", nil))), "application/vnd.cncf.helm.config.v1+json"), "chart")
	notLayout := t.TempDir()
	const (
		invalid    = providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID
		missing    = providerv1.ErrorReason_ERROR_REASON_IMAGE_NOT_FOUND
		unsuitable = providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE
		protocol   = providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL
		down       = providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE
	)
	tests := []struct {
		name, ref string
		reason    providerv1.ErrorReason
		words     []string
	}{
		{"empty", "", invalid, []string{"spec.image.oci"}},
		{"capitals", "Not A/Ref", invalid, []string{"Not A/Ref", "alpine:3.20"}},
		{"bad digest", "app@sha256:123", invalid, nil},
		{"layout by relative path", "oci-layout:dir:tag", invalid, []string{"absolute path"}},
		{"layout with empty tag", "oci-layout:/dir:", invalid, nil},
		{"unknown repository", reg.host + "/no/such:tag", missing, []string{"no/such:tag", reg.host, "NAME_UNKNOWN"}},
		{"unknown tag", reg.host + "/arm:other", missing, []string{"MANIFEST_UNKNOWN"}},
		{"no layout", "oci-layout:" + notLayout, missing, []string{"no index.json"}},
		{"wrong platform", arm, unsuitable, []string{"linux/amd64", "linux/arm64/v8"}},
		{"name climbs out", escape, unsuitable, []string{"../a", "climbs out"}},
		{"not an image", chart, unsuitable, []string{"helm"}},
		{"torn layer", torn, unsuitable, []string{"ends inside"}},
		{"layer is not the config's", liar, protocol, []string{"sha256:"}},
		{"too large", fat, providerv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, []string{"1048576 bytes"}},
		{"nobody listens", "127.0.0.1:1/app", down, []string{"127.0.0.1:1"}},
	}
	s := openStore(t, t.TempDir(), Options{Limits: union.Limits{Bytes: 1 << 20}})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.Pull(t.Context(), tt.ref, PullOptions{Platform: testPlatform})
			wantFault(t, err, tt.reason, tt.words...)
			s.flights.Wait()
			if left := leftovers(t, s.dir); len(left) > 0 {
				t.Errorf("left in tmp: %v", left)
			}
			if images, err := s.List(t.Context()); err != nil || len(images) > 0 {
				t.Errorf("images %v, %v", images, err)
			}
		})
	}
	_, err := s.Pull(t.Context(), arm, PullOptions{Platform: "amd64"})
	wantFault(t, err, invalid, "platform", "linux/amd64")
}

func TestAnswersOfRegistries(t *testing.T) {
	reg := newRegistry(t)
	ref := reg.push(t, imageOf(t, gzipLayer(t, file("a", nil))), "app")
	tests := []struct {
		status int
		reason providerv1.ErrorReason
		words  []string
	}{
		{http.StatusUnauthorized, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID, []string{"does not exist", "401"}},
		{http.StatusForbidden, providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID, []string{"403"}},
		{http.StatusNotFound, providerv1.ErrorReason_ERROR_REASON_IMAGE_NOT_FOUND, nil},
		{http.StatusTooManyRequests, providerv1.ErrorReason_ERROR_REASON_RATE_LIMITED, []string{"credentials"}},
		{http.StatusInternalServerError, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, nil},
		{http.StatusBadGateway, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, nil},
	}
	s := openStore(t, t.TempDir(), Options{})
	for _, tt := range tests {
		t.Run(http.StatusText(tt.status), func(t *testing.T) {
			reg.setBend(func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/manifests/") {
					w.WriteHeader(tt.status)
					return true
				}
				return false
			})
			_, err := s.Pull(t.Context(), ref, PullOptions{Platform: testPlatform})
			wantFault(t, err, tt.reason, tt.words...)
		})
	}
	left := 2
	reg.setBend(func(w http.ResponseWriter, _ *http.Request) bool {
		if left--; left >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	pull(t, s, ref, PullOptions{})
}

func TestFullDiskIsSaidAndLeavesNothing(t *testing.T) {
	reg := newRegistry(t)
	ref := reg.push(t, imageOf(t, gzipLayer(t, file("a", noise(1, 8<<20)))), "app")
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=12m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := openStore(t, dir, Options{})
	_, err := s.Pull(t.Context(), ref, PullOptions{Platform: testPlatform})
	wantFault(t, err, providerv1.ErrorReason_ERROR_REASON_CAPACITY_EXHAUSTED, "disk space", dir)
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
}
