package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"

	"github.com/sandbar-dev/sandbar/proto/fault"
)

// Lease keeps an image from being removed until Release(owner). Leases are on
// disk: they outlive the Store and the machine's restart, as a paused sandbox
// does. The same owner may hold several images; taking a lease twice is the same
// as once. It is IMAGE_NOT_FOUND if the store does not have the image.
func (s *Store) Lease(_ context.Context, digest, owner string) error {
	if owner == "" {
		return fault.Field("owner", owner, "the id of what needs the image, such as a sandbox id")
	}
	err := s.locked(func() error {
		img, err := s.load(digest)
		if err != nil {
			return err
		}
		dir := s.leaseDir(img.Digest)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return disk(err)
		}
		s.touch(img.Digest)
		return s.writeFile(filepath.Join(dir, hashName(owner)), []byte(owner))
	})
	return s.faultOf(err, reference{text: digest})
}

// Release ends all leases of an owner. It is no error if there are none.
func (s *Store) Release(_ context.Context, owner string) error {
	err := s.locked(func() error {
		images, err := os.ReadDir(filepath.Join(s.dir, "leases"))
		if err != nil {
			return disk(err)
		}
		for _, image := range images {
			dir := filepath.Join(s.dir, "leases", image.Name())
			if err := ignoreMissing(os.Remove(filepath.Join(dir, hashName(owner)))); err != nil {
				return disk(err)
			}
			_ = os.Remove(dir) // only works, and only matters, if that was the last lease
		}
		return nil
	})
	return s.faultOf(err, reference{})
}

// Owners returns who holds leases, sorted. A provider compares it with the
// sandboxes it has when it starts, and releases the others.
func (s *Store) Owners(_ context.Context) ([]string, error) {
	var owners []string
	err := s.locked(func() error {
		images, err := os.ReadDir(filepath.Join(s.dir, "leases"))
		if err != nil {
			return disk(err)
		}
		for _, image := range images {
			of, err := s.ownersOf("sha256:" + image.Name())
			if err != nil {
				return err
			}
			owners = append(owners, of...)
		}
		slices.Sort(owners)
		owners = slices.Compact(owners)
		return nil
	})
	return owners, s.faultOf(err, reference{})
}

// ownersOf reads the leases on one image; s.mu must be held.
func (s *Store) ownersOf(digest string) ([]string, error) {
	dir := s.leaseDir(digest)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, disk(ignoreMissing(err))
	}
	var owners []string
	for _, e := range entries {
		owner, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, disk(err)
		}
		owners = append(owners, string(owner))
	}
	return owners, nil
}

// Remove removes an image with all its references. It is OBJECT_IN_USE while
// somebody has a lease on it, IMAGE_NOT_FOUND if the store does not have it.
func (s *Store) Remove(_ context.Context, digest string) error {
	var trash string
	err := s.locked(func() (err error) {
		img, err := s.load(digest)
		if err != nil {
			return err
		}
		owners, err := s.ownersOf(img.Digest)
		if err != nil {
			return err
		}
		if s.pins[img.Digest] > 0 {
			owners = append(owners, "a pull in progress")
		}
		if len(owners) > 0 {
			list := strings.Join(owners, ", ")
			return fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_IN_USE,
				"image %s is in use by %s", img.Digest, list).With("used_by", list).With("image", img.Digest)
		}
		trash, err = s.unlink(img.Digest)
		return err
	})
	if err == nil {
		err = disk(os.RemoveAll(trash))
	}
	return s.faultOf(err, reference{text: digest})
}

// unlink moves an image out of sight, together with its references, and returns
// where it is to be deleted from; s.mu must be held.
func (s *Store) unlink(digest string) (string, error) {
	tags, err := s.tags()
	if err != nil {
		return "", err
	}
	for _, t := range tags {
		if t.Digest != digest {
			continue
		}
		if err := ignoreMissing(os.Remove(s.tagPath(flightKey{ref: t.Ref, platform: t.Platform}))); err != nil {
			return "", disk(err)
		}
	}
	trash, err := os.MkdirTemp(s.work.path, "trash-")
	if err != nil {
		return "", disk(err)
	}
	return trash, disk(moveInto(s.imageDir(hexOf(digest)), filepath.Join(trash, "image")))
}

