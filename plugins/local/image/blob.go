package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func (s *Store) blobPath(digest v1.Hash) string { return filepath.Join(s.dir, "blobs", digest.Hex) }

// layer returns a compressed layer, open at its start, from the store or else
// from src. The file stays readable even if the store drops it. progress is told
// of bytes as they arrive, and of a cached layer at once.
func (s *Store) layer(ctx context.Context, src source, desc v1.Descriptor, progress func(int64)) (*os.File, error) {
	release, err := s.busy.acquire(ctx, "blob "+desc.Digest.Hex)
	if err != nil {
		return nil, err
	}
	defer release()
	f, err := os.Open(s.blobPath(desc.Digest))
	if err == nil {
		progress(desc.Size)
		return f, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, disk(err)
	}
	free, err := slot(ctx, s.downloads)
	if err != nil {
		return nil, err
	}
	defer free()
	return s.fetch(ctx, src, desc, progress)
}

// fetch brings a layer into the store. A connection that breaks is taken up
// again where it broke.
func (s *Store) fetch(ctx context.Context, src source, desc v1.Descriptor, progress func(int64)) (_ *os.File, err error) {
	f, err := os.CreateTemp(s.work.path, "blob-")
	if err != nil {
		return nil, disk(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), ignoreMissing(os.Remove(f.Name())))
		}
	}()
	part := &partial{file: f, sum: sha256.New(), want: desc, progress: progress}
	if err := s.retry(ctx, func() error { return part.more(ctx, src) }); err != nil {
		return nil, err
	}
	if have := hex.EncodeToString(part.sum.Sum(nil)); have != desc.Digest.Hex || desc.Digest.Algorithm != "sha256" {
		return nil, &corrupt{want: desc.Digest, have: "sha256:" + have}
	}
	if err := f.Sync(); err != nil {
		return nil, disk(err)
	}
	if err := moveInto(f.Name(), s.blobPath(desc.Digest)); err != nil {
		return nil, disk(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, disk(err)
	}
	return f, nil
}

// partial is a blob of which the first have bytes are on disk.
type partial struct {
	file     *os.File
	sum      hash.Hash
	want     v1.Descriptor
	have     int64
	progress func(int64)
}

// more fetches what is missing.
func (p *partial) more(ctx context.Context, src source) error {
	if p.have == p.want.Size {
		return nil
	}
	r, err := src.blob(ctx, p.want, p.have)
	if err != nil {
		return err
	}
	defer r.Close()
	// One byte more than is due tells a blob that is too long.
	_, err = io.Copy(writerFunc(p.write), io.LimitReader(r, p.want.Size-p.have+1))
	switch {
	case err != nil:
		return err
	case p.have > p.want.Size:
		return &corrupt{want: p.want.Digest, have: "longer than the " + formatInt(p.want.Size) + " bytes it should have"}
	case p.have < p.want.Size:
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (p *partial) write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	p.sum.Write(b[:n])
	p.have += int64(n)
	p.progress(int64(n))
	return n, disk(err)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
