package local

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/local/image"
	"github.com/sandbar-dev/sandbar/plugins/local/record"
	"github.com/sandbar-dev/sandbar/plugins/local/shim"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// imagesDir is the image store's folder in the state folder.
const imagesDir = "images"

// imagesKeptFor is how long an image that nothing uses stays: making the next
// sandbox from it costs no download meanwhile.
const imagesKeptFor = 30 * 24 * time.Hour

// openImages opens the image store and gives back what crashes and expired
// sandboxes left behind in it.
func (d *Driver) openImages(ctx context.Context, stateDir string, store *record.Store) (*image.Store, error) {
	images, err := image.Open(ctx, filepath.Join(stateDir, imagesDir), image.Options{Log: d.log})
	if err != nil {
		return nil, err
	}
	if err := sweepImages(ctx, images, store); err != nil {
		d.log.WarnContext(ctx, "sweep images", "error", err)
	}
	return images, nil
}

// sweepImages ends the leases of objects that are gone, and then removes images
// that were not used for long.
func sweepImages(ctx context.Context, images *image.Store, store *record.Store) error {
	owners, err := images.Owners(ctx)
	if err != nil {
		return err
	}
	for _, id := range owners {
		_, err := store.Sandbox(id)
		if errors.Is(err, fs.ErrNotExist) {
			_, _, err = store.Snapshot(id)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = images.Release(ctx, id)
		}
		if err != nil {
			return err
		}
	}
	_, err = images.GC(ctx, image.GCOptions{KeepFor: imagesKeptFor})
	return err
}

// pin brings the image that a spec names, and has the spec name exactly that one
// from now on, whatever its tag stands for later.
func pin(ctx context.Context, conf config, spec *providerv1.SandboxSpec) error {
	ref := spec.GetImage().GetOci()
	if ref == "" {
		return nil
	}
	img, err := conf.images.Pull(ctx, ref, image.PullOptions{})
	if err != nil {
		return err
	}
	name, _, _ := strings.Cut(ref, "@")
	spec.Image = &providerv1.Image{Source: &providerv1.Image_Oci{Oci: name + "@" + img.Digest}}
	return nil
}

// pinned returns the digest of the image that a pinned spec names, or "".
func pinned(spec *providerv1.SandboxSpec) string {
	_, digest, _ := strings.Cut(spec.GetImage().GetOci(), "@")
	return digest
}

// rootOf describes the root file system that a pinned spec asks for.
func rootOf(ctx context.Context, conf config, spec *providerv1.SandboxSpec) (shim.Root, error) {
	digest := pinned(spec)
	if digest == "" {
		return shim.Root{Host: true}, nil
	}
	img, err := conf.images.Get(ctx, digest)
	if err != nil {
		return shim.Root{}, err
	}
	return shim.Root{Image: img.RootfsPath, Env: img.Env, User: img.User, Workdir: img.Workdir}, nil
}

// lease keeps the image of a pinned spec for the sandbox or snapshot id.
func lease(ctx context.Context, conf config, spec *providerv1.SandboxSpec, id string) error {
	digest := pinned(spec)
	if digest == "" {
		return nil
	}
	return conf.images.Lease(ctx, digest, id)
}

// release ends the lease of a sandbox or snapshot that is gone. Failing costs
// disk space until the next start, and nothing else; so does coming after Close,
// which waits for a release that has begun.
func (d *Driver) release(ctx context.Context, id string) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.conf.images == nil {
		return
	}
	if err := d.conf.images.Release(context.WithoutCancel(ctx), id); err != nil {
		d.log.WarnContext(ctx, "release image", "owner", id, "error", err)
	}
}
