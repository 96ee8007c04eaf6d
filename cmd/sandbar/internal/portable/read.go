package portable

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ociv1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxDocument bounds what is read into memory: a config names each path that a
// sandbox changed.
const maxDocument = 32 << 20

// Layout is a snapshot that is read.
type Layout struct {
	// Snapshot is what it says about itself; its digest was checked.
	Snapshot *Snapshot
	// Manifest is the digest of the manifest, Layer that of the layer.
	Manifest, Layer string
	// LayerSize is in bytes.
	LayerSize int64
	// Taken is when the snapshot was taken; zero if it does not say.
	Taken time.Time

	blobs blobs
	layer ociv1.Descriptor
}

// Open reads all but the layer of a snapshot, a folder or a tar file. The caller
// closes it.
func Open(name string) (*Layout, error) {
	b, err := openBlobs(name)
	if err != nil {
		return nil, err
	}
	l := &Layout{blobs: b}
	if err := l.read(); err != nil {
		_ = b.close()
		return nil, err
	}
	return l, nil
}

// Close ends it.
func (l *Layout) Close() error { return l.blobs.close() }

func (l *Layout) read() error {
	var mark ociv1.ImageLayout
	if err := l.document(ociv1.ImageLayoutFile, &mark); err != nil {
		return err
	}
	if mark.Version != ociv1.ImageLayoutVersion {
		return damaged("it is an OCI layout of version %q, want %s", mark.Version, ociv1.ImageLayoutVersion)
	}
	var index ociv1.Index
	if err := l.document(ociv1.ImageIndexFile, &index); err != nil {
		return err
	}
	if len(index.Manifests) != 1 {
		return damaged("its index has %d manifests, want one", len(index.Manifests))
	}
	entry := index.Manifests[0]
	if at, err := time.Parse(time.RFC3339, entry.Annotations[ociv1.AnnotationCreated]); err == nil {
		l.Taken = at
	}
	var manifest ociv1.Manifest
	if err := l.blob(entry, ociv1.MediaTypeImageManifest, &manifest); err != nil {
		return err
	}
	if manifest.ArtifactType != ArtifactType {
		return damaged("it is an artifact of type %q, want %s", manifest.ArtifactType, ArtifactType)
	}
	if len(manifest.Layers) != 1 || manifest.Layers[0].MediaType != ociv1.MediaTypeImageLayer {
		return damaged("it has %d layers, want one of type %s", len(manifest.Layers), ociv1.MediaTypeImageLayer)
	}
	l.layer = manifest.Layers[0]
	if err := checkDigest(l.layer); err != nil {
		return err
	}
	l.Snapshot = &Snapshot{}
	if err := l.blob(manifest.Config, ConfigType, l.Snapshot); err != nil {
		return err
	}
	l.Manifest, l.Layer, l.LayerSize = string(entry.Digest), string(l.layer.Digest), l.layer.Size
	return l.Snapshot.check()
}

// document reads a file that nothing else has a digest of.
func (l *Layout) document(name string, v any) error {
	r, size, err := l.blobs.open(name)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	if size > maxDocument {
		return damaged("%s has %d bytes, want at most %d", name, size, maxDocument)
	}
	raw, err := io.ReadAll(io.LimitReader(r, maxDocument))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return decode(name, raw, v)
}

// blob reads a small blob and checks it.
func (l *Layout) blob(d ociv1.Descriptor, mediaType string, v any) error {
	if d.MediaType != mediaType {
		return damaged("blob %s is of type %q, want %s", d.Digest, d.MediaType, mediaType)
	}
	if d.Size > maxDocument {
		return damaged("blob %s has %d bytes, want at most %d", d.Digest, d.Size, maxDocument)
	}
	r, err := l.open(d)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	raw, err := io.ReadAll(r)
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return err
	}
	return decode(string(d.Digest), raw, v)
}

func decode(name string, raw []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := d.Decode(v); err != nil {
		return damaged("%s is not the JSON that it should be: %v", name, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return damaged("%s goes on after its JSON", name)
	}
	return nil
}

func checkDigest(d ociv1.Descriptor) error {
	if err := d.Digest.Validate(); err != nil || d.Digest.Algorithm() != digest.SHA256 || d.Size < 0 {
		return damaged("%q of %d bytes is no SHA-256 digest of anything", d.Digest, d.Size)
	}
	return nil
}

// open returns a reader of a blob that has the size it should have.
func (l *Layout) open(d ociv1.Descriptor) (*checked, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	r, size, err := l.blobs.open(blobPath(d.Digest))
	if err != nil {
		return nil, err
	}
	if size != d.Size {
		_ = r.Close()
		return nil, damaged("blob %s has %d bytes, want %d", d.Digest, size, d.Size)
	}
	return &checked{ReadCloser: r, want: d, summing: summing{sum: sha256.New()}}, nil
}

// checked is a blob whose digest is known when it was read.
type checked struct {
	io.ReadCloser
	want ociv1.Descriptor
	summing
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	_, _ = c.Write(p[:n]) // a digest takes everything
	return n, err
}

// end reads what is left, and refuses a blob that was not the right one.
func (c *checked) end() error {
	if _, err := io.Copy(io.Discard, c); err != nil {
		return fmt.Errorf("read blob %s: %w", c.want.Digest, err)
	}
	if got := digest.NewDigest(digest.SHA256, c.sum); got != c.want.Digest || c.size != c.want.Size {
		return damaged("blob %s has the digest %s: it was changed", c.want.Digest, got)
	}
	return nil
}

// Walk passes every entry of the layer on, in order, and checks all of it. Only when
// it returns without an error is it known that the entries were the right ones. It
// returns what they are like.
func (l *Layout) Walk(ctx context.Context, sink Sink) (*Tree, error) {
	r, err := l.open(l.layer)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	in := NewIntake(l.Snapshot.Paths)
	for tr := tar.NewReader(r); ; {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, damaged("its layer is no whole tar: %v", err)
		}
		if err := l.within(in.Tree().Count(), h); err != nil {
			return nil, err
		}
		err = in.Take(h, tr, sink)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, damaged("its layer ends within %q", h.Name)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	if in.Tree().Count() != l.Snapshot.Count || in.Tree().Digest() != l.Snapshot.Tree {
		return nil, damaged("its layer has %+v, and its config counts %+v, or other files", in.Tree().Count(), l.Snapshot.Count)
	}
	return in.Tree(), nil
}

// within refuses an entry that is more than the snapshot says it has, before
// anything is made of it.
func (l *Layout) within(had Count, h *tar.Header) error {
	want := l.Snapshot.Count
	if had.Files+had.Folders+had.Links >= want.Files+want.Folders+want.Links || h.Size > want.Bytes-had.Bytes {
		return damaged("its layer has more than the %+v that its config counts", want)
	}
	return nil
}
