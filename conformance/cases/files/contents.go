package files

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

var readWrite = []string{"fs.read", "fs.write"}

// contents are the cases about what is in a file.
func contents() []engine.Case {
	return []engine.Case{
		{
			ID: "fs/roundtrip", Title: "What is written is read back byte for byte, at any size, and is what a command inside sees.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-001"}, Needs: readWrite, Cost: 10,
			Run: roundtrip,
		},
		{
			ID: "fs/bulk", Title: "A large file is written and read back whole.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-001"}, Needs: readWrite, Cost: 20, Budget: 2 * time.Minute,
			Run: bulk,
		},
		{
			ID: "fs/mode", Title: "A new file has the mode asked for, 0644 without one, whatever the umask.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-001"}, Needs: readWrite, Cost: 5,
			Run: mode,
		},
		{
			ID: "fs/replace-is-atomic", Title: "A write that is cut before its end changes nothing and leaves nothing.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-002"}, Needs: readWrite, Cost: 5,
			Run: replaceIsAtomic,
		},
		{
			ID: "fs/readers-see-one", Title: "A reader inside sees the old content or the new one, never a mixture.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-002"}, Needs: readWrite, Cost: 10,
			Run: readersSeeOne,
		},
		{
			ID: "fs/create-new", Title: "CREATE_NEW refuses a file that exists and leaves it as it is.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-003"}, Needs: readWrite, Cost: 5,
			Run: createNew,
		},
		{
			ID: "fs/read-part", Title: "A read from an offset for a length gives those bytes, and nothing beyond the end.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-001"}, Needs: readWrite, Cost: 5,
			Run: readPart,
		},
		{
			ID: "fs/write-part", Title: "Append adds at the end; a write at an offset changes those bytes alone.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-001"}, Needs: append([]string{"fs.write.partial"}, readWrite...), Cost: 5,
			Run: writePart,
		},
		{
			ID: "fs/owner", Title: "A file that is written for a user belongs to that user.",
			Profile: engine.Files, Requirements: []string{"REQ-FS-001"}, Needs: append([]string{"fs.owner"}, readWrite...), Cost: 5,
			Run: owner,
		},
	}
}

func sum(content []byte) string {
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:])
}

// sumInside is the sum that a command inside sees.
func sumInside(box *stage.Box, path string) string {
	out, _, _ := strings.Cut(box.Line("sha256sum < "+path), " ")
	return out
}

func roundtrip(t *engine.T) {
	box := stage.Create(t)
	for _, size := range []int{0, 1, 4096, 32<<10 - 1, 32 << 10, 32<<10 + 1, 1<<20 + 7} {
		path := "/tmp/file-" + strconv.Itoa(size)
		content := stage.Random(t, size)
		info := box.Write(path, content)
		if info.GetSize() != int64(size) || info.GetPath() != path || info.GetType() != providerv1.FileType_FILE_TYPE_REGULAR {
			t.Errorf("WriteFile of %d bytes to %s answers %v: want a regular file of that size at that path", size, path, info)
		}
		box.SameContent(path, content)
		if got := sumInside(box, path); got != sum(content) {
			t.Errorf("a command inside sees a file of %d bytes with sum %s: want %s", size, got, sum(content))
		}
	}
	box.Sh("printf 'from inside' > /tmp/inside").Code(0)
	box.SameContent("/tmp/inside", []byte("from inside"))
	box.Write("/tmp/inside", []byte("short"))
	box.SameContent("/tmp/inside", []byte("short"))
}

func bulk(t *engine.T) {
	mib, err := strconv.Atoi(t.InputOr("bulk_mib", "64"))
	if err != nil {
		t.Broken("input bulk_mib: %v", err)
	}
	box := stage.Create(t)
	content := bytes.Repeat(stage.Random(t, 1<<20), mib)
	start := time.Now()
	box.Write("/tmp/bulk", content)
	t.Measure("fs.write.bulk", time.Since(start))
	if got := sumInside(box, "/tmp/bulk"); got != sum(content) {
		t.Errorf("a command inside sees sum %s: want %s", got, sum(content))
	}
	start = time.Now()
	if got := box.Read("/tmp/bulk"); !bytes.Equal(got, content) {
		t.Errorf("%d bytes came back: want the %d that were written", len(got), len(content))
	}
	t.Measure("fs.read.bulk", time.Since(start))
}

func mode(t *engine.T) {
	box := stage.Create(t)
	for _, tc := range []struct{ ask, want uint32 }{{0, 0o644}, {0o600, 0o600}, {0o755, 0o755}, {0o666, 0o666}, {0o400, 0o400}} {
		path := "/tmp/mode-" + strconv.FormatUint(uint64(tc.ask), 8)
		info, err := box.TryWrite(&providerv1.WriteFileOpen{Path: path, Permissions: tc.ask}, []byte("x"))
		stage.OK(t, "WriteFile", err)
		if info.GetMode() != tc.want || box.Stat(path, false).GetMode() != tc.want {
			t.Errorf("a file written with permissions %#o has mode %#o, and StatFile says %#o: want %#o",
				tc.ask, info.GetMode(), box.Stat(path, false).GetMode(), tc.want)
		}
	}
}

