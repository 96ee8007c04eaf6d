package daytona

import (
	"encoding/json"
	"fmt"

	"github.com/sandbar-dev/sandbar/plugins/daytona/api"
	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// What a sandbox of ours is known by at the vendor.
const (
	// namePrefix stands before the idempotency key in a sandbox's name.
	namePrefix = "sandbar-"
	// labelOwner holds a digest of the owner, which any search can hold, and labelID
	// the sandbox's id. labelRecord has a record.
	labelOwner, labelID, labelRecord = "sandbar-owner", "sandbar-id", "sandbar-record"
)

// record is what must come back as it was given (REQ-LIFE-002). The key is in it,
// because the vendor changes the name of what it destroys.
type record struct {
	ID     string            `json:"-"`
	Key    string            `json:"k"`
	Owner  string            `json:"o"`
	Digest []byte            `json:"d"`
	Labels map[string]string `json:"l,omitempty"`
	// Workdir is of commands that name none.
	Workdir string `json:"w,omitempty"`
}

func nameOf(key string) string { return namePrefix + key }

func (r record) labels() map[string]string {
	text, _ := json.Marshal(r) // strings and bytes
	return map[string]string{labelOwner: upstream.OwnerDigest(r.Owner), labelID: r.ID, labelRecord: string(text)}
}

// recordOf reads the labels of a sandbox; an error means that it is not ours, or that
// somebody has changed it.
func recordOf(sb *api.Sandbox) (record, error) {
	r := record{ID: sb.Labels[labelID]}
	text, ours := sb.Labels[labelRecord]
	if !ours || r.ID == "" {
		return r, fmt.Errorf("sandbox %q was not made by Sandbar", sb.Name)
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, fmt.Errorf("label %s of sandbox %q: %w", labelRecord, sb.Name, err)
	}
	if upstream.OwnerDigest(r.Owner) != sb.Labels[labelOwner] || r.Key == "" {
		return r, fmt.Errorf("the labels of sandbox %q contradict each other", sb.Name)
	}
	return r, nil
}

// handle is the plugin's memory of a sandbox: where it is. It holds no secret.
type handle struct {
	// ID is the vendor's, and Proxy where its toolbox is reached.
	ID      string `json:"i"`
	Proxy   string `json:"p"`
	Workdir string `json:"w,omitempty"`
}

const (
	handleVersion = 1
	// maxHandle is the contract's limit.
	maxHandle = 4096
)

func (h handle) place() api.Place { return api.Place{Proxy: h.Proxy, ID: h.ID} }

func (h handle) proto() *providerv1.Handle {
	text, _ := json.Marshal(h) // three strings
	if len(text) > maxHandle {
		text = []byte("{}") // the sandbox is looked up by its id
	}
	return &providerv1.Handle{Version: handleVersion, Data: text}
}

// readHandle returns false for a handle that is absent, or of a version that no
// release wrote: the sandbox is then looked up by its id.
func readHandle(h *providerv1.Handle) (handle, bool) {
	var out handle
	if h.GetVersion() != handleVersion || json.Unmarshal(h.GetData(), &out) != nil || out.ID == "" || out.Proxy == "" {
		return handle{}, false
	}
	return out, true
}
