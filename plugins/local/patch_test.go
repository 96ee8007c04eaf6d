package local_test

import (
	"testing"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// put writes a part of a file.
func (p *plugin) put(open *providerv1.WriteFileOpen, data string) error {
	p.t.Helper()
	stream, err := p.client.WriteFile(p.ctx())
	if err != nil {
		p.t.Fatal(err)
	}
	for _, m := range []*providerv1.WriteFileRequest{
		{Frame: &providerv1.WriteFileRequest_Open{Open: open}},
		{Frame: &providerv1.WriteFileRequest_Data{Data: []byte(data)}},
		{Frame: &providerv1.WriteFileRequest_Commit{Commit: &providerv1.WriteFileCommit{}}},
	} {
		_ = stream.Send(m) // what went wrong tells the answer
	}
	_, err = stream.CloseAndRecv()
	return err
}

// TestPartialWrites: what is there stays, owner and mode included, and what is
// missing is made.
func TestPartialWrites(t *testing.T) {
	p := start(t)
	sb := p.create(nil)
	if got := p.sh(sb, "printf 0123456789 >/srv/f; chown 7:8 /srv/f; chmod 640 /srv/f; ln -s f /srv/link; mkfifo /srv/pipe"); got.exit.GetCode() != 0 {
		t.Fatalf("%+v", got)
	}
	const appends, at = providerv1.WriteMode_WRITE_MODE_APPEND, providerv1.WriteMode_WRITE_MODE_AT_OFFSET
	for _, w := range []struct {
		open *providerv1.WriteFileOpen
		data string
		want providerv1.ErrorReason
	}{
		{&providerv1.WriteFileOpen{Path: "/srv/f", Mode: at, Offset: 3}, "abc", 0},
		{&providerv1.WriteFileOpen{Path: "/srv/link", Mode: appends}, "end", 0},
		{&providerv1.WriteFileOpen{Path: "/srv/f", Mode: at}, "Z", 0},
		{&providerv1.WriteFileOpen{Path: "/srv/new/g", Mode: appends, Permissions: 0o600, MakeParents: true, User: "7:8"}, "new", 0},
		{&providerv1.WriteFileOpen{Path: "/srv/hole", Mode: at, Offset: 2}, "x", 0},
		{&providerv1.WriteFileOpen{Path: "/srv/f", Mode: at, Offset: -1}, "x", providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID},
		{&providerv1.WriteFileOpen{Path: "/srv/none/g", Mode: appends}, "x", providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND},
		{&providerv1.WriteFileOpen{Path: "/srv", Mode: appends}, "x", providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED},
		{&providerv1.WriteFileOpen{Path: "/srv/pipe", Mode: appends}, "x", providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED},
	} {
		w.open.Sandbox = sb
		err := p.put(w.open, w.data)
		if w.want == 0 && err != nil || w.want != 0 && !fault.Has(fault.From(err), w.want) {
			t.Errorf("%v: %v, want %v", w.open, err, w.want)
		}
	}
	const want = "Z12abc6789end\n640 7:8\n600 7:8\nnew 00 00 78\n"
	got := p.sh(sb, "cd /srv; cat f; echo; stat -c '%a %u:%g' f new/g; cat new/g; od -An -tx1 hole")
	if got.stdout != want {
		t.Errorf("got %q %q, want %q", got.stdout, got.stderr, want)
	}
}
