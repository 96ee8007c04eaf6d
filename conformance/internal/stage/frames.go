package stage

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// received is what came of one stream.
type received struct {
	// asked is the offset the attachment asked for, -1 to leave the stream out;
	// from is where it began.
	asked, from int64
	// n counts the bytes that came, skipped those that were dropped between them.
	n, skipped int64
	// data are the bytes, or, where there are too many to keep, sum is of them.
	data []byte
	sum  hash.Hash
	eof  bool
}

// next is the offset after what came.
func (r *received) next() int64 { return max(r.from, 0) + r.n + r.skipped }

// missing is what was asked for and did not come.
func (r *received) missing() int64 { return r.from - r.asked + r.skipped }

func (r *received) keep(data []byte) {
	r.n += int64(len(data))
	if r.sum != nil {
		_, _ = r.sum.Write(data) // a hash does not fail
		return
	}
	r.data = append(r.data, data...)
}

// hashed makes a stream keep a digest in place of its bytes.
func (r *received) hashed() { r.sum = sha256.New() }

// take checks one frame and keeps it. The caller holds mu.
func (a *Attachment) take(out *providerv1.ExecOutput) {
	if a.done != nil || a.fault != nil {
		a.t.Errorf("%s: a frame %T came after the last one", a.what, out.GetFrame())
		return
	}
	if opened := out.GetOpened(); opened != nil {
		a.takeOpened(opened)
		return
	}
	if a.opened == nil {
		a.t.Errorf("%s: the first frame is %T: want Opened", a.what, out.GetFrame())
	}
	switch f := out.GetFrame().(type) {
	case *providerv1.ExecOutput_Data:
		a.takeData(f.Data)
	case *providerv1.ExecOutput_StdinAck:
		a.takeAck(f.StdinAck)
	case *providerv1.ExecOutput_Exit:
		if a.exit != nil {
			a.t.Errorf("%s: Exit came twice", a.what)
		}
		a.exit = f.Exit
	case *providerv1.ExecOutput_Done:
		a.takeDone(f.Done)
	case *providerv1.ExecOutput_Fault:
		a.fault = fault.FromProto(f.Fault)
	default:
		a.t.Errorf("%s: an empty frame came", a.what)
	}
}

func (a *Attachment) takeOpened(opened *providerv1.ExecOpened) {
	if a.opened != nil {
		a.t.Errorf("%s: Opened came twice", a.what)
	}
	a.opened = opened
	a.stdin = opened.GetStdinNext()
	for s, from := range map[providerv1.ExecStream]int64{
		providerv1.ExecStream_EXEC_STREAM_STDOUT: opened.GetStdoutFrom(), providerv1.ExecStream_EXEC_STREAM_STDERR: opened.GetStderrFrom(),
	} {
		r := &a.streams[s]
		if a.leftOut(s) {
			continue
		}
		if from != r.asked && (!a.fromOldest || from < r.asked) {
			a.t.Errorf("%s: Opened says that %s starts at offset %d: want %d, as asked for", a.what, s, from, r.asked)
		}
		r.from = from
	}
}

func (a *Attachment) takeData(d *providerv1.ExecData) {
	s := d.GetStream()
	if s != providerv1.ExecStream_EXEC_STREAM_STDOUT && s != providerv1.ExecStream_EXEC_STREAM_STDERR {
		a.t.Errorf("%s: data of stream %s", a.what, s)
		return
	}
	if a.leftOut(s) {
		a.t.Errorf("%s: data of %s, which the attachment did not ask for", a.what, s)
		return
	}
	r := &a.streams[s]
	if want := r.next(); d.GetOffset() != want && len(d.GetData()) > 0 {
		if a.mayDrop && d.GetOffset() > want {
			r.skipped += d.GetOffset() - want
		} else {
			a.t.Errorf("%s: data of %s at offset %d: want %d, the end of what came before", a.what, s, d.GetOffset(), want)
		}
	}
	if r.eof && len(d.GetData()) > 0 {
		a.t.Errorf("%s: data of %s came after its end", a.what, s)
	}
	if len(d.GetData()) > handshake.FrameBytes {
		a.t.Errorf("%s: a frame of %d bytes: want at most %d", a.what, len(d.GetData()), handshake.FrameBytes)
	}
	r.keep(d.GetData())
	r.eof = r.eof || d.GetEof()
}

// takeAck checks that standard input is never acknowledged back. It may be
// acknowledged beyond what this attachment sent: another may write.
func (a *Attachment) takeAck(ack *providerv1.ExecStdinAck) {
	if ack.GetNext() < a.taken() {
		a.t.Errorf("%s: standard input was acknowledged up to %d, then up to %d", a.what, a.taken(), ack.GetNext())
	}
	a.acked = ack
}

func (a *Attachment) takeDone(done *providerv1.ExecDone) {
	a.done = done
	if a.exit == nil {
		a.t.Errorf("%s: Done came without an Exit before it", a.what)
	}
	for s, said := range map[providerv1.ExecStream]struct{ total, missing int64 }{
		providerv1.ExecStream_EXEC_STREAM_STDOUT: {done.GetStdoutTotal(), done.GetStdoutMissing()},
		providerv1.ExecStream_EXEC_STREAM_STDERR: {done.GetStderrTotal(), done.GetStderrMissing()},
	} {
		r := &a.streams[s]
		switch {
		case a.leftOut(s):
		case said.missing != r.missing():
			a.t.Errorf("%s: Done says that %d bytes of %s are missing: want %d, as the offsets say", a.what, said.missing, s, r.missing())
		case r.next() != said.total:
			a.t.Errorf("%s: Done says that %s has %d bytes, and what came ends at offset %d", a.what, s, said.total, r.next())
		case !r.eof:
			a.t.Errorf("%s: Done came before the end of %s", a.what, s)
		}
	}
}

// leftOut reports whether the attachment asked not to get a stream. The caller
// holds mu.
func (a *Attachment) leftOut(s providerv1.ExecStream) bool { return a.streams[s].asked < 0 }

// finish notes the end of the stream. The caller holds mu.
func (a *Attachment) finish(err error) {
	a.err = err
	if !errors.Is(err, io.EOF) {
		a.fault = fault.From(err)
	}
}
