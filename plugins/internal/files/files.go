package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/internal/upstream"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

func flag(set bool) string {
	if set {
		return "1"
	}
	return "0"
}

func octal(mode uint32) string { return strconv.FormatUint(uint64(mode), 8) }

// one is the file that a call told of.
func (f *fileCall) one(s said, name string) (*providerv1.FileInfo, error) {
	if len(s.files) != 1 {
		return nil, fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, "a call about one file told of %d", len(s.files)).WithEffect(f.effect())
	}
	return s.files[0].info(path.Clean(name)), nil
}

// StatFile serves sdk.FileReader.
func (b *Sandbox) StatFile(ctx context.Context, req *providerv1.StatFileRequest) (*providerv1.FileInfo, error) {
	f := b.call(false)
	s, err := f.do(ctx, "stat", flag(req.GetFollow()), req.GetPath())
	if err != nil {
		return nil, err
	}
	return f.one(s, req.GetPath())
}

// ReadFile serves sdk.FileReader. A whole file is read with the vendor's call,
// which knows no parts: a part is copied inside before, and the copy is read.
func (b *Sandbox) ReadFile(ctx context.Context, req *providerv1.ReadFileRequest, send func(*providerv1.ReadFileResponse) error) error {
	f := b.call(false)
	from, part := req.GetPath(), ""
	if req.GetOffset() > 0 || req.GetLength() > 0 {
		part = spoolName()
		from = part
	}
	s, err := f.do(ctx, "read", strconv.FormatInt(req.GetOffset(), 10), strconv.FormatInt(req.GetLength(), 10), part, req.GetPath())
	if err != nil {
		return err
	}
	if part != "" {
		defer f.remove(part)
	}
	info, err := f.one(s, req.GetPath())
	if err != nil {
		return err
	}
	body, err := f.b.place.Receive(ctx, from)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // it was only read
	if err := send(&providerv1.ReadFileResponse{Info: info}); err != nil {
		return err
	}
	const block = 256 << 10
	buf := make([]byte, block)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if err := send(&providerv1.ReadFileResponse{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return upstream.Explain(fmt.Errorf("the file was cut: %w", err), false)
		}
	}
}

// ListFiles serves sdk.FileReader. A page token is the name of the last file, as
// the sandbox spells it.
func (b *Sandbox) ListFiles(ctx context.Context, req *providerv1.ListFilesRequest) (*providerv1.ListFilesResponse, error) {
	f := b.call(false)
	s, err := f.do(ctx, "list", flag(req.GetRecursive()), strconv.Itoa(int(req.GetPageSize())), req.GetPageToken(), req.GetPath())
	if err != nil {
		return nil, err
	}
	out := &providerv1.ListFilesResponse{}
	base := strings.TrimSuffix(path.Clean(req.GetPath()), "/")
	for _, file := range s.files {
		out.Files = append(out.Files, file.info(base+"/"+file.name))
	}
	if s.more && len(s.files) > 0 {
		out.NextPageToken = spell(s.files[len(s.files)-1].name)
	}
	return out, nil
}

// spell writes a name so that it is text without spaces, whatever its bytes are.
func spell(name string) string {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./-"
	var out strings.Builder
	for i := range len(name) {
		if strings.IndexByte(plain, name[i]) >= 0 {
			out.WriteByte(name[i])
		} else {
			fmt.Fprintf(&out, "%%%02X", name[i])
		}
	}
	return out.String()
}

var writeModes = map[providerv1.WriteMode]string{
	providerv1.WriteMode_WRITE_MODE_UNSPECIFIED: "replace", providerv1.WriteMode_WRITE_MODE_REPLACE: "replace",
	providerv1.WriteMode_WRITE_MODE_CREATE_NEW: "new", providerv1.WriteMode_WRITE_MODE_APPEND: "append",
	providerv1.WriteMode_WRITE_MODE_AT_OFFSET: "at",
}

// WriteFile serves sdk.FileWriter. Content is sent first, beside the file, and
// takes its place when all of it is there.
func (b *Sandbox) WriteFile(ctx context.Context, open *providerv1.WriteFileOpen, content io.Reader) (*providerv1.FileInfo, error) {
	f := b.call(true)
	x, taken := f.cargo(ctx), false
	defer func() { x.drop(taken) }()
	if err := x.fill(content); err != nil {
		return nil, err
	}
	spool, pieces := x.args()
	s, err := f.do(ctx, "write", writeModes[open.GetMode()], octal(open.GetPermissions()), flag(open.GetMakeParents()),
		strconv.FormatInt(open.GetOffset(), 10), spool, pieces, open.GetPath())
	taken = s.done
	if err != nil {
		return nil, err
	}
	return f.one(s, open.GetPath())
}

// MakeDirectory serves sdk.FileWriter.
func (b *Sandbox) MakeDirectory(ctx context.Context, req *providerv1.MakeDirectoryRequest) error {
	_, err := b.call(true).do(ctx, "mkdir", octal(req.GetPermissions()), flag(req.GetParents()), req.GetPath())
	return err
}

// RemoveFile serves sdk.FileWriter.
func (b *Sandbox) RemoveFile(ctx context.Context, req *providerv1.RemoveFileRequest) (*providerv1.RemoveFileResponse, error) {
	f := b.call(true)
	s, err := f.do(ctx, "remove", flag(req.GetRecursive()), req.GetPath())
	if err != nil {
		return nil, err
	}
	return &providerv1.RemoveFileResponse{AlreadyAbsent: s.absent}, nil
}

// MoveFile serves sdk.FileWriter. To another mount it is refused with EXDEV.
func (b *Sandbox) MoveFile(ctx context.Context, req *providerv1.MoveFileRequest) error {
	_, err := b.call(true).do(ctx, "move", flag(req.GetOverwrite()), req.GetFrom(), req.GetTo())
	return err
}
