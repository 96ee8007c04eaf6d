package files

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sandbar-dev/sandbar/plugins/internal/runner"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// # What is said
//
// A script for perl, or sandbar-probe files, does one thing and prints lines
// of ASCII:
//
//	file KIND MODE UID GID SIZE MTIME NAME [TARGET]
//	more                a listing goes on behind the last file
//	absent              there was nothing to remove
//	errno NUMBER NAME   it was refused, as Linux numbers it; the last line
//	done                the last line
//
// KIND is r, d, l, or o for everything else. MODE is octal, MTIME in seconds since
// 1970. In names every byte but letters, digits and _./- is %XX. What it can be asked:
//
//	stat FOLLOW PATH
//	list DEEP LIMIT AFTER PATH                            names are below PATH
//	read OFFSET LENGTH TO PATH                            copies a part to file TO
//	write HOW MODE PARENTS OFFSET SPOOL PIECES PATH       HOW is replace, new, append or at
//	mkdir MODE PARENTS PATH
//	remove DEEP PATH
//	move OVERWRITE FROM TO
//	pack TO [NAME PATH]…                                  writes a tree to file TO
//	unpack OWNERS PATH SPOOL PIECES
//	drop FILE…
//
// What goes in was sent before, with Place.Send, to files SPOOL.0, SPOOL.1 and
// so on; what comes out is read with Place.Receive. A tree is a line as of stat for
// each file, followed by its content; KIND h is another name, of file TARGET.

//go:embed files.pl
var filesScript string

// said is what came of a call.
type said struct {
	files        []fileLine
	more, absent bool
	// errno is 0 unless it was refused, because of name.
	errno int
	name  string
	done  bool
}

// fileLine is a line about a file.
type fileLine struct {
	kind         string
	mode         uint32
	uid, gid     uint32
	size, mtime  int64
	name, target string
}

// fileKinds are the contract's words.
var fileKinds = map[string]providerv1.FileType{
	"r": providerv1.FileType_FILE_TYPE_REGULAR, "d": providerv1.FileType_FILE_TYPE_DIRECTORY, "l": providerv1.FileType_FILE_TYPE_SYMLINK,
	"o": providerv1.FileType_FILE_TYPE_OTHER,
}

// info is a file under a name of the caller's.
func (f fileLine) info(name string) *providerv1.FileInfo {
	out := &providerv1.FileInfo{
		Path: name, Type: fileKinds[f.kind], Size: f.size, Mode: f.mode, Uid: f.uid, Gid: f.gid,
		ModifiedAt: timestamppb.New(time.Unix(f.mtime, 0)), LinkTarget: strings.ToValidUTF8(f.target, "\uFFFD"),
	}
	if !utf8.ValidString(name) {
		out.Path = strings.ToValidUTF8(name, "\uFFFD")
		if base := path.Base(name); !utf8.ValidString(base) {
			out.NameBytes = []byte(base)
		}
	}
	return out
}

// parseFile reads a line that begins with file.
func parseFile(line string) (fileLine, error) {
	const least, most = 8, 9
	f := strings.Split(line, " ")
	if len(f) < least || len(f) > most || f[0] != "file" {
		return fileLine{}, fmt.Errorf("%w: %q", errLine, line[:min(len(line), 80)])
	}
	out := fileLine{kind: f[1]}
	mode, err := strconv.ParseUint(f[2], 8, 32)
	var n [4]int64
	for i := range n {
		var bad error
		n[i], bad = strconv.ParseInt(f[3+i], 10, 64)
		err = errors.Join(err, bad)
	}
	var bad error
	out.name, bad = url.PathUnescape(f[7])
	err = errors.Join(err, bad)
	if len(f) == most {
		out.target, bad = url.PathUnescape(f[8])
		err = errors.Join(err, bad)
	}
	if err != nil || n[2] < 0 {
		return fileLine{}, fmt.Errorf("%w: %q", errLine, line[:min(len(line), 80)])
	}
	out.mode, out.uid, out.gid, out.size, out.mtime = uint32(mode), uint32(n[0]), uint32(n[1]), n[2], n[3]
	return out, nil
}

// parseSaid reads all that a call printed.
func parseSaid(text string) (said, error) {
	var s said
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "file":
			f, err := parseFile(line)
			if err != nil {
				return s, err
			}
			s.files = append(s.files, f)
		case "more":
			s.more = true
		case "absent":
			s.absent = true
		case "done":
			s.done = true
		case "errno":
			number, name, _ := strings.Cut(rest, " ")
			n, err := strconv.Atoi(number)
			if err != nil || n <= 0 {
				return s, fmt.Errorf("%w: %q", errLine, line)
			}
			if s.name, err = url.PathUnescape(name); err != nil {
				return s, fmt.Errorf("%w: %q", errLine, line)
			}
			s.errno, s.done = n, true
		case "failed":
			return s, fault.New(providerv1.ErrorReason_ERROR_REASON_HOST_UNSUPPORTED, "files cannot be reached in this sandbox: %s", rest).
				With("missing", rest).With("remedy", "use an image that has perl")
		default:
			return s, fmt.Errorf("%w: %q", errLine, line[:min(len(line), 80)])
		}
	}
	return s, nil
}

