package capability

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// file is one that nobody needs.
const file = "/tmp/suite-file"

// fileUses are the uses of what reaches files from outside.
func fileUses() map[string]use {
	return map[string]use{
		"archive.download": {run: download},
		"archive.upload":   {run: upload},
		"fs.diff":          {run: diff},
		"fs.owner": {run: func(t *engine.T) {
			box := stage.Create(t)
			writeFile(t, box, &providerv1.WriteFileOpen{Path: file, User: "1000"}, "x")
			box.Start(stage.Script("cd /tmp && ls -n suite-file | { read mode links uid rest; echo $uid; }")).Wait().Code(0).Out("1000\n")
		}},
		"fs.read":          {run: readFiles},
		"fs.write":         {run: writeFiles},
		"fs.write.partial": {run: writeParts},
	}
}

func readFiles(t *engine.T) {
	box := stage.Create(t)
	write(box, file, "content")
	stream, err := box.Client().ReadFile(t.Context(), &providerv1.ReadFileRequest{Sandbox: box.Ref, Path: file})
	var got []byte
	for err == nil {
		var resp *providerv1.ReadFileResponse
		resp, err = stream.Recv()
		got = append(got, resp.GetData()...)
	}
	if !errors.Is(err, io.EOF) {
		stage.OK(t, "ReadFile", err)
	}
	same(t, "what ReadFile reads", string(got), "content")
	info, err := box.Client().StatFile(t.Context(), &providerv1.StatFileRequest{Sandbox: box.Ref, Path: file})
	stage.OK(t, "StatFile", err)
	same(t, "size", info.GetInfo().GetSize(), int64(len("content")))
	list, err := box.Client().ListFiles(t.Context(), &providerv1.ListFilesRequest{Sandbox: box.Ref, Path: "/tmp"})
	stage.OK(t, "ListFiles", err)
	for _, f := range list.GetFiles() {
		if f.GetPath() == file {
			return
		}
	}
	t.Errorf("ListFiles of /tmp does not have %s", file)
}

// writeFile writes a file through the contract.
func writeFile(t *engine.T, box *stage.Box, open *providerv1.WriteFileOpen, content string) {
	open.Sandbox = box.Ref
	stream, err := box.Client().WriteFile(t.Context())
	stage.OK(t, "WriteFile", err)
	for _, req := range []*providerv1.WriteFileRequest{
		{Frame: &providerv1.WriteFileRequest_Open{Open: open}},
		{Frame: &providerv1.WriteFileRequest_Data{Data: []byte(content)}},
		{Frame: &providerv1.WriteFileRequest_Commit{Commit: &providerv1.WriteFileCommit{}}},
	} {
		if stream.Send(req) != nil {
			break // why is what the answer says
		}
	}
	_, err = stream.CloseAndRecv()
	stage.OK(t, "WriteFile "+open.GetMode().String(), err)
}

func writeFiles(t *engine.T) {
	box := stage.Create(t)
	client := box.Client()
	writeFile(t, box, &providerv1.WriteFileOpen{Path: file}, "content")
	box.Run("cat", file).Code(0).Out("content")
	_, err := client.MakeDirectory(t.Context(), &providerv1.MakeDirectoryRequest{Sandbox: box.Ref, Path: "/tmp/suite-folder"})
	stage.OK(t, "MakeDirectory", err)
	_, err = client.MoveFile(t.Context(), &providerv1.MoveFileRequest{Sandbox: box.Ref, From: file, To: "/tmp/suite-folder/moved"})
	stage.OK(t, "MoveFile", err)
	box.Run("cat", "/tmp/suite-folder/moved").Code(0).Out("content")
	_, err = client.RemoveFile(t.Context(), &providerv1.RemoveFileRequest{Sandbox: box.Ref, Path: "/tmp/suite-folder", Recursive: true})
	stage.OK(t, "RemoveFile", err)
	if out := box.Run("cat", "/tmp/suite-folder/moved"); out.Exit.GetCode() == 0 {
		t.Errorf("a folder that was removed is still there")
	}
}

func writeParts(t *engine.T) {
	box := stage.Create(t)
	writeFile(t, box, &providerv1.WriteFileOpen{Path: file}, "abc")
	writeFile(t, box, &providerv1.WriteFileOpen{Path: file, Mode: providerv1.WriteMode_WRITE_MODE_APPEND}, "def")
	writeFile(t, box, &providerv1.WriteFileOpen{Path: file, Mode: providerv1.WriteMode_WRITE_MODE_AT_OFFSET, Offset: 1}, "X")
	box.Run("cat", file).Code(0).Out("aXcdef")
}

func diff(t *engine.T) {
	const added = "/suite-added"
	box := stage.Create(t)
	write(box, added, "x")
	stream, err := box.Client().DiffFiles(t.Context(), &providerv1.DiffFilesRequest{Sandbox: box.Ref})
	found := false
	for err == nil {
		var resp *providerv1.DiffFilesResponse
		resp, err = stream.Recv()
		for _, c := range resp.GetChanges() {
			found = found || c.GetPath() == added && c.GetKind() == providerv1.FileChangeKind_FILE_CHANGE_KIND_ADDED
		}
	}
	if !errors.Is(err, io.EOF) {
		stage.OK(t, "DiffFiles", err)
	}
	if !found {
		t.Errorf("DiffFiles does not have %s, which was added", added)
	}
}

func download(t *engine.T) {
	box := stage.Create(t)
	write(box, file, "content")
	stream, err := box.Client().DownloadArchive(t.Context(), &providerv1.DownloadArchiveRequest{Sandbox: box.Ref, Paths: []string{file}})
	var archive bytes.Buffer
	for err == nil {
		var resp *providerv1.DownloadArchiveResponse
		resp, err = stream.Recv()
		archive.Write(resp.GetData())
	}
	if !errors.Is(err, io.EOF) {
		stage.OK(t, "DownloadArchive", err)
	}
	r := tar.NewReader(&archive)
	h, err := r.Next()
	if err != nil {
		t.Fatalf("the archive of a file cannot be read: %v", err)
	}
	content, err := io.ReadAll(r)
	if h.Name != "suite-file" || string(content) != "content" || err != nil {
		t.Errorf("the archive has %q with %q (%v): want suite-file with the file's content", h.Name, content, err)
	}
}

func upload(t *engine.T) {
	box := stage.Create(t)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "unpacked", Mode: 0o644, Size: 7})
	if err == nil {
		_, err = w.Write([]byte("content"))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Broken("an archive could not be made: %v", err)
	}
	stream, err := box.Client().UploadArchive(t.Context())
	stage.OK(t, "UploadArchive", err)
	for _, req := range []*providerv1.UploadArchiveRequest{
		{Frame: &providerv1.UploadArchiveRequest_Open{Open: &providerv1.UploadArchiveOpen{Sandbox: box.Ref, Path: "/tmp/suite-archive"}}},
		{Frame: &providerv1.UploadArchiveRequest_Data{Data: archive.Bytes()}},
	} {
		if stream.Send(req) != nil {
			break // why is what the answer says
		}
	}
	_, err = stream.CloseAndRecv()
	stage.OK(t, "UploadArchive", err)
	box.Run("cat", "/tmp/suite-archive/unpacked").Code(0).Out("content")
}

// removing removes a folder after a case.
func removing(dir string) func(context.Context) {
	return func(context.Context) { _ = os.RemoveAll(dir) } // it is in the machine's temporary folder
}
