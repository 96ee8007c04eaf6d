package fake

import (
	"bytes"
	"context"
	"io"
	"math"
	"path"
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// ReadFile implements sdk.FileReader.
func (d *Driver) ReadFile(ctx context.Context, req *providerv1.ReadFileRequest, send func(*providerv1.ReadFileResponse) error) error {
	_, err := during(ctx, d, "ReadFile", func(c *cloud) (*struct{}, error) {
		info, data, err := c.read(req)
		if err != nil {
			return nil, err
		}
		if err := send(&providerv1.ReadFileResponse{Info: info}); err != nil || len(data) == 0 {
			return &struct{}{}, err
		}
		return &struct{}{}, send(&providerv1.ReadFileResponse{Data: data})
	})
	return err
}

// read returns a file's content, which is never changed after.
func (c *cloud) read(req *providerv1.ReadFileRequest) (*providerv1.FileInfo, []byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := c.findRunning(req.GetSandbox().GetSandboxId())
	if err != nil {
		return nil, nil, err
	}
	at, err := c.view(b).existing(req.GetPath(), true)
	if err != nil {
		return nil, nil, err
	}
	if at.node.Kind != regular {
		return nil, nil, notRegular(req.GetPath(), at.node)
	}
	data := at.node.Data[min(req.GetOffset(), int64(len(at.node.Data))):]
	if n := req.GetLength(); n > 0 {
		data = data[:min(n, int64(len(data)))]
	}
	return at.node.info(at.path), data, nil
}

func notRegular(p string, n *node) error {
	if n.Kind == folder {
		return refused(p, "EISDIR", "it is a folder")
	}
	return refused(p, "EINVAL", "it is not a regular file")
}

// StatFile implements sdk.FileReader.
func (d *Driver) StatFile(ctx context.Context, req *providerv1.StatFileRequest) (*providerv1.FileInfo, error) {
	return during(ctx, d, "StatFile", func(c *cloud) (*providerv1.FileInfo, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		b, err := c.findRunning(req.GetSandbox().GetSandboxId())
		if err != nil {
			return nil, err
		}
		at, err := c.view(b).existing(req.GetPath(), req.GetFollow())
		if err != nil {
			return nil, err
		}
		return at.node.info(at.path), nil
	})
}

// ListFiles implements sdk.FileReader. A page token is the path of the last file
// seen.
func (d *Driver) ListFiles(ctx context.Context, req *providerv1.ListFilesRequest) (*providerv1.ListFilesResponse, error) {
	return during(ctx, d, "ListFiles", func(c *cloud) (*providerv1.ListFilesResponse, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		b, err := c.findRunning(req.GetSandbox().GetSandboxId())
		if err != nil {
			return nil, err
		}
		v := c.view(b)
		at, err := v.existing(req.GetPath(), true)
		if err != nil {
			return nil, err
		}
		if at.node.Kind != folder {
			return nil, refused(req.GetPath(), "ENOTDIR", "it is not a folder")
		}
		var all []*providerv1.FileInfo
		for _, p := range v.sorted(at, req.GetRecursive()) {
			if p.path > req.GetPageToken() {
				all = append(all, p.node.info(p.path))
			}
		}
		out := &providerv1.ListFilesResponse{Files: all[:min(len(all), int(req.GetPageSize()))]}
		if n := len(out.GetFiles()); n < len(all) {
			out.NextPageToken = all[n-1].GetPath()
		}
		return out, nil
	})
}

// WriteFile implements sdk.FileWriter. Content is read before the lock is taken,
// so that a slow client stops nobody, and appears at once.
func (d *Driver) WriteFile(ctx context.Context, open *providerv1.WriteFileOpen, content io.Reader) (*providerv1.FileInfo, error) {
	return during(ctx, d, "WriteFile", func(c *cloud) (*providerv1.FileInfo, error) {
		data, err := io.ReadAll(content)
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		b, err := c.findRunning(open.GetSandbox().GetSandboxId())
		if err != nil {
			return nil, err
		}
		info, err := c.writeFile(b, open, data)
		if err != nil {
			return nil, err
		}
		return info, c.saveFiles(b)
	})
}

func (c *cloud) writeFile(b *box, open *providerv1.WriteFileOpen, data []byte) (*providerv1.FileInfo, error) {
	p, v := open.GetPath(), c.edit(b)
	uid, gid, err := userOf(b, open.GetUser(), "open.user")
	if err != nil {
		return nil, err
	}
	if open.GetMakeParents() {
		if err := v.makeFolders(path.Dir(cleanPath(p)), c.now()); err != nil {
			return nil, err
		}
	}
	at, err := v.walk(p, true)
	switch {
	case err != nil:
		return nil, err
	case at.node != nil && at.node.Kind != regular:
		return nil, notRegular(p, at.node)
	case at.node != nil && open.GetMode() == providerv1.WriteMode_WRITE_MODE_CREATE_NEW:
		return nil, refused(p, "EEXIST", "it exists")
	}
	n := &node{Kind: regular, Mode: open.GetPermissions(), UID: uid, GID: gid}
	if at.node != nil {
		n.Mode, n.UID, n.GID = at.node.Mode, at.node.UID, at.node.GID
		data = merged(at.node.Data, open, data)
	} else {
		data = merged(nil, open, data)
	}
	n.Data, n.MTime = data, c.now()
	grown := int64(len(data))
	if at.node != nil {
		grown -= int64(len(at.node.Data))
	}
	if err := c.fits(b, p, grown); err != nil {
		return nil, err
	}
	if err := v.put(p, at, n); err != nil {
		return nil, err
	}
	return n.info(at.path), nil
}

// merged returns a file's new content; old is never changed in place.
func merged(old []byte, open *providerv1.WriteFileOpen, data []byte) []byte {
	offset := open.GetOffset()
	switch open.GetMode() {
	case providerv1.WriteMode_WRITE_MODE_APPEND:
		offset = int64(len(old))
	case providerv1.WriteMode_WRITE_MODE_AT_OFFSET:
	default:
		return data
	}
	out := make([]byte, max(int64(len(old)), offset+int64(len(data))))
	copy(out, old)
	copy(out[offset:], data)
	return out
}

// fits refuses growth above disk_bytes. The caller holds mu.
func (c *cloud) fits(b *box, p string, grown int64) error {
	if grown <= 0 || grown <= c.free(b) {
		return nil
	}
	return refused(p, "ENOSPC", "the disk is full at "+strconv.FormatInt(b.Spec.M.GetResources().GetDiskBytes(), 10)+" bytes")
}

// free is how many bytes the sandbox may still write. The caller holds mu.
func (c *cloud) free(b *box) int64 {
	limit := b.Spec.M.GetResources().GetDiskBytes()
	if limit == 0 {
		return math.MaxInt64
	}
	used := int64(0)
	if b.Root != nil {
		used = b.Root.size() - b.Base.size()
	}
	return max(0, limit-used)
}

// users are the names that every fake sandbox knows.
var users = map[string]uint32{"root": 0, "user": 1000, "nobody": 65534}

// userOf returns the ids of a user, the sandbox's default for "".
func userOf(b *box, user, field string) (uid, gid uint32, err error) {
	if user == "" {
		if user = b.Spec.M.GetUser(); user == "" {
			return 0, 0, nil
		}
		field = "spec.user"
	}
	if id, ok := users[user]; ok {
		return id, id, nil
	}
	name, group, both := strings.Cut(user, ":")
	u, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return 0, 0, fault.Field(field, user, "no such user; want root, user, nobody, a uid, or uid:gid")
	}
	g := u
	if both {
		if g, err = strconv.ParseUint(group, 10, 32); err != nil {
			return 0, 0, fault.Field(field, user, "want a number for the group")
		}
	}
	return uint32(u), uint32(g), nil
}

