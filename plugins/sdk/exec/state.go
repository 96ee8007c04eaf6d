package exec

import (
	"math"
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Indexes of the two output streams.
const (
	stdout = 0
	stderr = 1
)

var streamNames = [2]string{"stdout", "stderr"}

// state is everything that is known about one exec. It does no I/O and takes no
// lock: a session guards it, and tests drive it step by step.
type state struct {
	key    Key
	digest []byte
	spec   *providerv1.ExecSpec

	logs [2]outputLog
	// mark is the highest offset that any reader ever acknowledged.
	mark    [2]int64
	readers map[*cursor]struct{}

	in inputQueue
	// writer is the one attachment that may send stdin, or nil.
	writer *cursor

	phase     providerv1.ExecState
	exit      *providerv1.ExitStatus
	startedAt time.Time
	endedAt   time.Time
	// sizeSeq is the highest resize seen.
	sizeSeq uint64
}

func newState(key Key, digest []byte, spec *providerv1.ExecSpec, retain int, now time.Time) *state {
	end := int64(0) // without stdin the command reads end-of-file at once
	if spec.GetStdin() {
		end = -1
	}
	return &state{
		key: key, digest: digest, spec: spec, startedAt: now,
		phase:   providerv1.ExecState_EXEC_STATE_RUNNING,
		logs:    [2]outputLog{{limit: int64(retain)}, {limit: int64(retain)}},
		readers: map[*cursor]struct{}{},
		in:      inputQueue{end: end},
	}
}

// keep returns the offset from which on stream i must be retained. With readers
// attached that is the lowest acknowledgement among them: none of them ever
// misses a byte, and the slowest one sets the command's pace. Without readers it
// is the highest acknowledgement ever made. DROP_OLDEST keeps nothing.
func (st *state) keep(i int) int64 {
	if st.spec.GetOutputPolicy() == providerv1.OutputPolicy_OUTPUT_POLICY_DROP_OLDEST {
		return math.MaxInt64
	}
	low := int64(-1)
	for c := range st.readers {
		if c.pos[i] >= 0 && (low < 0 || c.acked[i] < low) {
			low = c.acked[i]
		}
	}
	if low >= 0 {
		return low
	}
	return st.mark[i]
}

// drained reports whether nothing more will be added: the end is known and both
// streams are at theirs.
func (st *state) drained() bool {
	return st.exit != nil && st.logs[stdout].eof && st.logs[stderr].eof
}

// open adds an attachment. The caller removes it with leave.
func (st *state) open(req *providerv1.ExecOpen) (*cursor, error) {
	c := &cursor{stdinSent: -1}
	for i, from := range [2]int64{req.GetStdoutFrom(), req.GetStderrFrom()} {
		start, err := st.startOf(i, from, req.GetFromOldest())
		if err != nil {
			return nil, err
		}
		c.pos[i], c.acked[i] = start, start
		if start > from {
			c.missing[i] = start - from
		}
	}
	if req.GetStdin() {
		if !st.spec.GetStdin() {
			return nil, fault.Field("input.open.stdin", "true", "the command was started without stdin; want false")
		}
		c.stdin = true
		st.writer = c
	}
	st.readers[c] = struct{}{}
	return c, nil
}

func (st *state) startOf(i int, from int64, fromOldest bool) (int64, error) {
	log := &st.logs[i]
	field := "input.open." + streamNames[i] + "_from"
	switch {
	case from < -1:
		return 0, fault.Field(field, strconv.FormatInt(from, 10), "want an offset of 0 or more, or -1 to leave the stream out")
	case from > log.total:
		return 0, fault.Field(field, strconv.FormatInt(from, 10),
			"the stream has "+strconv.FormatInt(log.total, 10)+" bytes so far; want at most that")
	case from < 0 || from >= log.oldest:
		return from, nil
	case fromOldest:
		return log.oldest, nil
	}
	oldest := strconv.FormatInt(log.oldest, 10)
	return 0, fault.New(providerv1.ErrorReason_ERROR_REASON_OFFSET_EVICTED,
		"%s from offset %d is no longer retained: the oldest byte is %s", streamNames[i], from, oldest).
		With("stream", streamNames[i]).With("offset", strconv.FormatInt(from, 10)).With("oldest_offset", oldest)
}

func (st *state) leave(c *cursor) {
	delete(st.readers, c)
	if st.writer == c {
		st.writer = nil
	}
}

// acknowledge takes over an Ack frame.
func (st *state) acknowledge(c *cursor, ack *providerv1.ExecAck) error {
	for i, v := range [2]int64{ack.GetStdout(), ack.GetStderr()} {
		if c.pos[i] < 0 {
			continue
		}
		if v > c.pos[i] {
			return fault.Field("input.ack."+streamNames[i], strconv.FormatInt(v, 10),
				"this attachment was sent bytes up to "+strconv.FormatInt(c.pos[i], 10)+"; want at most that")
		}
		c.acked[i] = max(c.acked[i], v)
		st.mark[i] = max(st.mark[i], v)
	}
	return nil
}

// acknowledgeSent counts all that was sent to c as acknowledged.
func (st *state) acknowledgeSent(c *cursor) {
	for i := range c.pos {
		if c.pos[i] >= 0 {
			c.acked[i] = max(c.acked[i], c.pos[i])
			st.mark[i] = max(st.mark[i], c.pos[i])
		}
	}
}

// mayWrite reports why c may not send stdin, or nil.
func (st *state) mayWrite(c *cursor) error {
	switch {
	case !c.stdin:
		return fault.Field("input.open.stdin", "false", "an attachment that sends stdin must open with stdin true")
	case st.writer != c:
		return fault.New(providerv1.ErrorReason_ERROR_REASON_OBJECT_IN_USE,
			"stdin of exec %q was taken over by a newer attachment", st.key.Exec).
			With("exec_id", st.key.Exec).With("used_by", "attachment")
	}
	return nil
}

// end records how the command ended.
func (st *state) end(exit *providerv1.ExitStatus, now time.Time) {
	st.exit, st.endedAt = exit, now
	st.phase = providerv1.ExecState_EXEC_STATE_EXITED
	if exit.GetCause() == providerv1.ExitCause_EXIT_CAUSE_UNKNOWN {
		st.phase = providerv1.ExecState_EXEC_STATE_UNKNOWN
	}
	st.in.discard()
}
