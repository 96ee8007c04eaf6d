package fake

import (
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// withMountPoints adds the targets of mounts that an image does not have. They are
// part of what the sandbox starts with, and no change of its own.
func withMountPoints(base *node, mounts []*providerv1.Mount) (*node, error) {
	if len(mounts) == 0 {
		return base, nil
	}
	v := &view{root: base.clone()}
	for _, m := range mounts {
		if err := v.makeFolders(cleanPath(m.GetTarget()), imageTime); err != nil {
			return nil, err
		}
	}
	return v.root, nil
}
