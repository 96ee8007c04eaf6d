package mutant

import (
	"bytes"
	"context"
	"io"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/fake"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// changedOpen makes a write bug of a changed request.
func changedOpen(change func(*providerv1.WriteFileOpen)) func(*fake.Driver, context.Context, *providerv1.WriteFileOpen, io.Reader) (*providerv1.FileInfo, error) {
	return func(d *fake.Driver, ctx context.Context, open *providerv1.WriteFileOpen, content io.Reader) (*providerv1.FileInfo, error) {
		change(open)
		return d.WriteFile(ctx, open, content)
	}
}

func contentMutants() []Mutant {
	return []Mutant{
		{
			ID: "fs/roundtrip~text", Kills: "fs/roundtrip", Bug: "ends of lines are translated as in text", Also: []string{"fs/bulk", "fs/read-part", "fs/names"},
			Driver: files(fileBugs{write: func(d *fake.Driver, ctx context.Context, open *providerv1.WriteFileOpen, content io.Reader) (*providerv1.FileInfo, error) {
				all, err := io.ReadAll(content)
				if err != nil {
					return d.WriteFile(ctx, open, cutOff{err})
				}
				return d.WriteFile(ctx, open, bytes.NewReader(bytes.ReplaceAll(all, []byte("\n"), []byte("\r\n"))))
			}}),
		},
		{
			ID: "fs/bulk~cap", Kills: "fs/bulk", Bug: "a file is cut at two MiB",
			Driver: files(fileBugs{write: func(d *fake.Driver, ctx context.Context, open *providerv1.WriteFileOpen, content io.Reader) (*providerv1.FileInfo, error) {
				info, err := d.WriteFile(ctx, open, io.LimitReader(content, 2<<20))
				_, _ = io.Copy(io.Discard, content)
				return info, err
			}}),
		},
		{
			ID: "fs/mode~umask", Kills: "fs/mode", Bug: "the umask takes from the mode that was asked for",
			Driver: files(fileBugs{write: changedOpen(func(open *providerv1.WriteFileOpen) { open.Permissions &^= 0o022 })}),
		},
		{
			ID: "fs/replace-is-atomic~in-place", Kills: "fs/replace-is-atomic", Bug: "a write that is cut leaves what came of it",
			Driver: files(fileBugs{write: func(d *fake.Driver, ctx context.Context, open *providerv1.WriteFileOpen, content io.Reader) (*providerv1.FileInfo, error) {
				all, err := io.ReadAll(content)
				info, wrote := d.WriteFile(context.WithoutCancel(ctx), open, bytes.NewReader(all))
				if err != nil {
					return nil, err
				}
				return info, wrote
			}}),
		},
		{
			ID: "fs/readers-see-one~torn", Kills: "fs/readers-see-one", Bug: "a large file is written in two steps",
			Driver: files(fileBugs{write: func(d *fake.Driver, ctx context.Context, open *providerv1.WriteFileOpen, content io.Reader) (*providerv1.FileInfo, error) {
				all, err := io.ReadAll(content)
				if err != nil {
					return d.WriteFile(ctx, open, cutOff{err})
				}
				if half := len(all) / 2; half > 100<<10 {
					if _, err := d.WriteFile(ctx, open, bytes.NewReader(all[:half])); err != nil {
						return nil, err
					}
					wait(ctx, 100*time.Millisecond) // which is most of the time
				}
				return d.WriteFile(ctx, open, bytes.NewReader(all))
			}}),
		},
		{
			ID: "fs/create-new~overwrites", Kills: "fs/create-new", Bug: "CREATE_NEW replaces a file that exists",
			Driver: files(fileBugs{write: changedOpen(func(open *providerv1.WriteFileOpen) { open.Mode = 0 })}),
			Also:   []string{"fs/write-part"},
		},
		{
			ID: "fs/read-part~to-the-end", Kills: "fs/read-part", Bug: "the length of a read is ignored",
			Driver: files(fileBugs{read: func(d *fake.Driver, ctx context.Context, req *providerv1.ReadFileRequest, send func(*providerv1.ReadFileResponse) error) error {
				req.Length = 0
				return d.ReadFile(ctx, req, send)
			}}),
		},
		{
			ID: "fs/write-part~truncates", Kills: "fs/write-part", Bug: "an append replaces the file",
			Driver: files(fileBugs{write: changedOpen(func(open *providerv1.WriteFileOpen) {
				if open.GetMode() == providerv1.WriteMode_WRITE_MODE_APPEND {
					open.Mode = providerv1.WriteMode_WRITE_MODE_REPLACE
				}
			})}),
		},
		{
			ID: "fs/owner~ignored", Kills: "fs/owner", Bug: "the user that a file is for is ignored",
			Driver: files(fileBugs{write: changedOpen(func(open *providerv1.WriteFileOpen) { open.User = "" })}),
		},
	}
}

// cutOff is content that ends with an error.
type cutOff struct{ err error }

func (f cutOff) Read([]byte) (int, error) { return 0, f.err }

func pathMutants() []Mutant {
	return []Mutant{
		{
			ID: "fs/names~newline", Kills: "fs/names", Bug: "a newline in a name is written as a space",
			Driver: files(fileBugs{write: changedOpen(func(open *providerv1.WriteFileOpen) { open.Path = strings.ReplaceAll(open.GetPath(), "\n", " ") })}),
		},
		{
			ID: "fs/bad-path~relative", Kills: "fs/bad-path", Bug: "a relative path is taken from the root",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"StatFile": before(func(_ context.Context, _ client, req *providerv1.StatFileRequest) {
					if !strings.HasPrefix(req.GetPath(), "/") {
						req.Path = "/"
					}
				})}
			}),
		},
		{
			ID: "fs/missing~empty", Kills: "fs/missing", Bug: "a missing file is read as an empty one",
			Driver: files(fileBugs{read: func(d *fake.Driver, ctx context.Context, req *providerv1.ReadFileRequest, send func(*providerv1.ReadFileResponse) error) error {
				err := d.ReadFile(ctx, req, send)
				if fault.Has(err, providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND) {
					return send(&providerv1.ReadFileResponse{Info: &providerv1.FileInfo{Path: req.GetPath()}})
				}
				return err
			}}),
		},
		{
			ID: "fs/refusals~overwrites", Kills: "fs/refusals", Bug: "a move replaces without being asked to", Also: []string{"fs/move"},
			Driver: files(fileBugs{move: func(d *fake.Driver, ctx context.Context, req *providerv1.MoveFileRequest) error {
				req.Overwrite = true
				return d.MoveFile(ctx, req)
			}}),
		},
		{
			ID: "fs/stays-inside~absolute", Kills: "fs/stays-inside", Bug: "absolute links are resolved outside of the sandbox",
			Driver: files(fileBugs{read: func(d *fake.Driver, ctx context.Context, req *providerv1.ReadFileRequest, send func(*providerv1.ReadFileResponse) error) error {
				info, err := d.StatFile(ctx, &providerv1.StatFileRequest{Sandbox: req.GetSandbox(), Path: req.GetPath()})
				if err == nil && strings.HasPrefix(info.GetLinkTarget(), "/") {
					return fault.New(providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND, "no %q on this machine", info.GetLinkTarget()).With("path", req.GetPath())
				}
				return d.ReadFile(ctx, req, send)
			}}),
		},
		{
			ID: "fs/stat-links~follows", Kills: "fs/stat-links", Bug: "a link is always followed",
			Driver: files(fileBugs{stat: func(req *providerv1.StatFileRequest) { req.Follow = true }}),
		},
	}
}

