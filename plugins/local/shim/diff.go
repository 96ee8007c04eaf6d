package shim

import (
	"archive/tar"
	"context"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// diffBatch is how many changes travel in one message.
const diffBatch = 500

// DiffFiles implements sdk.Differ. The guest's overlay is the truth: what it
// holds above the read-only tree is what changed, copy-on-write mounts included.
func (g *guest) DiffFiles(ctx context.Context, req *providerv1.DiffFilesRequest, send func([]*providerv1.FileChange) error) error {
	within, without, err := g.diffScope(req.GetMountTarget())
	if err != nil {
		return err
	}
	found, err := g.sb.Changes(ctx)
	if err != nil {
		return endedOr(err)
	}
	var changes []*providerv1.FileChange
	for _, c := range found {
		if below(c.Path, within) && !slices.ContainsFunc(without, func(dir string) bool { return below(c.Path, dir) }) {
			changes = append(changes, fileChange(c))
		}
	}
	for batch := range slices.Chunk(changes, diffBatch) {
		if err := send(batch); err != nil {
			return err
		}
	}
	return nil
}

// diffScope returns the folder to report on, and those inside it that are not
// the guest's own tree.
func (g *guest) diffScope(target string) (within string, without []string, err error) {
	if target != "" {
		for _, m := range g.spec.GetMounts() {
			if m.GetTarget() == target && m.GetMode() == providerv1.MountMode_MOUNT_MODE_OVERLAY {
				return target, without, nil
			}
		}
		return "", nil, fault.Field("mount_target", target, "want the target of a mount of mode overlay")
	}
	for _, m := range g.spec.GetMounts() {
		without = append(without, m.GetTarget())
	}
	return "/", without, nil
}

func below(p, dir string) bool {
	return dir == "/" || p == dir || strings.HasPrefix(p, dir+"/")
}

func fileChange(c runsc.Change) *providerv1.FileChange {
	name := strings.ToValidUTF8(c.Path, "\uFFFD")
	out := &providerv1.FileChange{Path: name, Kind: providerv1.FileChangeKind_FILE_CHANGE_KIND_DELETED}
	switch c.Kind {
	case runsc.Added:
		out.Kind = providerv1.FileChangeKind_FILE_CHANGE_KIND_ADDED
	case runsc.Modified:
		out.Kind = providerv1.FileChangeKind_FILE_CHANGE_KIND_MODIFIED
	case runsc.Deleted:
	}
	if c.Header != nil {
		out.Info = headerInfo(name, c.Header)
	}
	return out
}

func headerInfo(name string, h *tar.Header) *providerv1.FileInfo {
	info := &providerv1.FileInfo{
		Path: name, Size: h.Size, Mode: uint32(h.Mode) & 0o7777,
		Uid: uint32(h.Uid), Gid: uint32(h.Gid),
		ModifiedAt: timestamppb.New(h.ModTime), LinkTarget: strings.ToValidUTF8(h.Linkname, "\uFFFD"), Type: providerv1.FileType_FILE_TYPE_OTHER,
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeLink:
		info.Type = providerv1.FileType_FILE_TYPE_REGULAR
	case tar.TypeDir:
		info.Type = providerv1.FileType_FILE_TYPE_DIRECTORY
	case tar.TypeSymlink:
		info.Type = providerv1.FileType_FILE_TYPE_SYMLINK
	}
	return info
}
