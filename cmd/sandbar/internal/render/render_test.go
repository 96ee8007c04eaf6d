package render_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	brokerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/broker/v1"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestTableCannotBeForged: what others named cannot add rows or move the cursor.
func TestTableCannotBeForged(t *testing.T) {
	var buf bytes.Buffer
	err := render.Table(&buf, []string{"NAME", "X"}, [][]string{{"a\nb\x1b[2J\tc", ""}, {"plain ü", "1"}})
	want := "NAME              X\n" + `"a\nb\x1b[2J\tc"` + "  -\nplain ü           1\n"
	if err != nil || buf.String() != want {
		t.Errorf("got %v\n%q\nwant\n%q", err, buf.String(), want)
	}
}

func TestWrapped(t *testing.T) {
	var buf bytes.Buffer
	err := render.Wrapped(&buf, 40, []string{"NAME", "WHY"}, [][]string{
		{"one", "a short text"},
		{"two", "a text that is wider than what is left of the line"},
		{" ", "averylongwordwithoutanyspaceinsidetobreakitatand more"},
		{"three", ""},
	})
	const want = "" +
		"NAME   WHY\n" +
		"one    a short text\n" +
		"two    a text that is wider than what is\n" +
		"       left of the line\n" +
		"       averylongwordwithoutanyspaceinsid\n" +
		"       etobreakitatand more\n" +
		"three  -\n"
	if err != nil || buf.String() != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, buf.String(), want)
	}
	for line := range bytes.Lines(buf.Bytes()) {
		if n := len(bytes.TrimRight(line, "\n")); n > 40 {
			t.Errorf("%q has %d characters", line, n)
		}
	}
}

func TestJSON(t *testing.T) {
	var buf bytes.Buffer
	if err := render.Messages(&buf, []*brokerv1.Sandbox{}); err != nil || buf.String() != "[]\n" {
		t.Errorf("an empty list is %q, %v", buf.String(), err)
	}
	buf.Reset()
	if err := render.Message(&buf, &brokerv1.Sandbox{SandboxId: "sbx_1"}); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(buf.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got["sandbox_id"] != "sbx_1" || got["name"] != "" || got["state"] != "SANDBOX_STATE_UNSPECIFIED" {
		t.Errorf("fields are missing or not called as in the contract: %v", got)
	}
}

func TestTimes(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for d, want := range map[time.Duration]string{
		250 * time.Millisecond: "250ms", 59 * time.Second: "59s", 90 * time.Second: "1m30s", 2 * time.Minute: "2m",
		47 * time.Hour: "47h", 49 * time.Hour: "2d",
	} {
		if got := render.Ago(now, timestamppb.New(now.Add(-d))); got != want+" ago" {
			t.Errorf("%v ago is %q", d, got)
		}
		if got := render.Until(now, timestamppb.New(now.Add(d))); got != "in "+want {
			t.Errorf("in %v is %q", d, got)
		}
	}
	if render.Ago(now, nil) != "" || render.Until(now, nil) != "never" || render.Until(now, timestamppb.New(now)) != "due" {
		t.Error("no time, or one that has come, reads wrong")
	}
}

func TestWords(t *testing.T) {
	if got := render.Argv([]string{"sh", "-c", "it's $HOME", "", "a=b"}); got != `sh -c 'it'\''s $HOME' '' a=b` {
		t.Errorf("argv is %s", got)
	}
	if got := render.Enum(providerv1.SandboxState_SANDBOX_STATE_RUNNING, "SANDBOX_STATE_"); got != "running" {
		t.Errorf("state is %q", got)
	}
	for n, want := range map[int64]string{0: "0B", 1023: "1023B", 1024: "1KiB", 1536: "1.5KiB", 512 << 20: "512MiB", 3 << 40: "3TiB"} {
		if got := render.Bytes(n); got != want {
			t.Errorf("%d bytes are %q, want %q", n, got, want)
		}
	}
	if got := render.Pairs(map[string]string{"b": "2", "a": "1"}); got != "a=1,b=2" {
		t.Errorf("pairs are %q", got)
	}
}