// Whole reports whether text is all that a call prints: whether its last line is a last
// one. It is for a Place whose vendor does not say when a program has ended.
func Whole(text string) bool {
	at := strings.LastIndexByte(strings.TrimSuffix(text, "\n"), '\n') + 1
	return strings.HasSuffix(text, "\n") && (text[at:] == "done\n" || strings.HasPrefix(text[at:], "errno "))
}

// Place is what the vendor does for files of one sandbox. Its errors are the
// contract's.
type Place interface {
	// Run runs /bin/sh with arguments to its end, and returns what it prints on
	// standard output, which is ASCII. changes says that it may change something, and
	// root that it is to be run by root: where that cannot be, it is not.
	Run(ctx context.Context, args []string, changes, root bool) (string, error)
	// Send writes a file of the plugin's own.
	Send(ctx context.Context, name string, content []byte) error
	// Receive opens a file, as it is. The caller closes it.
	Receive(ctx context.Context, name string) (io.ReadCloser, error)
	// Background runs what outlives the call that starts it, for a while.
	Background(do func(ctx context.Context))
}

// Sandbox is the files of one sandbox.
type Sandbox struct {
	place Place
	id    string
	log   *slog.Logger
}

// Of returns the files of a sandbox.
func Of(place Place, id string, log *slog.Logger) *Sandbox {
	return &Sandbox{place: place, id: id, log: log}
}

// fileCall is one call about files of one sandbox.
type fileCall struct {
	b *Sandbox
	// changes says that it may change something, and root that it is to be done by
	// root.
	changes, root bool
}

func (b *Sandbox) call(changes bool) *fileCall { return &fileCall{b: b, changes: changes} }

// do asks for something, once.
func (f *fileCall) do(ctx context.Context, what string, args ...string) (said, error) {
	text, err := f.b.place.Run(ctx, append([]string{"-c", runner.Launcher, "sandbar", "files", filesScript, what}, args...), f.changes, f.root)
	if err != nil {
		return said{}, err
	}
	return f.judge(text)
}

func (f *fileCall) judge(text string) (said, error) {
	s, err := parseSaid(text)
	var known *fault.Error
	switch {
	case errors.As(err, &known):
		return s, known
	case err != nil || !s.done:
		return s, fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, "what became of a call about files cannot be understood: %w",
			errors.Join(err, errNoEnd)).WithEffect(f.effect())
	case s.errno != 0:
		return s, f.refused(s.errno, s.name)
	}
	return s, nil
}

// errLine says that a line is none of those.
var errLine = errors.New("a line cannot be understood")

// errNoEnd says that a call ended without its last line.
var errNoEnd = errors.New("it did not say how it ended")

func (f *fileCall) effect() providerv1.Effect {
	if f.changes {
		return providerv1.Effect_EFFECT_UNKNOWN
	}
	return providerv1.Effect_EFFECT_NONE
}

// refused is a refusal of the sandbox's file system.
func (f *fileCall) refused(errno int, name string) error {
	shown := strings.ToValidUTF8(name, "\uFFFD")
	switch {
	case errno == noEntry && strings.HasPrefix(name, spoolPrefix):
		return fault.New(providerv1.ErrorReason_ERROR_REASON_UPSTREAM_PROTOCOL, "what was sent to the sandbox is not there any more").WithEffect(f.effect())
	case errno == noEntry:
		return NotFound(shown)
	}
	word, ok := errnos[errno]
	if !ok {
		word = "errno " + strconv.Itoa(errno)
	}
	return fileRefused(shown, word, "the sandbox's file system says "+word)
}

// NotFound says that there is no file of a name.
func NotFound(name string) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND, "%s: there is no such file", name).With("path", name)
}

func fileRefused(name, errno, why string) error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED, "%s: %s", name, why).With("path", name).With("errno", errno)
}

const noEntry = 2

// errnos are those of Linux that a file system has.
var errnos = map[int]string{
	1: "EPERM", 4: "EINTR", 5: "EIO", 6: "ENXIO", 11: "EAGAIN", 12: "ENOMEM", 13: "EACCES", 16: "EBUSY", 17: "EEXIST", 18: "EXDEV", 20: "ENOTDIR",
	21: "EISDIR", 22: "EINVAL", 23: "ENFILE", 24: "EMFILE", 26: "ETXTBSY", 27: "EFBIG", 28: "ENOSPC", 30: "EROFS", 31: "EMLINK",
	36: "ENAMETOOLONG", 38: "ENOSYS", 39: "ENOTEMPTY", 40: "ELOOP", 75: "EOVERFLOW", 95: "EOPNOTSUPP", 116: "ESTALE", 122: "EDQUOT",
}
