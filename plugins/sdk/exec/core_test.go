package exec

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestOutputLogAgainstAModel drives a log at random and compares it with the
// whole stream in a slice.
func TestOutputLogAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(1, 5*fullChunk).Draw(t, "limit")
		log := outputLog{limit: limit}
		var model []byte
		var keep int64
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0: // the reader acknowledges
				keep = rapid.Int64Range(keep, log.total).Draw(t, "ack")
			case 1: // somebody looks
				from := rapid.Int64Range(log.oldest, log.total).Draw(t, "from")
				got := log.view(from, fullChunk)
				if !bytes.Equal(got, model[from:from+int64(len(got))]) {
					t.Fatalf("view(%d) differs from the stream", from)
				}
				if len(got) == 0 && from < log.total {
					t.Fatalf("view(%d) is empty and total is %d", from, log.total)
				}
			default:
				room := log.room(keep)
				if room <= 0 {
					if log.total-max(keep, log.oldest) < limit {
						t.Fatalf("no room although %d of %d bytes are unacknowledged", log.total-keep, limit)
					}
					continue
				}
				buf := log.tail(room)
				if len(buf) == 0 {
					t.Fatal("room and no space")
				}
				n := rapid.IntRange(0, len(buf)).Draw(t, "n")
				for i := range n {
					buf[i] = byte(len(model) + i*7)
				}
				model = append(model, buf[:n]...)
				log.commit(n, keep)
			}
			if log.total != int64(len(model)) {
				t.Fatalf("total %d, want %d", log.total, len(model))
			}
			if log.oldest > keep {
				t.Fatalf("oldest is %d: bytes from %d on were not acknowledged", log.oldest, keep)
			}
			if kept := log.total - log.oldest; kept > limit {
				t.Fatalf("%d bytes kept, limit %d", kept, limit)
			}
			if want := min(limit, log.total); log.total-log.oldest < want {
				t.Fatalf("%d bytes kept, promised %d", log.total-log.oldest, want)
			}
		}
		if got := log.retained(); !bytes.Equal(got, model[log.oldest:]) {
			t.Fatal("retained differs from the stream")
		}
		log.finish(nil)
		if got := log.retained(); !bytes.Equal(got, model[log.oldest:]) {
			t.Fatal("finish changed what is retained")
		}
	})
}

func TestMemoryOfALogIsBounded(t *testing.T) {
	log := outputLog{limit: 256 << 10}
	for range 4000 {
		n := copy(log.tail(fullChunk), make([]byte, 20<<10))
		log.commit(n, 1<<62)
	}
	held := 0
	for _, c := range log.chunks {
		held += cap(c.data)
	}
	if held > int(log.limit)+2*fullChunk {
		t.Errorf("%d bytes held for a limit of %d", held, log.limit)
	}
}

// TestInputDeliversEveryByteOnce resends, overlaps and reorders at random.
func TestInputDeliversEveryByteOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		source := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "source")
		q := inputQueue{end: -1}
		var got []byte
		take := func() {
			data, _ := q.next()
			n := rapid.IntRange(0, len(data)).Draw(t, "written")
			got = append(got, data[:n]...)
			q.wrote(n)
		}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			from := rapid.IntRange(0, len(source)).Draw(t, "from")
			to := rapid.IntRange(from, len(source)).Draw(t, "to")
			before := q.accepted
			err := q.accept(int64(from), source[from:to])
			if gap := int64(from) > before; gap != (err != nil) {
				t.Fatalf("offset %d with %d accepted: error %v", from, before, err)
			}
			if err == nil && q.accepted != max(before, int64(to)) {
				t.Fatalf("accepted %d after %d..%d, was %d", q.accepted, from, to, before)
			}
			take()
		}
		if err := q.accept(q.accepted, source[q.accepted:]); err != nil {
			t.Fatal(err)
		}
		if err := q.close(int64(len(source))); err != nil {
			t.Fatal(err)
		}
		if err := q.close(int64(len(source))); err != nil {
			t.Fatalf("a repeated close: %v", err)
		}
		if err := q.accept(int64(len(source)), []byte("x")); err == nil {
			t.Fatal("input behind the close was accepted")
		}
		for {
			data, done := q.next()
			if data == nil {
				if !done || !bytes.Equal(got, source) {
					t.Fatalf("done %v, got %q, want %q", done, got, source)
				}
				return
			}
			got = append(got, data...)
			q.wrote(len(data))
		}
	})
}

