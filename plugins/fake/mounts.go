package fake

import (
	"strconv"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// withMountPoints adds the targets of mounts that an image does not have. They are
// part of what the sandbox starts with, and no change of its own.
func withMountPoints(base *node, mounts []*providerv1.Mount) (*node, error) {
	if len(mounts) == 0 {
		return base, nil
	}
	v := &view{root: base.clone()}
	for i, m := range mounts {
		if err := v.makeFolders(cleanPath(m.GetTarget()), imageTime); err != nil {
			return nil, fault.Field("spec.mounts["+strconv.Itoa(i)+"].target", m.GetTarget(), "want a folder, or one that can be made: "+fault.From(err).Message)
		}
	}
	return v.root, nil
}
