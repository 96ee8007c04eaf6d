package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"

	"github.com/sandbar-dev/sandbar/proto/fault"
)

// tagAnnotation is how a layout's index names its images.
const tagAnnotation = "org.opencontainers.image.ref.name"

// layoutSource is a folder in OCI image layout.
type layoutSource struct {
	ref  reference
	path layout.Path
}

// top picks an image from index.json: the one asked for, the only one, or the
// one tagged latest.
func (l *layoutSource) top(ctx context.Context) (document, error) {
	index, err := l.index()
	if err != nil {
		return document{}, err
	}
	want := l.ref.layout
	var tags []string
	var matches []v1.Descriptor
	for _, desc := range index.Manifests {
		tag := desc.Annotations[tagAnnotation]
		tags = append(tags, tag)
		switch {
		case want.digest != "" && desc.Digest.String() == want.digest,
			want.digest == "" && want.tag != "" && tag == want.tag,
			want.digest == "" && want.tag == "" && (tag == "latest" || len(index.Manifests) == 1):
			matches = append(matches, desc)
		}
	}
	switch {
	case len(matches) > 0 && want.tag == "":
		return l.manifest(ctx, matches[0])
	case len(matches) == 1:
		return l.manifest(ctx, matches[0])
	case len(matches) > 1:
		// One tag for several platforms: treat them as the index they should be.
		return asIndex(matches)
	}
	slices.Sort(tags)
	return document{}, notFound(l.ref, "the folder has no such image; its tags: %s", strings.Join(slices.Compact(tags), " "))
}

func asIndex(matches []v1.Descriptor) (document, error) {
	raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: matches})
	if err != nil {
		return document{}, err
	}
	digest, _, err := v1.SHA256(bytes.NewReader(raw))
	return document{digest: digest, mediaType: types.OCIImageIndex, raw: raw}, err
}

// index opens the folder.
func (l *layoutSource) index() (*v1.IndexManifest, error) {
	dir := l.ref.layout.dir
	if _, err := os.Stat(filepath.Join(dir, "index.json")); errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(l.ref, "%s is not a folder in OCI image layout: it has no index.json", dir)
	}
	path, err := layout.FromPath(dir)
	if err != nil {
		return nil, err
	}
	l.path = path
	index, err := path.ImageIndex()
	if err != nil {
		return nil, err
	}
	return index.IndexManifest()
}

func (l *layoutSource) manifest(_ context.Context, desc v1.Descriptor) (document, error) {
	if desc.Size > maxDocument {
		return document{}, protocolError(l.ref, "manifest %s has %d bytes, more than %d", desc.Digest, desc.Size, maxDocument)
	}
	f, err := l.path.Blob(desc.Digest)
	if err != nil {
		return document{}, l.missing(desc, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxDocument))
	if err != nil {
		return document{}, err
	}
	return document{digest: desc.Digest, mediaType: desc.MediaType, raw: raw}, verify(raw, desc)
}

func (l *layoutSource) blob(_ context.Context, desc v1.Descriptor, offset int64) (io.ReadCloser, error) {
	f, err := l.path.Blob(desc.Digest)
	if err != nil {
		return nil, l.missing(desc, err)
	}
	if _, err := io.CopyN(io.Discard, f, offset); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (l *layoutSource) missing(desc v1.Descriptor, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return protocolError(l.ref, "the folder lacks the blob %s", desc.Digest)
	}
	return fmt.Errorf("read blob %s: %w", desc.Digest, err)
}

func notFound(ref reference, format string, args ...any) *fault.Error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_IMAGE_NOT_FOUND,
		"image %s was not found: %w", ref.text, fmt.Errorf(format, args...)).With("image", ref.text)
}
