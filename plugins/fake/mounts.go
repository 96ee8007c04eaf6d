package fake

import (
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
)

// makeMountPoints makes the folders that mounts need, as a part of what the
// sandbox starts with.
func (b *box) makeMountPoints(now time.Time) error {
	for i, m := range b.Spec.M.GetMounts() {
		at, err := (&view{root: b.Base}).walk(m.GetTarget(), true)
		if err == nil && at.node != nil {
			continue
		}
		b.Base = b.Base.clone() // others start with it, too
		if err := (&view{root: b.Base}).makeFolders(cleanPath(m.GetTarget()), now); err != nil {
			return fault.Field("spec.mounts["+strconv.Itoa(i)+"].target", m.GetTarget(), "want a path whose parents are folders")
		}
	}
	return nil
}