// GCOptions say what GC may remove; the zero value is everything not in use.
type GCOptions struct {
	// KeepFor spares what was used less than this long ago.
	KeepFor time.Duration
	// MaxBytes, unless 0, stops once images and layers together take no more,
	// beginning with those not used for longest.
	MaxBytes int64
}

// GCResult is what GC removed.
type GCResult struct {
	// Images are digests.
	Images []string
	// Bytes is the disk space given back, layers included.
	Bytes int64
}

// GC removes images that nobody has a lease on, and layers that no image left in
// the store has. Removed layers that an image in the making has open stay
// readable for it.
func (s *Store) GC(_ context.Context, opts GCOptions) (GCResult, error) {
	var result GCResult
	var trash []string
	err := s.locked(func() (err error) {
		trash, err = s.collect(opts, &result)
		return err
	})
	for _, path := range trash {
		err = errors.Join(err, disk(os.RemoveAll(path)))
	}
	return result, s.faultOf(err, reference{})
}

func (s *Store) collect(opts GCOptions, result *GCResult) (trash []string, err error) {
	images, err := s.all()
	if err != nil {
		return nil, err
	}
	blobs, err := s.blobs()
	if err != nil {
		return nil, err
	}
	total := int64(0)
	for _, b := range blobs {
		total += b.size
	}
	lastUse := map[string]time.Time{}
	for _, img := range images {
		total += img.Size
		lastUse[img.Digest] = s.lastUse(img.Digest)
	}
	slices.SortFunc(images, func(a, b *Image) int { return lastUse[a.Digest].Compare(lastUse[b.Digest]) })
	kept := map[string]bool{}
	for _, img := range images {
		owners, err := s.ownersOf(img.Digest)
		if err != nil {
			return trash, err
		}
		if len(owners) > 0 || s.pins[img.Digest] > 0 || s.recent(lastUse[img.Digest], opts) || opts.enough(total) {
			for _, layer := range img.Layers {
				kept[hexOf(layer)] = true
			}
			continue
		}
		path, err := s.unlink(img.Digest)
		if err != nil {
			return trash, err
		}
		trash = append(trash, path)
		result.Images = append(result.Images, img.Digest)
		result.Bytes += img.Size
		total -= img.Size
	}
	for _, b := range blobs {
		if kept[b.hex] || s.recent(b.used, opts) {
			continue
		}
		if err := ignoreMissing(os.Remove(filepath.Join(s.dir, "blobs", b.hex))); err != nil {
			return trash, disk(err)
		}
		result.Bytes += b.size
	}
	return trash, nil
}

func (s *Store) recent(used time.Time, opts GCOptions) bool {
	return opts.KeepFor > 0 && s.opts.Now().Sub(used) < opts.KeepFor
}

func (o GCOptions) enough(total int64) bool { return o.MaxBytes > 0 && total <= o.MaxBytes }

type blobInfo struct {
	hex  string
	size int64
	used time.Time
}

func (s *Store) blobs() ([]blobInfo, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "blobs"))
	if err != nil {
		return nil, disk(err)
	}
	var blobs []blobInfo
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, disk(err)
		}
		blobs = append(blobs, blobInfo{hex: e.Name(), size: info.Size(), used: info.ModTime()})
	}
	return blobs, nil
}

// touch notes a use. It is only a hint for GC, so failing does no harm.
func (s *Store) touch(digest string) {
	now := s.opts.Now()
	if err := os.Chtimes(filepath.Join(s.imageDir(hexOf(digest)), recordName), now, now); err != nil {
		s.opts.Log.Warn("use of an image could not be noted", "image", digest, "error", err)
	}
}

func (s *Store) lastUse(digest string) time.Time {
	info, err := os.Stat(filepath.Join(s.imageDir(hexOf(digest)), recordName))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

func (s *Store) leaseDir(digest string) string { return filepath.Join(s.dir, "leases", hexOf(digest)) }

// hexOf returns the hex part of a digest that is known to be well formed.
func hexOf(digest string) string {
	h, err := v1.NewHash(digest)
	if err != nil {
		return "invalid"
	}
	return h.Hex
}

// hashName makes a file name of any text.
func hashName(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