func TestInputCloseMustMatch(t *testing.T) {
	q := inputQueue{end: -1}
	if err := q.accept(0, []byte("abc")); err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int64{-2, 0, 2, 4} {
		if err := q.close(offset); err == nil {
			t.Errorf("close at %d of 3 was accepted", offset)
		}
	}
	q.discard()
	if _, done := q.next(); q.written != 3 || done {
		t.Errorf("after discard: written %d, done %v", q.written, done)
	}
	if err := q.accept(3, []byte("more")); err != nil || q.written != 7 {
		t.Errorf("input nobody reads must be taken and thrown away: %v, written %d", err, q.written)
	}
}

// script runs a state step by step and returns what an attachment is sent.
type script struct {
	t  *testing.T
	st *state
}

func newScript(t *testing.T, spec *providerv1.ExecSpec, retain int) *script {
	t.Helper()
	return &script{t, newState(Key{"sbx", "exe"}, nil, spec, retain, time.Unix(0, 0))}
}

func (s *script) out(i int, text string) {
	s.t.Helper()
	for text != "" {
		room := s.st.logs[i].room(s.st.keep(i))
		if room <= 0 {
			s.t.Fatalf("no room for %q", text)
		}
		n := copy(s.st.logs[i].tail(room), text)
		s.st.logs[i].commit(n, s.st.keep(i))
		text = text[n:]
	}
}

