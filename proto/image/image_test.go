package image_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/image"
)

func TestText(t *testing.T) {
	for text, want := range map[string]*providerv1.Image{
		"":                   nil,
		"host":               {Source: &providerv1.Image_Host{Host: &providerv1.HostImage{}}},
		"template:base":      {Source: &providerv1.Image_Template{Template: "base"}},
		"template:":          {Source: &providerv1.Image_Oci{Oci: "template:"}},
		"hosted":             {Source: &providerv1.Image_Oci{Oci: "hosted"}},
		"ghcr.io/a/b:1@sha1": {Source: &providerv1.Image_Oci{Oci: "ghcr.io/a/b:1@sha1"}},
	} {
		if diff := cmp.Diff(want, image.Parse(text), protocmp.Transform()); diff != "" {
			t.Errorf("%q is read wrongly (-want +got):\n%s", text, diff)
		}
		if got := image.Text(want); got != text {
			t.Errorf("the image of %q is written %q", text, got)
		}
	}
	if got := image.Text(&providerv1.Image{}); got != "" {
		t.Errorf("an image without a source is written %q", got)
	}
}
