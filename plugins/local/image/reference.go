package image

import (
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sandbar-dev/sandbar/proto/fault"
)

// refField is the field of the contract that holds an image reference.
const refField = "spec.image.oci"

// layoutPrefix starts a reference to a folder in OCI image layout.
const layoutPrefix = "oci-layout:"

// reference is a parsed image reference: exactly one of the two is set.
type reference struct {
	// text is the full form, with registry and tag; it names a ref in the store.
	text     string
	registry name.Reference
	layout   *layoutRef
}

type layoutRef struct {
	dir string
	// tag and digest are empty where the reference has none.
	tag    string
	digest string
}

// parseReference reads what a caller wrote. insecure lists registry hosts that
// may be spoken to without TLS.
func parseReference(text string, insecure []string) (reference, error) {
	if rest, ok := strings.CutPrefix(text, layoutPrefix); ok {
		return parseLayout(text, rest)
	}
	ref, err := name.ParseReference(text)
	if err == nil && slices.Contains(insecure, ref.Context().RegistryStr()) {
		ref, err = name.ParseReference(text, name.Insecure)
	}
	if err != nil {
		return reference{}, fault.Field(refField, text,
			"want a name such as alpine:3.20, registry.example.com/team/app@sha256:<64 hex digits>, or oci-layout:/folder:tag")
	}
	return reference{text: ref.Name(), registry: ref}, nil
}

func parseLayout(text, rest string) (reference, error) {
	l := &layoutRef{dir: rest}
	if at := strings.LastIndex(rest, "@"); at > strings.LastIndex(rest, "/") {
		l.dir, l.digest = rest[:at], rest[at+1:]
		if _, err := v1.NewHash(l.digest); err != nil {
			return reference{}, fault.Field(refField, text, "oci-layout:/folder@sha256:<64 hex digits>")
		}
	} else if colon := strings.LastIndex(rest, ":"); colon > strings.LastIndex(rest, "/") {
		l.dir, l.tag = rest[:colon], rest[colon+1:]
	}
	if !filepath.IsAbs(l.dir) || strings.ContainsRune(l.dir, 0) || (l.tag == "" && strings.HasSuffix(rest, ":")) {
		return reference{}, fault.Field(refField, text, "oci-layout: followed by an absolute path and optionally :tag")
	}
	l.dir = filepath.Clean(l.dir)
	full := layoutPrefix + l.dir
	switch {
	case l.digest != "":
		full += "@" + l.digest
	case l.tag != "":
		full += ":" + l.tag
	}
	return reference{text: full, layout: l}, nil
}

// parsePlatform reads os/architecture[/variant]; empty means this machine.
func parsePlatform(text string) (v1.Platform, error) {
	if text == "" {
		return v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, nil
	}
	parts := strings.Split(text, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return v1.Platform{}, fault.Field("platform", text, "os/architecture such as linux/amd64, optionally with /variant")
	}
	p := v1.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

func platformName(p v1.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// fits reports whether an image for platform have runs where want is asked for.
func fits(have, want v1.Platform) bool {
	return have.OS == want.OS && have.Architecture == want.Architecture &&
		(want.Variant == "" || want.Variant == have.Variant)
}

func formatInt(n int64) string { return strconv.FormatInt(n, 10) }
