package image

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/sandbar-dev/sandbar/plugins/local/erofs"
	"github.com/sandbar-dev/sandbar/plugins/local/image/union"
)

// build makes the image of t in the work folder and returns its folder, which
// holds everything that belongs in images.
func (s *Store) build(ctx context.Context, src source, t *target, report *reporter) (_ string, err error) {
	free, err := slot(ctx, s.builds)
	if err != nil {
		return "", err
	}
	defer free()
	dir, err := os.MkdirTemp(s.work.path, "image-")
	if err != nil {
		return "", disk(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	path := filepath.Join(dir, rootfsName)
	tree, err := s.writeRootfs(ctx, src, t, path, erofs.BlockSize, report)
	var crowded *erofs.Crowded
	if errors.As(err, &crowded) {
		// Rare: the layers are in the store now, so only the flattening is repeated.
		tree, err = s.writeRootfs(ctx, src, t, path, erofs.LargeBlockSize, &reporter{})
	}
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", disk(err)
	}
	size := info.Size()
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		size = stat.Blocks * 512 // what it takes, holes left out
	}
	record, err := json.Marshal(t.record(size, tree.DroppedXattrs()))
	if err != nil {
		return "", err
	}
	if err := s.writeFile(filepath.Join(dir, recordName), record); err != nil {
		return "", err
	}
	return dir, disk(os.Chmod(path, 0o444))
}

// writeRootfs flattens the layers into a new file. Layers are fetched side by
// side and applied in order, each as soon as it is there.
func (s *Store) writeRootfs(ctx context.Context, src source, t *target, path string, blockSize int, report *reporter) (_ *union.Tree, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, disk(err)
	}
	defer func() { err = errors.Join(err, disk(f.Close())) }()
	layers, stop := s.fetchAll(ctx, src, t.manifest.Layers, report)
	defer stop()

	w := erofs.NewWriter(f, blockSize)
	tree := union.New(sink{w}, s.opts.Limits)
	for n := range t.manifest.Layers {
		var layer *os.File
		select {
		case got := <-layers[n]:
			if layer = got.file; got.err != nil {
				return nil, got.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		err := s.applyLayer(ctx, tree, layer, t.manifest.Layers[n].Digest, t.config.RootFS.DiffIDs[n])
		if err := errors.Join(err, layer.Close()); err != nil {
			return nil, err
		}
		report.layerDone()
	}
	_, err = w.Finish(tree.Root())
	var crowded *erofs.Crowded
	switch {
	case errors.As(err, &crowded):
		return nil, &union.Invalid{Problem: crowded.Error(), Err: err}
	case err != nil:
		return nil, disk(err)
	}
	return tree, disk(f.Sync())
}

// fetched is a layer on disk, or why it is not.
type fetched struct {
	file *os.File
	err  error
}

// fetchAll starts fetching all layers. Each arrives on its channel; stop ends
// the downloads, waits for them and closes the files nobody took.
func (s *Store) fetchAll(ctx context.Context, src source, descs []v1.Descriptor, report *reporter) ([]chan fetched, func()) {
	ctx, cancel := context.WithCancel(ctx)
	var group errgroup.Group
	layers := make([]chan fetched, len(descs))
	for n, desc := range descs {
		layers[n] = make(chan fetched, 1)
		group.Go(func() error {
			f, err := s.layer(ctx, src, desc, report.bytes)
			layers[n] <- fetched{f, err}
			return nil
		})
	}
	return layers, func() {
		cancel()
		_ = group.Wait() // its functions return nil: errors travel on the channels
		for _, layer := range layers {
			select {
			case got := <-layer:
				if got.file != nil {
					_ = got.file.Close() // it was only read
				}
			default:
			}
		}
	}
}

// applyLayer puts one compressed layer on the tree and checks that it is the
// layer that the image's config names. A cached layer that is not, because the
// disk damaged it, is forgotten, so that the next pull brings it again.
func (s *Store) applyLayer(ctx context.Context, tree *union.Tree, layer *os.File, digest, diffID v1.Hash) error {
	sum := sha256.New()
	plain, err := decompress(readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := layer.Read(p)
		if err != nil && !errors.Is(err, io.EOF) {
			err = disk(err)
		}
		return n, err
	}))
	if err == nil {
		defer plain.Close()
		content := io.TeeReader(plain, sum)
		if err = tree.Apply(ctx, content); err == nil {
			// The archive may end before the stream that the digest covers.
			_, err = io.Copy(io.Discard, content)
		}
	}
	if err == nil && hex.EncodeToString(sum.Sum(nil)) != diffID.Hex {
		err = &corrupt{want: diffID, have: "sha256:" + hex.EncodeToString(sum.Sum(nil))}
	}
	var wrong *corrupt
	var invalid *union.Invalid
	if errors.As(err, &wrong) || errors.As(err, &invalid) {
		err = errors.Join(err, disk(ignoreMissing(os.Remove(s.blobPath(digest)))))
	}
	return err
}

// maxWindow bounds the memory of a zstd stream; it is the largest window that
// `zstd --ultra` makes without --long.
const maxWindow = 128 << 20

// decompress reads gzip, zstd or plain tar, told apart by their first bytes:
// media types in the wild are not to be relied on.
func decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 256<<10)
	magic, err := buffered.Peek(4)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, &union.Invalid{Problem: "layer is not a gzip stream: " + err.Error(), Err: err}
		}
		return damaged{z, z.Close}, nil
	case string(magic) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, &union.Invalid{Problem: "layer is not a zstd stream: " + err.Error(), Err: err}
		}
		return damaged{z, func() error { z.Close(); return nil }}, nil
	}
	return io.NopCloser(buffered), nil
}

// damaged says of a decompressor's errors that the layer is at fault.
type damaged struct {
	r     io.Reader
	close func() error
}

func (d damaged) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	var local *diskError
	switch {
	case err == nil, err == io.EOF, errors.As(err, &local),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return n, err
	}
	return n, &union.Invalid{Problem: "layer is damaged: " + err.Error(), Err: err}
}

func (d damaged) Close() error { return d.close() }

// sink marks the writer's errors as the disk's, except those that the layer's
// end caused.
type sink struct{ w *erofs.Writer }

func (s sink) WriteFile(r io.Reader, size int64) (erofs.Extent, error) {
	var reading error
	extent, err := s.w.WriteFile(readerFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		if err != nil && err != io.EOF {
			reading = err
		}
		return n, err
	}), size)
	if err == nil || reading != nil || errors.Is(err, io.ErrUnexpectedEOF) {
		return extent, err
	}
	return extent, disk(err)
}

func (s sink) Discard(e erofs.Extent) error { return disk(s.w.Discard(e)) }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
