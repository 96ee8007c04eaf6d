package files

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strconv"
	"strings"
)

const (
	// spoolPrefix is of files that content is in on its way.
	spoolPrefix = "/tmp/.sandbar-files-"
	// pieceBytes is how much is sent at once. How much the vendor takes is not
	// documented; this is little enough to be kept in memory.
	pieceBytes = 4 << 20
)

func spoolName() string { return spoolPrefix + strings.ToLower(rand.Text()) }

// cargo sends content to a sandbox in pieces. What does not fill one is kept until
// close, so that of most content nothing is there when it is cut.
type cargo struct {
	f      *fileCall
	ctx    context.Context //nolint:containedctx // of the one call that it is part of
	name   string
	pieces int
	rest   []byte
}

func (f *fileCall) cargo(ctx context.Context) *cargo {
	return &cargo{f: f, ctx: ctx, name: spoolName()}
}

// Write implements io.Writer. Its errors are the contract's.
func (x *cargo) Write(b []byte) (int, error) {
	x.rest = append(x.rest, b...)
	for len(x.rest) >= pieceBytes {
		if err := x.send(x.rest[:pieceBytes]); err != nil {
			return 0, err
		}
		x.rest = append(x.rest[:0], x.rest[pieceBytes:]...)
	}
	return len(b), nil
}

func (x *cargo) send(content []byte) error {
	name := x.name + "." + strconv.Itoa(x.pieces)
	x.pieces++ // whatever becomes of it
	return x.f.b.place.Send(x.ctx, name, content)
}

// fill sends everything. An error of content is returned as it is.
func (x *cargo) fill(content io.Reader) error {
	if _, err := io.Copy(x, content); err != nil {
		return err
	}
	return x.close()
}

// close sends what is left.
func (x *cargo) close() error {
	if len(x.rest) == 0 {
		return nil
	}
	err := x.send(x.rest)
	x.rest = nil
	return err
}

// args are those of a call that takes it over.
func (x *cargo) args() (string, string) { return x.name, strconv.Itoa(x.pieces) }

// drop removes what was sent, unless a call has said that it took it over.
func (x *cargo) drop(taken bool) {
	if taken || x.pieces == 0 {
		return
	}
	names := make([]string, x.pieces)
	for i := range names {
		names[i] = x.name + "." + strconv.Itoa(i)
	}
	x.f.remove(names...)
}

// remove removes files of the plugin's own, afterwards.
func (f *fileCall) remove(names ...string) {
	own := *f
	own.changes = true
	f.b.place.Background(func(ctx context.Context) {
		if _, err := own.do(ctx, "drop", names...); err != nil && !errors.Is(err, context.Canceled) {
			f.b.log.Warn("files that content was sent in could not be removed", "sandbox_id", f.b.id, "error", err)
		}
	})
}