func (s *script) open(req *providerv1.ExecOpen) *cursor {
	s.t.Helper()
	c, err := s.st.open(req)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// frames returns all that c is sent now, in a short notation.
func (s *script) frames(c *cursor) []string {
	var out []string
	for {
		f, ok := c.next(s.st)
		if !ok {
			return out
		}
		out = append(out, notation(f))
		if f.final() {
			return out
		}
	}
}

func notation(f frame) string {
	switch f.kind {
	case frameOpened:
		return "opened"
	case frameData:
		text := streamNames[f.stream] + ":" + string(f.data)
		if f.eof {
			text += "$"
		}
		return text
	case frameStdinAck:
		return "stdin"
	case frameExit:
		return "exit"
	case frameDone:
		return "done"
	}
	return "fault:" + f.body.GetFault().GetReason().String()
}

func (s *script) want(c *cursor, want ...string) {
	s.t.Helper()
	got := s.frames(c)
	if len(got) != len(want) {
		s.t.Fatalf("frames %q, want %q", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			s.t.Fatalf("frames %q, want %q", got, want)
		}
	}
}

func TestTranscriptOfAnAttachment(t *testing.T) {
	s := newScript(t, &providerv1.ExecSpec{}, 1<<10)
	c := s.open(&providerv1.ExecOpen{})
	s.want(c, "opened")
	s.out(stdout, "ab")
	s.out(stderr, "x")
	s.want(c, "stderr:x", "stdout:ab")
	s.st.end(Exited(0), time.Unix(1, 0))
	s.want(c, "exit") // before the last output
	s.out(stdout, "c")
	s.st.logs[stdout].finish(nil)
	s.want(c, "stdout:c$")
	s.st.logs[stderr].finish(nil)
	s.want(c, "stderr:$", "done")
	late := s.open(&providerv1.ExecOpen{StdoutFrom: 1, StderrFrom: -1})
	s.want(late, "opened", "exit", "stdout:bc$", "done")
}

func TestTranscriptOfLostOutput(t *testing.T) {
	s := newScript(t, &providerv1.ExecSpec{}, 1<<10)
	c := s.open(&providerv1.ExecOpen{StderrFrom: -1})
	s.out(stdout, "ab")
	s.st.end(Exited(0), time.Unix(1, 0))
	s.st.logs[stdout].finish(errors.New("connection lost"))
	s.st.logs[stderr].finish(nil)
	s.want(c, "opened", "exit", "stdout:ab", "fault:ERROR_REASON_OUTPUT_TRUNCATED")
}

func TestDropOldestCountsWhatIsMissing(t *testing.T) {
	s := newScript(t, &providerv1.ExecSpec{OutputPolicy: providerv1.OutputPolicy_OUTPUT_POLICY_DROP_OLDEST}, 4)
	c := s.open(&providerv1.ExecOpen{StderrFrom: -1})
	s.want(c, "opened")
	for _, part := range []string{"abcd", "efgh", "ij"} {
		s.out(stdout, part)
	}
	s.want(c, "stdout:ghij")
	if c.missing[stdout] != 6 {
		t.Errorf("missing %d, want 6", c.missing[stdout])
	}
	_, err := s.st.open(&providerv1.ExecOpen{StdoutFrom: 5})
	if e := fault.From(err); e == nil || e.Reason != providerv1.ErrorReason_ERROR_REASON_OFFSET_EVICTED || e.Metadata["oldest_offset"] != "6" {
		t.Errorf("an evicted offset answered %v", err)
	}
	again := s.open(&providerv1.ExecOpen{StdoutFrom: 5, StderrFrom: -1, FromOldest: true})
	if again.pos[stdout] != 6 || again.missing[stdout] != 1 {
		t.Errorf("from_oldest starts at %d with %d missing", again.pos[stdout], again.missing[stdout])
	}
}

// TestBackpressureFollowsTheSlowestReader is the rule of doc.go.
func TestBackpressureFollowsTheSlowestReader(t *testing.T) {
	s := newScript(t, &providerv1.ExecSpec{}, 4)
	room := func() int64 { return s.st.logs[stdout].room(s.st.keep(stdout)) }
	s.out(stdout, "abcd")
	if room() != 0 {
		t.Fatalf("room %d with nobody attached and nothing acknowledged", room())
	}
	fast, slow := s.open(&providerv1.ExecOpen{}), s.open(&providerv1.ExecOpen{})
	s.frames(fast)
	s.frames(slow)
	ack := func(c *cursor, n int64) {
		t.Helper()
		if err := s.st.acknowledge(c, &providerv1.ExecAck{Stdout: n}); err != nil {
			t.Fatal(err)
		}
	}
	ack(fast, 4)
	if room() != 0 {
		t.Errorf("room %d although the slow reader acknowledged nothing", room())
	}
	ack(slow, 3)
	if room() != 3 {
		t.Errorf("room %d after the slow reader acknowledged 3", room())
	}
	s.st.leave(slow)
	if room() != 4 {
		t.Errorf("room %d after the slow reader left", room())
	}
	s.st.leave(fast)
	if room() != 4 {
		t.Errorf("room %d with nobody attached and all acknowledged", room())
	}
	if err := s.st.acknowledge(fast, &providerv1.ExecAck{Stdout: 5}); err == nil {
		t.Error("an acknowledgement of what was never sent was accepted")
	}
}

func TestOpeningAtTheEndFreesACommandThatStandsStill(t *testing.T) {
	s := newScript(t, &providerv1.ExecSpec{}, 4)
	c := s.open(&providerv1.ExecOpen{})
	s.out(stdout, "abcd")
	s.frames(c)
	s.st.leave(c) // the connection broke before it acknowledged
	s.open(&providerv1.ExecOpen{StdoutFrom: 4})
	if room := s.st.logs[stdout].room(s.st.keep(stdout)); room != 4 {
		t.Errorf("room %d, want 4", room)
	}
}

func TestSettle(t *testing.T) {
	code := Exited
	for _, tc := range []struct {
		name  string
		got   *providerv1.ExitStatus
		err   error
		did   doings
		cause providerv1.ExitCause
	}{
		{name: "own end", got: code(3), cause: providerv1.ExitCause_EXIT_CAUSE_TASK},
		{name: "lost", err: errors.New("gone"), cause: providerv1.ExitCause_EXIT_CAUSE_UNKNOWN},
		{name: "nothing", cause: providerv1.ExitCause_EXIT_CAUSE_UNKNOWN},
		{name: "empty", got: &providerv1.ExitStatus{}, cause: providerv1.ExitCause_EXIT_CAUSE_UNKNOWN},
		{name: "timeout", got: Killed("SIGKILL"), did: doings{timedOut: true}, cause: providerv1.ExitCause_EXIT_CAUSE_TIMEOUT},
		{name: "done just before the timeout", got: code(0), did: doings{timedOut: true}, cause: providerv1.ExitCause_EXIT_CAUSE_TASK},
		{name: "our signal", got: Killed("SIGTERM"), did: doings{sent: map[string]bool{"SIGTERM": true}}, cause: providerv1.ExitCause_EXIT_CAUSE_SIGNALED},
		{name: "another signal", got: Killed("SIGSEGV"), did: doings{sent: map[string]bool{"SIGTERM": true}}, cause: providerv1.ExitCause_EXIT_CAUSE_TASK},
		{name: "deleted", err: errors.New("gone"), did: doings{deleted: true}, cause: providerv1.ExitCause_EXIT_CAUSE_SANDBOX},
		{
			name: "the driver knows better",
			got:  &providerv1.ExitStatus{Result: Killed("SIGKILL").GetResult(), OutOfMemory: true, Cause: providerv1.ExitCause_EXIT_CAUSE_SANDBOX},
			did:  doings{timedOut: true}, cause: providerv1.ExitCause_EXIT_CAUSE_SANDBOX,
		},
	} {
		got := settle(tc.got, tc.err, tc.did)
		if got.GetCause() != tc.cause {
			t.Errorf("%s: cause %v, want %v", tc.name, got.GetCause(), tc.cause)
		}
		if known := got.GetResult() != nil; known != (tc.cause != providerv1.ExitCause_EXIT_CAUSE_UNKNOWN) {
			t.Errorf("%s: result %v with cause %v", tc.name, got.GetResult(), got.GetCause())
		}
	}
}
