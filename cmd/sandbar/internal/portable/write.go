package portable

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ociv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Packed reports whether a snapshot of a name is one tar file; any other is a folder.
func Packed(name string) bool { return strings.HasSuffix(name, ".tar") }

// Absent refuses a name at which there is something.
func Absent(name string) error {
	_, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_EXISTS, "%s exists already; choose another name or remove it", name).With("path", name)
	}
	return err
}

// Layer takes the entries of a snapshot that is being written.
type Layer struct{ tw *tar.Writer }

// Take is a Sink.
func (l *Layer) Take(_ string, h *tar.Header) (io.Writer, error) {
	if err := l.tw.WriteHeader(h); err != nil {
		return nil, fmt.Errorf("write entry %q: %w", h.Name, err)
	}
	return l.tw, nil
}

// Write makes a snapshot of some paths at a name where nothing is. It appears there
// whole or not at all, readable by its owner only. fill passes all entries of an
// Intake of these paths to the layer, and returns what the snapshot says about itself,
// without what is counted here. It returns the digest of the manifest.
func Write(name string, taken time.Time, paths []string, fill func(*Layer) (*Snapshot, *Tree, error)) (manifest string, err error) {
	if err := Absent(name); err != nil {
		return "", err
	}
	parent := filepath.Dir(name)
	dir, err := os.MkdirTemp(parent, "."+filepath.Base(name)+".*")
	if err != nil {
		return "", fmt.Errorf("write a snapshot in %s: %w", parent, err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // what was moved away is not there any more
	w := &writer{dir: dir}
	if err := os.MkdirAll(filepath.Join(dir, ociv1.ImageBlobsDir, "sha256"), 0o700); err != nil {
		return "", err
	}
	manifest, err = w.layout(taken, paths, fill)
	if err != nil {
		return "", err
	}
	from := dir
	if Packed(name) {
		if from, err = w.pack(parent); err != nil {
			return "", err
		}
		defer func() { _ = os.Remove(from) }()
	}
	if err := Absent(name); err != nil {
		return "", err
	}
	if err := os.Rename(from, name); err != nil {
		return "", fmt.Errorf("write snapshot %s: %w", name, err)
	}
	return manifest, nil
}

type writer struct{ dir string }

// layout writes everything in the order in which it refers to each other.
func (w *writer) layout(taken time.Time, paths []string, fill func(*Layer) (*Snapshot, *Tree, error)) (string, error) {
	snap, layer, err := w.layer(paths, fill)
	if err != nil {
		return "", err
	}
	config, err := w.blob(ConfigType, snap)
	if err != nil {
		return "", err
	}
	manifest, err := w.blob(ociv1.MediaTypeImageManifest, ociv1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ociv1.MediaTypeImageManifest, ArtifactType: ArtifactType,
		Config: config, Layers: []ociv1.Descriptor{layer},
	})
	if err != nil {
		return "", err
	}
	// The time is here, so that the manifest of the same files of the same sandbox is
	// the same.
	manifest.ArtifactType = ArtifactType
	manifest.Annotations = map[string]string{ociv1.AnnotationCreated: taken.UTC().Format(time.RFC3339)}
	index, err := encode(ociv1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ociv1.MediaTypeImageIndex, Manifests: []ociv1.Descriptor{manifest},
	})
	if err != nil {
		return "", err
	}
	mark, err := encode(ociv1.ImageLayout{Version: ociv1.ImageLayoutVersion})
	if err != nil {
		return "", err
	}
	return string(manifest.Digest), errors.Join(w.file(ociv1.ImageIndexFile, index), w.file(ociv1.ImageLayoutFile, mark))
}

// layer writes the layer under a name for the time being, then under its digest.
func (w *writer) layer(paths []string, fill func(*Layer) (*Snapshot, *Tree, error)) (*Snapshot, ociv1.Descriptor, error) {
	name := filepath.Join(w.dir, "layer")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, ociv1.Descriptor{}, err
	}
	defer func() { _ = f.Close() }()
	out := &summing{sum: sha256.New()}
	buffered := bufio.NewWriterSize(io.MultiWriter(f, out), 1<<20)
	l := &Layer{tw: tar.NewWriter(buffered)}
	snap, tree, err := fill(l)
	if err != nil {
		return nil, ociv1.Descriptor{}, err
	}
	if err := errors.Join(l.tw.Close(), buffered.Flush(), f.Sync(), f.Close()); err != nil {
		return nil, ociv1.Descriptor{}, fmt.Errorf("write the layer: %w", err)
	}
	snap.Kept, snap.Paths = Kept{Disk: true}, slices.Sorted(slices.Values(paths))
	snap.Count, snap.Tree = tree.Count(), tree.Digest()
	if snap.Paths == nil {
		snap.Paths = []string{}
	}
	d := ociv1.Descriptor{MediaType: ociv1.MediaTypeImageLayer, Digest: digest.NewDigest(digest.SHA256, out.sum), Size: out.size}
	return snap, d, os.Rename(name, filepath.Join(w.dir, blobPath(d.Digest)))
}

// summing is a digest and a size of what passes by.
type summing struct {
	sum  hash.Hash
	size int64
}

func (s *summing) Write(p []byte) (int, error) {
	s.size += int64(len(p))
	return s.sum.Write(p)
}

func (w *writer) blob(mediaType string, v any) (ociv1.Descriptor, error) {
	raw, err := encode(v)
	if err != nil {
		return ociv1.Descriptor{}, err
	}
	sum := sha256.Sum256(raw)
	d := ociv1.Descriptor{MediaType: mediaType, Digest: digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(sum[:])), Size: int64(len(raw))}
	return d, w.file(blobPath(d.Digest), raw)
}

func (w *writer) file(name string, raw []byte) error {
	return os.WriteFile(filepath.Join(w.dir, filepath.FromSlash(name)), raw, 0o600)
}

// pack makes one tar file of the layout, beside it.
func (w *writer) pack(parent string) (name string, err error) {
	f, err := os.CreateTemp(parent, ".snapshot.*")
	if err != nil {
		return "", err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	names := []string{ociv1.ImageLayoutFile, ociv1.ImageIndexFile}
	blobs, err := os.ReadDir(filepath.Join(w.dir, ociv1.ImageBlobsDir, "sha256"))
	if err != nil {
		return "", err
	}
	for _, b := range blobs { // sorted by name
		names = append(names, path.Join(ociv1.ImageBlobsDir, "sha256", b.Name()))
	}
	tw := tar.NewWriter(f)
	for _, name := range names {
		if err := w.packOne(tw, name); err != nil {
			return "", err
		}
	}
	return f.Name(), errors.Join(tw.Close(), f.Sync())
}

func (w *writer) packOne(tw *tar.Writer, name string) error {
	f, err := os.Open(filepath.Join(w.dir, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if err := tw.WriteHeader(h); err != nil {
		return fmt.Errorf("pack %q: %w", name, err)
	}
	_, err = io.Copy(tw, f)
	return err
}

func blobPath(d digest.Digest) string {
	return path.Join(ociv1.ImageBlobsDir, string(d.Algorithm()), d.Encoded())
}

// encode is JSON without what would be escaped for HTML.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode JSON: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

func compact(raw []byte) ([]byte, error) {
	var buf bytes.Buffer
	if err := json.Compact(&buf, raw); err != nil {
		return nil, fmt.Errorf("compact JSON: %w", err)
	}
	return buf.Bytes(), nil
}
