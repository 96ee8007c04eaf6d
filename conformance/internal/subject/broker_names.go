package subject

import (
	"maps"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// A broker chooses ids itself. What a case calls its sandboxes and snapshots,
// whose they are and by which operation they came is carried in labels, and
// remembered here, because copies of a fork share the labels of one request.
const (
	labelPrefix   = "sandbar.conformance/"
	labelID       = labelPrefix + "id"
	labelOwner    = labelPrefix + "owner"
	labelKey      = labelPrefix + "key"
	labelDigest   = labelPrefix + "digest"
	labelSnapshot = labelPrefix + "snapshot"
)

// names knows what cases call what the broker made. It is safe for concurrent
// use.
type names struct {
	mu sync.Mutex
	// theirs is the broker's id by the case's, for sandboxes and snapshots.
	theirs map[string]string
	// ours is the other direction; identities say the rest about sandboxes.
	ours       map[string]string
	identities map[string]*providerv1.Identity
}

func newNames() *names {
	return &names{theirs: map[string]string{}, ours: map[string]string{}, identities: map[string]*providerv1.Identity{}}
}

// sandbox takes note of a sandbox.
func (n *names) sandbox(identity *providerv1.Identity, theirs string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.theirs[identity.GetSandboxId()], n.ours[theirs] = theirs, identity.GetSandboxId()
	n.identities[theirs] = proto.CloneOf(identity)
}

// snapshot takes note of a snapshot.
func (n *names) snapshot(ours, theirs string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.theirs[ours], n.ours[theirs] = theirs, ours
}

// their is the broker's id for a case's; one that is not known is itself, for the
// broker to refuse.
func (n *names) their(ours string) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	theirs, ok := n.theirs[ours]
	if !ok {
		return ours, false
	}
	return theirs, true
}

// our is the case's id for a broker's.
func (n *names) our(theirs string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ours, ok := n.ours[theirs]; ok {
		return ours
	}
	return theirs
}

// identity is what a sandbox of the broker was made as: as it is remembered, or
// as its labels say.
func (n *names) identity(theirs string, labels map[string]string) *providerv1.Identity {
	n.mu.Lock()
	defer n.mu.Unlock()
	if id, ok := n.identities[theirs]; ok {
		return proto.CloneOf(id)
	}
	return &providerv1.Identity{SandboxId: labels[labelID], Owner: labels[labelOwner], Labels: withoutOurs(labels)}
}

// labelled adds to a user's labels what the broker is to carry.
func labelled(user map[string]string, ours map[string]string) map[string]string {
	out := maps.Clone(user)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, ours)
	return out
}

// withoutOurs is the user's labels alone.
func withoutOurs(labels map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range labels {
		if !strings.HasPrefix(k, labelPrefix) {
			out[k] = v
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// eachMessage calls fn with m and every message that is set in it. fn returns
// false to go no deeper.
func eachMessage(m protoreflect.Message, fn func(protoreflect.Message) bool) {
	if !fn(m) {
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap() || fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				eachMessage(v.List().Get(i).Message(), fn)
			}
		default:
			eachMessage(v.Message(), fn)
		}
		return true
	})
}
