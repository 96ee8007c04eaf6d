package vercel

import (
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/plugins/vercel/api"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestRecordComesBack: whatever fits into the tags comes back from them as it was,
// and the tags are such as the vendor takes.
func TestRecordComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digest := sha256.Sum256([]byte(rapid.String().Draw(t, "digest")))
		r := record{
			ID:      rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,127}`).Draw(t, "id"),
			Key:     rapid.StringMatching(`[A-Za-z0-9]{26}`).Draw(t, "key"),
			Owner:   rapid.StringN(1, 60, 255).Draw(t, "owner"),
			Digest:  digest[:],
			Labels:  rapid.MapOfN(rapid.StringMatching(`[a-z0-9A-Z._/-]{1,20}`), rapid.StringN(0, 20, 60), 0, 6).Draw(t, "labels"),
			Workdir: rapid.SampledFrom([]string{"", "/tmp", "/a b/ü"}).Draw(t, "workdir"),
		}
		if len(r.Labels) == 0 {
			r.Labels = nil
		}
		tags, err := r.tags()
		if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(tags) > maxTags {
			t.Fatalf("%d tags: want at most %d", len(tags), maxTags)
		}
		for key, value := range tags {
			if value == "" || len(value) > pieceSize || strings.ContainsAny(value, ": \n") {
				t.Fatalf("tag %s is %q", key, value)
			}
		}
		got, err := recordOf(&api.Sandbox{Name: nameOf(r.Key), Tags: tags})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, got); diff != "" {
			t.Fatalf("record (- given, + got):\n%s", diff)
		}
	})
}

func TestLabelsThatDoNotFit(t *testing.T) {
	r := record{ID: "sbx_1", Owner: "brk_1", Labels: map[string]string{}}
	for range 12 {
		r.Labels[rand.Text()] = rand.Text() + rand.Text() + rand.Text()
	}
	_, err := r.tags()
	f := fault.From(err)
	if f == nil || f.Reason != providerv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED || f.Effect != effectNone || f.Metadata["max"] != "768" {
		t.Errorf("labels that do not fit answer %v: want LIMIT_EXCEEDED with max 768 and no effect", err)
	}
}

func TestForeignSandboxes(t *testing.T) {
	mine := record{ID: "sbx_1", Key: "K", Owner: "brk_1"}
	tags, err := mine.tags()
	if err != nil {
		t.Fatal(err)
	}
	with := func(key, value string) map[string]string {
		out := map[string]string{}
		for k, v := range tags {
			out[k] = v
		}
		out[key] = value
		return out
	}
	for name, sb := range map[string]api.Sandbox{
		"another name":  {Name: "web", Tags: tags},
		"no tags":       {Name: "sandbar-K"},
		"no base64":     {Name: "sandbar-K", Tags: with("sandbar-0", "%%")},
		"no record":     {Name: "sandbar-K", Tags: with("sandbar-0", "AAAA")},
		"another owner": {Name: "sandbar-K", Tags: with(tagOwner, upstream.OwnerDigest("brk_2"))},
	} {
		if r, err := recordOf(&sb); err == nil {
			t.Errorf("%s: taken for %+v", name, r)
		}
	}
}

func TestHandles(t *testing.T) {
	h := handle{Name: "sandbar-K", Session: "sbx_1", Workdir: "/tmp"}
	if got, ok := readHandle(h.proto()); !ok || got != h {
		t.Errorf("a handle comes back as %+v, %t", got, ok)
	}
	h.Workdir = "/" + strings.Repeat("x", 4090)
	long := h.proto()
	if n := len(long.GetData()); n > maxHandle {
		t.Errorf("a handle of %d bytes", n)
	}
	if _, ok := readHandle(long); ok {
		t.Error("a handle without its folder is taken for whole")
	}
	for name, bad := range map[string]*providerv1.Handle{
		"none": nil, "another version": {Version: 9, Data: []byte(`{"n":"a","s":"b"}`)}, "no JSON": {Version: 1, Data: []byte("x")},
	} {
		if got, ok := readHandle(bad); ok {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
}
