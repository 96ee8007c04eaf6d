package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"

	"github.com/sandbar-dev/sandbar/proto/fault"
)

// source is where the parts of one reference come from. Whoever calls it
// verifies what it returns against the digest asked for.
type source interface {
	// top returns the manifest or index the reference stands for.
	top(context.Context) (document, error)
	// manifest returns a manifest or index by descriptor.
	manifest(context.Context, v1.Descriptor) (document, error)
	// blob opens a blob at an offset below its size.
	blob(ctx context.Context, desc v1.Descriptor, offset int64) (io.ReadCloser, error)
}

// document is a manifest or index as it came.
type document struct {
	digest    v1.Hash
	mediaType types.MediaType
	raw       []byte
}

// target is the image that a reference means on a platform.
type target struct {
	digest   v1.Hash
	manifest *v1.Manifest
	config   *v1.ConfigFile
}

const (
	// maxDocument bounds manifests and configs; registries allow 4 MiB.
	maxDocument = 8 << 20
	// maxNesting is how deep indexes may contain indexes. Two is common in
	// layouts, whose outer index is index.json.
	maxNesting = 4
)

// resolve finds the image for a platform behind a reference.
func (s *Store) resolve(ctx context.Context, src source, ref reference, want v1.Platform) (*target, error) {
	var doc document
	err := s.retry(ctx, func() (err error) {
		doc, err = src.top(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	for range maxNesting {
		if !isIndex(doc) {
			return s.readTarget(ctx, src, ref, doc, want)
		}
		desc, err := choose(doc, ref, want)
		if err != nil {
			return nil, err
		}
		err = s.retry(ctx, func() (err error) {
			doc, err = src.manifest(ctx, desc)
			return err
		})
		if err != nil {
			return nil, err
		}
		if err := verify(doc.raw, desc); err != nil {
			return nil, err
		}
	}
	return nil, unsatisfiable(ref, "its indexes are nested more than %d deep", maxNesting)
}

func isIndex(doc document) bool {
	if doc.mediaType.IsIndex() {
		return true
	}
	// Layouts and static registries may not say what a document is.
	var probe struct {
		Manifests []json.RawMessage `json:"manifests"`
	}
	return !doc.mediaType.IsImage() && json.Unmarshal(doc.raw, &probe) == nil && probe.Manifests != nil
}

// choose picks the entry of an index for a platform. An entry that says no
// platform is taken only if none fits and it is the only one.
func choose(doc document, ref reference, want v1.Platform) (v1.Descriptor, error) {
	index, err := v1.ParseIndexManifest(bytes.NewReader(doc.raw))
	if err != nil {
		return v1.Descriptor{}, protocolError(ref, "the index %s is not JSON of an image index: %v", doc.digest, err)
	}
	var have []string
	var unnamed []v1.Descriptor
	for _, desc := range index.Manifests {
		switch {
		case !desc.MediaType.IsImage() && !desc.MediaType.IsIndex():
		case desc.Platform == nil || desc.Platform.OS == "":
			unnamed = append(unnamed, desc)
		case fits(*desc.Platform, want):
			return desc, nil
		case desc.Platform.OS == "unknown": // attestations of build tools
		default:
			have = append(have, platformName(*desc.Platform))
		}
	}
	if len(have) == 0 && len(unnamed) == 1 {
		return unnamed[0], nil
	}
	return v1.Descriptor{}, wrongPlatform(ref, want, have)
}

func wrongPlatform(ref reference, want v1.Platform, have []string) error {
	slices.Sort(have)
	list := strings.Join(slices.Compact(have), ", ")
	if list == "" {
		list = "none"
	}
	return unsatisfiable(ref, "it is not made for %s; the platforms it has: %s", platformName(want), list).
		With("platform", platformName(want)).With("available", list)
}

// readTarget reads an image's manifest and config and checks that they can be used.
func (s *Store) readTarget(ctx context.Context, src source, ref reference, doc document, want v1.Platform) (*target, error) {
	if doc.mediaType == types.DockerManifestSchema1 || doc.mediaType == types.DockerManifestSchema1Signed {
		return nil, unsatisfiable(ref, "its manifest is of Docker's schema 1, which was given up in 2017: push it again with a current tool")
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(doc.raw))
	if err != nil {
		return nil, protocolError(ref, "the manifest %s is not JSON of an image manifest: %v", doc.digest, err)
	}
	if m := manifest.Config.MediaType; !m.IsConfig() {
		return nil, unsatisfiable(ref, "it is not a container image but holds %q", m)
	}
	for _, layer := range manifest.Layers {
		if !layer.MediaType.IsLayer() || strings.Contains(string(layer.MediaType), "encrypted") {
			return nil, unsatisfiable(ref, "its layer %s is of the unknown type %q", layer.Digest, layer.MediaType)
		}
	}
	raw, err := s.smallBlob(ctx, src, ref, manifest.Config)
	if err != nil {
		return nil, err
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil {
		return nil, protocolError(ref, "the config %s is not JSON of an image config: %v", manifest.Config.Digest, err)
	}
	// Images made by hand may leave the platform out; they claim nothing false.
	if have := configPlatform(config); have.OS+have.Architecture != "" && !fits(have, want) {
		return nil, wrongPlatform(ref, want, []string{platformName(have)})
	}
	if config.OS+config.Architecture == "" {
		config.OS, config.Architecture, config.Variant = want.OS, want.Architecture, want.Variant
	}
	if n := len(config.RootFS.DiffIDs); n != len(manifest.Layers) {
		return nil, protocolError(ref, "its config names %d layers and its manifest %d", n, len(manifest.Layers))
	}
	return &target{digest: doc.digest, manifest: manifest, config: config}, nil
}

// smallBlob reads a blob that belongs in memory.
func (s *Store) smallBlob(ctx context.Context, src source, ref reference, desc v1.Descriptor) ([]byte, error) {
	if desc.Size < 0 || desc.Size > maxDocument {
		return nil, protocolError(ref, "its config has %d bytes, more than %d", desc.Size, maxDocument)
	}
	var raw []byte
	err := s.retry(ctx, func() error {
		r, err := src.blob(ctx, desc, 0)
		if err != nil {
			return err
		}
		defer r.Close()
		raw, err = io.ReadAll(io.LimitReader(r, desc.Size+1))
		return err
	})
	if err != nil {
		return nil, err
	}
	return raw, verify(raw, desc)
}

// verify checks bytes against their descriptor.
func verify(raw []byte, desc v1.Descriptor) error {
	have, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	if have != desc.Digest {
		return &corrupt{want: desc.Digest, have: have.String()}
	}
	return nil
}

// corrupt is content that does not match its digest.
type corrupt struct {
	want v1.Hash
	have string
}

func (e *corrupt) Error() string {
	return fmt.Sprintf("content of %s turned out to be %s", e.want, e.have)
}

func unsatisfiable(ref reference, format string, args ...any) *fault.Error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_SPEC_UNSATISFIABLE,
		"image %s cannot be used: %w", ref.text, fmt.Errorf(format, args...)).With("image", ref.text)
}

func protocolError(ref reference, format string, args ...any) *fault.Error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL,
		"image %s is damaged: %w", ref.text, fmt.Errorf(format, args...)).With("image", ref.text)
}
