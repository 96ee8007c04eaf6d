package image

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Image is an image that is in the store, whole. It is a value: it does not
// change when the store does.
type Image struct {
	// Ref is the reference it was asked for by; empty from Get and List.
	Ref string `json:"-"`
	// Refs are all references that stand for it, sorted.
	Refs []string `json:"-"`
	// Digest is the digest of the image's manifest for its platform, and its
	// name in the store.
	Digest string `json:"digest"`
	// ConfigDigest is what Docker calls the image id.
	ConfigDigest string `json:"config_digest"`
	// Platform is os/architecture, with /variant where there is one.
	Platform string `json:"platform"`
	// Size is how many bytes of disk the root file system takes.
	Size int64 `json:"size"`
	// Env is a list of NAME=value.
	Env []string `json:"env,omitempty"`
	// Entrypoint and Cmd are the image's default command.
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	// Workdir is the default directory, or empty.
	Workdir string `json:"workdir,omitempty"`
	// User is user[:group], by name or number, or empty.
	User       string            `json:"user,omitempty"`
	StopSignal string            `json:"stop_signal,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Created    time.Time         `json:"created"`
	// DroppedXattrs counts the extended attributes the image lost.
	DroppedXattrs int `json:"dropped_xattrs,omitempty"`
	// Layers are the digests of the compressed layers, lowest first.
	Layers []string `json:"layers"`
	// RootfsPath is the EROFS file. It stays while somebody has a lease on the
	// image; a process that has it open may read it for ever.
	RootfsPath string `json:"-"`
}

const (
	rootfsName = "rootfs.erofs"
	recordName = "image.json"
)

// Annotations returns the annotations that make runsc use the image as a
// container's root file system. Changes go to an overlay; medium says where it
// is kept, in the words of runsc's overlay2 flag ("memory", "dir=/path"), and
// size bounds it in bytes unless it is 0.
func (i *Image) Annotations(medium string, size int64) map[string]string {
	const prefix = "dev.gvisor.spec.rootfs."
	annotations := map[string]string{
		prefix + "source":  i.RootfsPath,
		prefix + "type":    "erofs",
		prefix + "overlay": medium,
	}
	if size > 0 {
		annotations[prefix+"options"] = "size=" + formatInt(size)
	}
	return annotations
}

// record describes a freshly built image.
func (t *target) record(size int64, droppedXattrs int) *Image {
	c := t.config
	img := &Image{
		Digest: t.digest.String(), ConfigDigest: t.manifest.Config.Digest.String(), Size: size,
		Platform: platformName(configPlatform(c)),
		Env:      c.Config.Env, Entrypoint: c.Config.Entrypoint, Cmd: c.Config.Cmd,
		Workdir: c.Config.WorkingDir, User: c.Config.User, StopSignal: c.Config.StopSignal,
		Labels: c.Config.Labels, Created: c.Created.Time, DroppedXattrs: droppedXattrs,
	}
	for _, layer := range t.manifest.Layers {
		img.Layers = append(img.Layers, layer.Digest.String())
	}
	return img
}

func configPlatform(c *v1.ConfigFile) v1.Platform {
	return v1.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}
}

// loadImage reads the record of an image in the folder dir.
func loadImage(dir string) (*Image, error) {
	b, err := os.ReadFile(filepath.Join(dir, recordName))
	if err != nil {
		return nil, err
	}
	img := &Image{RootfsPath: filepath.Join(dir, rootfsName)}
	return img, json.Unmarshal(b, img)
}

// tag is the content of a file in refs.
type tag struct {
	Ref      string `json:"ref"`
	Platform string `json:"platform"`
	Digest   string `json:"digest"`
}

// withRefs fills in the references of img.
func (i *Image) withRefs(tags []tag) *Image {
	for _, t := range tags {
		if t.Digest == i.Digest && !slices.Contains(i.Refs, t.Ref) {
			i.Refs = append(i.Refs, t.Ref)
		}
	}
	slices.Sort(i.Refs)
	return i
}
