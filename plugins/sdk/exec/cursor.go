package exec

import (
	"strconv"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
	"github.com/sandbar-dev/sandbar/proto/handshake"
)

// cursor is one attachment's place in an exec: what it was sent and what it
// acknowledged. It is pure; see state.
type cursor struct {
	// pos is the next offset to send; -1: the stream was not asked for.
	pos     [2]int64
	acked   [2]int64
	missing [2]int64
	eofSent [2]bool

	stdin     bool
	stdinSent int64
	goneSent  bool

	opened   bool
	exitSent bool
	// last is the stream served last, so that both get their turn.
	last int
	// failure ends the attachment with a Fault.
	failure *fault.Error
}

type frameKind int

const (
	frameOpened frameKind = iota
	frameData
	frameStdinAck
	frameExit
	frameDone
	frameFault
)

// frame is a step of the protocol. It is turned into a message outside the lock.
type frame struct {
	kind   frameKind
	stream int
	// offset is the data's, or the next one of stdin.
	offset int64
	data   []byte
	eof    bool
	// body is set for the rare kinds.
	body *providerv1.ExecOutput
}

// final reports whether the attachment ends with this frame.
func (f frame) final() bool { return f.kind == frameDone || f.kind == frameFault }

// next returns the frame to send now, if there is one. Order: Opened, a failure,
// Exit as soon as it is known, StdinAck, then data of the two streams in turn,
// and Done when nothing more can come.
func (c *cursor) next(st *state) (frame, bool) {
	switch {
	case !c.opened:
		c.opened = true
		return outputFrame(frameOpened, &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Opened{Opened: &providerv1.ExecOpened{
			StdoutFrom: c.pos[stdout], StderrFrom: c.pos[stderr], StdinNext: st.in.written,
		}}}), true
	case c.failure != nil:
		return faultFrame(c.failure), true
	case st.exit != nil && !c.exitSent:
		c.exitSent = true
		return outputFrame(frameExit, &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Exit{Exit: st.exit}}), true
	case c.stdin && (st.in.written > c.stdinSent || st.in.gone != c.goneSent):
		c.stdinSent, c.goneSent = st.in.written, st.in.gone
		return frame{kind: frameStdinAck, offset: st.in.written, eof: st.in.gone}, true
	}
	for range c.pos {
		c.last = 1 - c.last
		if f, ok := c.data(st, c.last); ok {
			return f, true
		}
	}
	if c.finished(st) {
		return c.done(st), true
	}
	return frame{}, false
}

func (c *cursor) data(st *state, i int) (frame, bool) {
	log := &st.logs[i]
	if c.pos[i] < 0 || c.eofSent[i] {
		return frame{}, false
	}
	if c.pos[i] < log.oldest { // only under DROP_OLDEST
		c.missing[i] += log.oldest - c.pos[i]
		c.pos[i] = log.oldest
	}
	f := frame{kind: frameData, stream: i, offset: c.pos[i], data: log.view(c.pos[i], handshake.FrameBytes)}
	c.pos[i] += int64(len(f.data))
	f.eof = log.eof && c.pos[i] == log.total
	if f.eof && log.broken != nil {
		if len(f.data) > 0 { // deliver what there is first
			f.eof = false
			return f, true
		}
		return faultFrame(truncated(st.key, i, log)), true
	}
	c.eofSent[i] = f.eof
	return f, len(f.data) > 0 || f.eof
}

func truncated(key Key, i int, log *outputLog) *fault.Error {
	return fault.New(providerv1.ErrorReason_ERROR_REASON_OUTPUT_TRUNCATED,
		"%s of exec %q was lost after %d bytes: %w", streamNames[i], key.Exec, log.total, log.broken).
		With("exec_id", key.Exec).With("stream", streamNames[i]).With("offset", strconv.FormatInt(log.total, 10))
}

func (c *cursor) finished(st *state) bool {
	if !st.drained() {
		return false
	}
	for i := range c.pos {
		if c.pos[i] >= 0 && !c.eofSent[i] {
			return false
		}
	}
	return true
}

func (c *cursor) done(st *state) frame {
	return outputFrame(frameDone, &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Done{Done: &providerv1.ExecDone{
		StdoutTotal: st.logs[stdout].total, StderrTotal: st.logs[stderr].total, Exit: st.exit,
		StdoutMissing: c.missing[stdout], StderrMissing: c.missing[stderr],
	}}})
}

func outputFrame(kind frameKind, body *providerv1.ExecOutput) frame {
	return frame{kind: kind, body: body}
}

func faultFrame(err *fault.Error) frame {
	return outputFrame(frameFault, &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_Fault{Fault: err.ToProto()}})
}

// dataMessage is a whole data message in one allocation.
type dataMessage struct {
	response providerv1.AttachExecResponse
	output   providerv1.ExecOutput
	frame    providerv1.ExecOutput_Data
	data     providerv1.ExecData
}

// message builds what goes on the wire.
func (f frame) message() *providerv1.AttachExecResponse {
	switch f.kind {
	case frameData:
		m := &dataMessage{}
		m.data.Stream = providerv1.ExecStream_EXEC_STREAM_STDOUT
		if f.stream == stderr {
			m.data.Stream = providerv1.ExecStream_EXEC_STREAM_STDERR
		}
		m.data.Offset, m.data.Data, m.data.Eof = f.offset, f.data, f.eof
		m.frame.Data = &m.data
		m.output.Frame = &m.frame
		m.response.Output = &m.output
		return &m.response
	case frameStdinAck:
		return &providerv1.AttachExecResponse{Output: &providerv1.ExecOutput{Frame: &providerv1.ExecOutput_StdinAck{
			StdinAck: &providerv1.ExecStdinAck{Next: f.offset, Closed: f.eof},
		}}}
	default:
		return &providerv1.AttachExecResponse{Output: f.body}
	}
}