// changing runs f on the files of a running sandbox and stores the outcome.
func changing[T any](ctx context.Context, d *Driver, method string, ref *providerv1.SandboxRef, f func(*cloud, *view) (*T, error)) (*T, error) {
	return during(ctx, d, method, func(c *cloud) (*T, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		b, err := c.findRunning(ref.GetSandboxId())
		if err != nil {
			return nil, err
		}
		out, err := f(c, c.edit(b))
		if err != nil {
			return nil, err
		}
		return out, c.saveFiles(b)
	})
}

// MakeDirectory implements sdk.FileWriter.
func (d *Driver) MakeDirectory(ctx context.Context, req *providerv1.MakeDirectoryRequest) error {
	_, err := changing(ctx, d, "MakeDirectory", req.GetSandbox(), func(c *cloud, v *view) (*struct{}, error) {
		p := req.GetPath()
		if req.GetParents() {
			if err := v.makeFolders(path.Dir(cleanPath(p)), c.now()); err != nil {
				return nil, err
			}
		}
		at, err := v.walk(p, true)
		switch {
		case err != nil:
			return nil, err
		case at.node != nil && at.node.Kind == folder && req.GetParents():
			return &struct{}{}, nil
		case at.node != nil:
			return nil, refused(p, "EEXIST", "it exists")
		}
		n := newFolder(c.now())
		n.Mode = req.GetPermissions()
		return &struct{}{}, v.put(p, at, n)
	})
	return err
}

