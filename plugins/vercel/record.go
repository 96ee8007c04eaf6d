package vercel

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/plugins/vercel/api"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// What a sandbox of ours is known by at the vendor.
const (
	// namePrefix stands before the idempotency key in a sandbox's name.
	namePrefix = "sandbar-"
	// tagOwner holds a digest of the owner and tagID the sandbox's id: the vendor
	// filters by one tag. tagRecord and a digit hold the pieces of a record.
	tagOwner, tagID, tagRecord = "sandbar-owner", "sandbar-id", "sandbar-"
	// maxTags is the vendor's limit.
	maxTags = 5
	// pieceSize is how much goes into one tag. The vendor does not document how long
	// a value may be; 256 characters are what tags have elsewhere.
	pieceSize = 256
	// maxRecord is what the tags hold that are not for finding.
	maxRecord = (maxTags - 2) * pieceSize
	// mostInflated bounds what a record of somebody else's can unpack to.
	mostInflated = 1 << 20
)

// record is what must come back as it was given (REQ-LIFE-002).
type record struct {
	ID     string            `json:"-"`
	Key    string            `json:"-"`
	Owner  string            `json:"o"`
	Digest []byte            `json:"d"`
	Labels map[string]string `json:"l,omitempty"`
	// Workdir is of commands that name none.
	Workdir string `json:"w,omitempty"`
}

func nameOf(key string) string { return namePrefix + key }

// tags packs a record: as JSON, deflated, in pieces of base64.
func (r record) tags() (map[string]string, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode a sandbox's record: %w", err)
	}
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("pack a sandbox's record: %w", err)
	}
	rest := base64.RawURLEncoding.EncodeToString(packed.Bytes())
	if len(rest) > maxRecord {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
			"identity.labels and owner take %d characters in the vendor's tags, which have room for %d: use fewer or shorter labels", len(rest), maxRecord).
			With("limit", "x-tag-characters").With("max", strconv.Itoa(maxRecord)).With("characters", strconv.Itoa(len(rest))).
			With(fault.MetaField, "identity.labels")
	}
	out := map[string]string{tagOwner: upstream.OwnerDigest(r.Owner), tagID: r.ID}
	for i := 0; rest != ""; i++ {
		n := min(len(rest), pieceSize)
		out[tagRecord+strconv.Itoa(i)], rest = rest[:n], rest[n:]
	}
	return out, nil
}

// recordOf unpacks what the tags of a sandbox hold; an error means that it is not
// ours, or that somebody has changed it.
func recordOf(sb *api.Sandbox) (record, error) {
	key, ours := strings.CutPrefix(sb.Name, namePrefix)
	r := record{ID: sb.Tags[tagID], Key: key}
	if !ours || r.ID == "" {
		return r, fmt.Errorf("sandbox %q was not made by Sandbar", sb.Name)
	}
	var pieces strings.Builder
	for i := 0; ; i++ {
		piece, ok := sb.Tags[tagRecord+strconv.Itoa(i)]
		if !ok {
			break
		}
		pieces.WriteString(piece)
	}
	packed, err := base64.RawURLEncoding.DecodeString(pieces.String())
	if err != nil {
		return r, fmt.Errorf("the tags of sandbox %q: %w", sb.Name, err)
	}
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), mostInflated))
	if err != nil {
		return r, fmt.Errorf("the tags of sandbox %q: %w", sb.Name, err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("the tags of sandbox %q: %w", sb.Name, err)
	}
	if upstream.OwnerDigest(r.Owner) != sb.Tags[tagOwner] {
		return r, fmt.Errorf("the tags of sandbox %q contradict each other", sb.Name)
	}
	return r, nil
}

// handle is the plugin's memory of a sandbox: where it is. It holds no secret.
type handle struct {
	Name    string `json:"n"`
	Session string `json:"s"`
	Workdir string `json:"w,omitempty"`
}

const (
	handleVersion = 1
	// maxHandle is the contract's limit.
	maxHandle = 4096
)

func (h handle) proto() *providerv1.Handle {
	text, _ := json.Marshal(h) // three strings
	if len(text) > maxHandle {
		text, _ = json.Marshal(handle{Name: h.Name}) // the sandbox is looked up by its id
	}
	return &providerv1.Handle{Version: handleVersion, Data: text}
}

// readHandle returns false for a handle that is absent, or of a version that no
// release wrote: the sandbox is then looked up by its id.
func readHandle(h *providerv1.Handle) (handle, bool) {
	var out handle
	if h.GetVersion() != handleVersion || json.Unmarshal(h.GetData(), &out) != nil || out.Name == "" || out.Session == "" {
		return handle{}, false
	}
	return out, true
}
