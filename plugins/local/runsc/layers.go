package runsc

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc/internal/wire"
)

// A layered root is that of a guest with an image and copy-on-write mounts. gVisor puts its copy-on-write layer over one tree, and there is
// nothing below an image to bind to; over mounts it puts a layer over all of them or none, each with a size of its own. So the agent lays
// two layers of one memory file system, whose size bounds both, over the image and over the copies, and moves to the result.

func (c *Config) layered() bool { return c.Image != "" && len(c.Copies.Targets) > 0 }

// stage are the mounts that the agent makes a layered root of.
func (c *Config) stage() []specs.Mount {
	disk := specs.Mount{Destination: wire.DiskDir, Type: "tmpfs", Source: "tmpfs", Options: c.diskOptions()}
	if c.Disk != "" {
		disk.Type, disk.Source, disk.Options = "bind", c.Disk, []string{"rw"} // and stageAnnotations says more
	}
	return []specs.Mount{
		{Destination: wire.ImageDir, Type: "erofs", Source: imagePath, Options: []string{"ro"}},
		{Destination: wire.SourceDir, Type: "bind", Source: c.Copies.Dir, Options: []string{"ro", "rbind"}},
		disk,
	}
}

// stageAnnotations have gVisor mount a memory file system that is kept in a file of the directory Disk instead of the directory.
func (c *Config) stageAnnotations() map[string]string {
	if c.Disk == "" {
		return nil
	}
	const prefix = "dev.gvisor.spec.mount.disk."
	annotations := map[string]string{prefix + "source": c.Disk, prefix + "type": "tmpfs", prefix + "share": "container"}
	if options := c.diskOptions(); options != nil {
		annotations[prefix+"options"] = strings.Join(options, ",")
	}
	return annotations
}

func (c *Config) diskOptions() []string {
	if c.Limits.DiskBytes == 0 {
		return nil
	}
	return []string{"size=" + strconv.FormatInt(c.Limits.DiskBytes, 10)}
}

// layers tells the agent what to make of the stage; it is nil for another root.
func (c *Config) layers() *wire.Layers {
	if !c.layered() {
		return nil
	}
	var mounts []wire.Show
	for _, m := range c.Mounts {
		mounts = append(mounts, wire.Show{From: m.Target, To: m.Target})
	}
	for i, target := range c.Copies.Targets {
		mounts = append(mounts, wire.Show{From: wire.CopyDir + "/" + strconv.Itoa(i), To: target})
	}
	// One inside of another comes after it.
	slices.SortStableFunc(mounts, func(a, b wire.Show) int { return len(path.Clean(a.To)) - len(path.Clean(b.To)) })
	var show []wire.Show
	for _, dir := range []string{"/proc", "/sys", "/dev", wire.IODir, wire.AgentPath} {
		show = append(show, wire.Show{From: dir, To: dir})
	}
	return &wire.Layers{Copies: true, Show: append(show, mounts...)}
}

// layeredUpper is upper for a layered root.
func (s *Sandbox) layeredUpper(ctx context.Context) ([]*tar.Header, error) {
	r, err := s.download(ctx, &wire.Request{Op: wire.OpUpper})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var headers []*tar.Header
	for dec := json.NewDecoder(r); ; {
		var f wire.UpperFile
		switch err := dec.Decode(&f); {
		case errors.Is(err, io.EOF):
			return headers, nil
		case err != nil:
			return nil, fmt.Errorf("decode layer: %w", err)
		}
		if name, ok := s.cfg.Copies.place(string(f.Name)); ok {
			headers = append(headers, upperHeader(name, &f))
		}
	}
}

// place returns where in the guest a file of the layers is, if it is seen there.
func (c *Copies) place(name string) (string, bool) {
	if below, ok := strings.CutPrefix(name, "root/"); ok {
		name = path.Clean("/" + below)
		hidden := slices.ContainsFunc(c.Targets, func(target string) bool { return within(name, path.Clean(target)) })
		return name, !hidden
	}
	below, ok := strings.CutPrefix(name, "copy/")
	number, below, _ := strings.Cut(below, "/")
	i, err := strconv.Atoi(number)
	if !ok || err != nil || i < 0 || i >= len(c.Targets) {
		return "", false
	}
	name = path.Join(path.Clean(c.Targets[i]), below)
	hidden := slices.ContainsFunc(c.Targets, func(target string) bool {
		target = path.Clean(target)
		return len(target) > len(path.Clean(c.Targets[i])) && within(name, target)
	})
	return name, !hidden
}

// upperHeader describes a file of the layers as gVisor does those of its own.
func upperHeader(name string, f *wire.UpperFile) *tar.Header {
	h := &tar.Header{
		Name: name, Linkname: string(f.Target), Mode: int64(f.Mode & 0o7777), Uid: int(f.UID), Gid: int(f.GID), ModTime: time.Unix(0, f.ModTime),
	}
	switch f.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, f.Size
	case syscall.S_IFDIR:
		h.Typeflag = tar.TypeDir
	case syscall.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
	case syscall.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case syscall.S_IFBLK:
		h.Typeflag, h.Devmajor = tar.TypeBlock, 1
	default: // devices, and sockets, which an archive has no word for
		h.Typeflag, h.Devmajor = tar.TypeChar, 1
	}
	if f.Gone {
		h.Devmajor = 0
	}
	return h
}
