// Package image reads and writes the image of a sandbox as people do: on the command
// line, and in the rules of a broker.
//
//	host              the machine's own files
//	template:base     the vendor's template "base"
//	alpine:3.22       any other text: the reference of an OCI image
package image

import (
	"strings"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

const (
	host     = "host"
	template = "template:"
)

// Parse returns the image that a text stands for; nil for none. Whether there is
// such an image is the provider's to say.
func Parse(text string) *providerv1.Image {
	name, isTemplate := strings.CutPrefix(text, template)
	switch {
	case text == "":
		return nil
	case text == host:
		return &providerv1.Image{Source: &providerv1.Image_Host{Host: &providerv1.HostImage{}}}
	case isTemplate && name != "":
		return &providerv1.Image{Source: &providerv1.Image_Template{Template: name}}
	default:
		return &providerv1.Image{Source: &providerv1.Image_Oci{Oci: text}}
	}
}

// Text returns what Parse reads as the image; empty for none.
func Text(i *providerv1.Image) string {
	switch s := i.GetSource().(type) {
	case *providerv1.Image_Oci:
		return s.Oci
	case *providerv1.Image_Template:
		return template + s.Template
	case *providerv1.Image_Host:
		return host
	default:
		return ""
	}
}