func folderMutants() []Mutant {
	return []Mutant{
		{
			ID: "fs/list-pages~repeats", Kills: "fs/list-pages", Bug: "a page begins with the last file of the one before",
			Wrap: wrapping(func() map[string]hook {
				return map[string]hook{"ListFiles": after(func(_ context.Context, _ client, req *providerv1.ListFilesRequest, resp *providerv1.ListFilesResponse) {
					if req.GetPageToken() != "" && len(resp.GetFiles()) > 0 {
						resp.Files = append(resp.Files[:1:1], resp.GetFiles()...)
					}
				})}
			}),
		},
		{
			ID: "fs/directories~mode", Kills: "fs/directories", Bug: "the mode of a folder is ignored",
			Driver: files(fileBugs{mkdir: func(req *providerv1.MakeDirectoryRequest) { req.Permissions = 0 }}),
		},
		{
			ID: "fs/move~copies", Kills: "fs/move", Bug: "a move leaves the file where it was",
			Driver: files(fileBugs{move: func(d *fake.Driver, ctx context.Context, req *providerv1.MoveFileRequest) error {
				err := d.MoveFile(ctx, req)
				if err == nil {
					_, _ = d.WriteFile(ctx, &providerv1.WriteFileOpen{Sandbox: req.GetSandbox(), Path: req.GetFrom()}, strings.NewReader("still here"))
				}
				return err
			}}),
		},
		{
			ID: "fs/remove-link~follows", Kills: "fs/remove-link", Bug: "removing a link removes what it points to",
			Driver: files(fileBugs{remove: func(d *fake.Driver, ctx context.Context, req *providerv1.RemoveFileRequest) {
				info, err := d.StatFile(ctx, &providerv1.StatFileRequest{Sandbox: req.GetSandbox(), Path: req.GetPath()})
				if err == nil && strings.HasPrefix(info.GetLinkTarget(), "/") {
					_, _ = d.RemoveFile(ctx, &providerv1.RemoveFileRequest{Sandbox: req.GetSandbox(), Path: info.GetLinkTarget(), Recursive: true})
				}
			}}),
		},
	}
}