// RemoveFile implements sdk.FileWriter.
func (d *Driver) RemoveFile(ctx context.Context, req *providerv1.RemoveFileRequest) (*providerv1.RemoveFileResponse, error) {
	return changing(ctx, d, "RemoveFile", req.GetSandbox(), func(_ *cloud, v *view) (*providerv1.RemoveFileResponse, error) {
		at, err := v.walk(req.GetPath(), false)
		switch {
		case fault.Has(err, providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND):
			return &providerv1.RemoveFileResponse{AlreadyAbsent: true}, nil
		case err != nil:
			return nil, err
		case at.node == nil:
			return &providerv1.RemoveFileResponse{AlreadyAbsent: true}, nil
		case at.mount || at.parent == nil:
			return nil, refused(req.GetPath(), "EBUSY", "it is a mount or the root")
		case at.readOnly:
			return nil, refused(req.GetPath(), "EROFS", "it is on a read-only mount")
		case at.node.Kind == folder && len(v.names(at)) > 0 && !req.GetRecursive():
			return nil, refused(req.GetPath(), "ENOTEMPTY", "it is not empty")
		}
		delete(at.parent.Kids, at.name)
		return &providerv1.RemoveFileResponse{}, nil
	})
}

// MoveFile implements sdk.FileWriter.
func (d *Driver) MoveFile(ctx context.Context, req *providerv1.MoveFileRequest) error {
	_, err := changing(ctx, d, "MoveFile", req.GetSandbox(), func(_ *cloud, v *view) (*struct{}, error) {
		from, err := v.existing(req.GetFrom(), false)
		if err != nil {
			return nil, err
		}
		to, err := v.walk(req.GetTo(), false)
		switch {
		case err != nil:
			return nil, err
		case from.mount || from.parent == nil:
			return nil, refused(req.GetFrom(), "EBUSY", "it is a mount or the root")
		case from.readOnly:
			return nil, refused(req.GetFrom(), "EROFS", "it is on a read-only mount")
		case to.path == from.path:
			return &struct{}{}, nil
		case strings.HasPrefix(to.path+"/", from.path+"/"):
			return nil, refused(req.GetTo(), "EINVAL", "it is inside what is moved")
		case to.node != nil && !req.GetOverwrite():
			return nil, refused(req.GetTo(), "EEXIST", "it exists")
		case to.node != nil && to.node.Kind == folder && len(v.names(to)) > 0:
			return nil, refused(req.GetTo(), "ENOTEMPTY", "it is a folder that is not empty")
		}
		if err := v.put(req.GetTo(), to, from.node); err != nil {
			return nil, err
		}
		delete(from.parent.Kids, from.name)
		return &struct{}{}, nil
	})
	return err
}

// diffBatch is how many changes travel in one frame.
const diffBatch = 256

// DiffFiles implements sdk.Differ.
func (d *Driver) DiffFiles(ctx context.Context, req *providerv1.DiffFilesRequest, send func([]*providerv1.FileChange) error) error {
	_, err := during(ctx, d, "DiffFiles", func(c *cloud) (*struct{}, error) {
		changes, err := c.diff(req)
		if err != nil {
			return nil, err
		}
		for len(changes) > 0 {
			n := min(len(changes), diffBatch)
			if err := send(changes[:n]); err != nil {
				return nil, err
			}
			changes = changes[n:]
		}
		return &struct{}{}, nil
	})
	return err
}

func (c *cloud) diff(req *providerv1.DiffFilesRequest) ([]*providerv1.FileChange, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := c.find(req.GetSandbox().GetSandboxId())
	if err != nil {
		return nil, err
	}
	if target := req.GetMountTarget(); target != "" {
		for _, m := range b.Spec.M.GetMounts() {
			if cleanPath(m.GetTarget()) == cleanPath(target) && m.GetMode() == providerv1.MountMode_MOUNT_MODE_OVERLAY {
				vol := c.volumes[volumeKey{b.Identity.Owner, m.GetVolume()}]
				return compare(vol.Root, b.Overlays[cleanPath(target)], cleanPath(target)), nil
			}
		}
		return nil, fault.Field("mount_target", target, "want the target of a mount of mode OVERLAY")
	}
	if b.Root == nil {
		return nil, nil
	}
	return compare(b.Base, b.Root, "/"), nil
}

// compare returns what differs between two trees, in byte order of path.
func compare(before, now *node, at string) []*providerv1.FileChange {
	old, fresh := paths(before, at), paths(now, at)
	var out []*providerv1.FileChange
	for _, p := range merge(old, fresh) {
		was, is := old[p], fresh[p]
		switch {
		case was == nil:
			out = append(out, &providerv1.FileChange{Path: p, Kind: providerv1.FileChangeKind_FILE_CHANGE_KIND_ADDED, Info: is.info(p)})
		case is == nil:
			out = append(out, &providerv1.FileChange{Path: p, Kind: providerv1.FileChangeKind_FILE_CHANGE_KIND_DELETED})
		case was.Kind != is.Kind || was.Mode != is.Mode || was.UID != is.UID || was.GID != is.GID || was.Link != is.Link || !bytes.Equal(was.Data, is.Data):
			out = append(out, &providerv1.FileChange{Path: p, Kind: providerv1.FileChangeKind_FILE_CHANGE_KIND_MODIFIED, Info: is.info(p)})
		}
	}
	return out
}