func replaceIsAtomic(t *engine.T) {
	box := stage.Create(t)
	box.Write("/tmp/kept", []byte("old"))
	before := box.Line("ls -a /tmp")
	for name, end := range map[string]func(providerv1.ProviderService_WriteFileClient, context.CancelFunc){
		"without commit": func(s providerv1.ProviderService_WriteFileClient, _ context.CancelFunc) {
			_, err := s.CloseAndRecv()
			if err == nil {
				t.Errorf("a write without commit succeeded: want it refused")
			}
		},
		"cancelled": func(s providerv1.ProviderService_WriteFileClient, cancel context.CancelFunc) {
			cancel()
			_ = s.RecvMsg(&providerv1.WriteFileResponse{})
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		s, err := t.Client().WriteFile(ctx)
		stage.OK(t, "WriteFile", err)
		_ = s.Send(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Open{Open: &providerv1.WriteFileOpen{Sandbox: box.Ref, Path: "/tmp/kept"}}})
		_ = s.Send(&providerv1.WriteFileRequest{Frame: &providerv1.WriteFileRequest_Data{Data: []byte("new")}})
		end(s, cancel)
		cancel()
		if got := box.Read("/tmp/kept"); string(got) != "old" {
			t.Errorf("after a write that ended %s the file is %s: want %q", name, stage.Excerpt(got), "old")
		}
	}
	stage.Eventually(t, t.Slowly(patience), "no trace of the writes that were cut: "+before, func(context.Context) bool {
		return box.Line("ls -a /tmp") == before
	})
}

func readersSeeOne(t *engine.T) {
	box := stage.Create(t)
	const size = 256 << 10
	box.Write("/tmp/changing", bytes.Repeat([]byte("a"), size))
	cmd := box.Start(stage.Script(`while [ ! -e /tmp/stop ]; do tr -d a < /tmp/changing | wc -c; done > /tmp/seen`))
	for i := range 20 {
		box.Write("/tmp/changing", bytes.Repeat([]byte{"ba"[i%2]}, size))
	}
	box.Sh(": > /tmp/stop").Code(0)
	cmd.Wait().Code(0)
	for _, line := range strings.Fields(box.Line("sort -u /tmp/seen")) {
		if line != "0" && line != strconv.Itoa(size) {
			t.Errorf("a reader inside saw %s bytes of the new content beside the old: want none or all %d", line, size)
		}
	}
}

func createNew(t *engine.T) {
	box := stage.Create(t)
	open := func() *providerv1.WriteFileOpen {
		return &providerv1.WriteFileOpen{Path: "/tmp/new", Mode: providerv1.WriteMode_WRITE_MODE_CREATE_NEW}
	}
	_, err := box.TryWrite(open(), []byte("first"))
	stage.OK(t, "WriteFile with CREATE_NEW", err)
	_, err = box.TryWrite(open(), []byte("second"))
	refusedWith(t, "WriteFile with CREATE_NEW of a file that exists", err, "EEXIST")
	box.SameContent("/tmp/new", []byte("first"))
}

// refusedWith checks a refusal of the sandbox's file system.
func refusedWith(t *engine.T, what string, err error, errnos ...string) {
	f := stage.Refused(t, what, err, providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED)
	for _, errno := range errnos {
		if f.Metadata["errno"] == errno {
			return
		}
	}
	t.Errorf("%s: metadata[errno] is %q: want %s", what, f.Metadata["errno"], strings.Join(errnos, " or "))
}

func readPart(t *engine.T) {
	box := stage.Create(t)
	content := stage.Random(t, 100_000)
	box.Write("/tmp/part", content)
	for _, tc := range []struct{ offset, length int64 }{{0, 10}, {99_990, 0}, {99_990, 100}, {1, 65_536}, {100_000, 0}, {200_000, 5}} {
		info, got, err := box.TryRead(&providerv1.ReadFileRequest{Path: "/tmp/part", Offset: tc.offset, Length: tc.length})
		stage.OK(t, "ReadFile", err)
		from := min(tc.offset, int64(len(content)))
		to := int64(len(content))
		if tc.length > 0 {
			to = min(from+tc.length, to)
		}
		if !bytes.Equal(got, content[from:to]) {
			t.Errorf("a read of %d bytes at %d gives %d bytes: want bytes %d to %d", tc.length, tc.offset, len(got), from, to)
		}
		if info.GetSize() != int64(len(content)) {
			t.Errorf("the file's size is told as %d: want %d", info.GetSize(), len(content))
		}
	}
}

func writePart(t *engine.T) {
	box := stage.Create(t)
	box.Write("/tmp/part", []byte("0123456789"))
	_, err := box.TryWrite(&providerv1.WriteFileOpen{Path: "/tmp/part", Mode: providerv1.WriteMode_WRITE_MODE_APPEND}, []byte("ab"))
	stage.OK(t, "WriteFile with APPEND", err)
	_, err = box.TryWrite(&providerv1.WriteFileOpen{Path: "/tmp/part", Mode: providerv1.WriteMode_WRITE_MODE_AT_OFFSET, Offset: 4}, []byte("xy"))
	stage.OK(t, "WriteFile with AT_OFFSET", err)
	box.SameContent("/tmp/part", []byte("0123xy6789ab"))
}

func owner(t *engine.T) {
	box := stage.Create(t)
	info, err := box.TryWrite(&providerv1.WriteFileOpen{Path: "/tmp/owned", User: "1234:4321"}, []byte("x"))
	stage.OK(t, "WriteFile for a user", err)
	stat := box.Stat("/tmp/owned", false)
	if info.GetUid() != 1234 || info.GetGid() != 4321 || stat.GetUid() != 1234 || stat.GetGid() != 4321 {
		t.Errorf("the file belongs to %d:%d, and StatFile says %d:%d: want 1234:4321", info.GetUid(), info.GetGid(), stat.GetUid(), stat.GetGid())
	}
}
