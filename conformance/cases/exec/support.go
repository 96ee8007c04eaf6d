package exec

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Reasons that several cases name.
const (
	fieldInvalid    = providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID
	execNotFound    = providerv1.ErrorReason_ERROR_REASON_EXEC_NOT_FOUND
	sandboxNotFound = providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND
	keyReused       = providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED
	offsetEvicted   = providerv1.ErrorReason_ERROR_REASON_OFFSET_EVICTED
	objectInUse     = providerv1.ErrorReason_ERROR_REASON_OBJECT_IN_USE
)

// What the contract says of a provider that declares no number of its own.
const (
	defaultRetained = 1 << 20
	defaultDrain    = 5 * time.Second
)

// retained is how much of each stream can be read again.
func retained(t *engine.T) int64 {
	if n, ok := t.Instance().Limit("", "retained_output_bytes"); ok {
		return n
	}
	return defaultRetained
}

// drain is how long a command whose lead process ended waits for its pipes.
func drain(t *engine.T) time.Duration {
	if n, ok := t.Instance().Limit("", "exec_drain_millis"); ok {
		return time.Duration(n) * time.Millisecond
	}
	return defaultDrain
}

// count is a script that prints numbers from 1 on, of at least n bytes.
func count(n int64) *providerv1.ExecSpec {
	return stage.Argv("seq", "1", strconv.FormatInt(lastNumber(n), 10))
}

// An endless command begins with this round, and prints so much in each.
const (
	firstRound = 100
	roundBytes = 10000 * 8
)

// endless is a script that prints numbers of seven digits, more of them than
// anybody reads, and says in /tmp/progress how far it came.
func endless() *providerv1.ExecSpec {
	return stage.Script("i=" + strconv.Itoa(firstRound) + "; while :; do seq ${i}0000 ${i}9999; i=$((i+1)); echo $i > /tmp/progress; done")
}

// lastNumber is where numbers from 1 on, a line each, fill at least n bytes.
func lastNumber(n int64) int64 {
	var last, size int64
	for digits, most := int64(1), int64(9); ; digits, most = digits+1, most*10+9 {
		line := digits + 1
		if full := (most - last) * line; size+full < n {
			last, size = most, size+full
			continue
		}
		return last + (n-size+line-1)/line
	}
}

// writeNumbers writes numbers from 1 to last, a line each.
func writeNumbers(w io.Writer, last int64) {
	const room = 64 << 10
	buf := make([]byte, 0, room+32)
	for i := int64(1); i <= last; i++ {
		buf = append(strconv.AppendInt(buf, i, 10), '\n')
		if len(buf) >= room || i == last {
			_, _ = w.Write(buf) // to memory
			buf = buf[:0]
		}
	}
}

// numbers is what count prints.
func numbers(n int64) []byte {
	var b bytes.Buffer
	writeNumbers(&b, lastNumber(n))
	return b.Bytes()
}

// sumOfNumbers is the SHA-256 of what count prints.
func sumOfNumbers(n int64) []byte {
	sum := sha256.New()
	writeNumbers(sum, lastNumber(n))
	return sum.Sum(nil)
}

// differ says in words where two byte strings differ first.
func differ(got, want []byte) string {
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	near := func(b []byte) string { return stage.Excerpt(b[at:min(len(b), at+40)]) }
	return strconv.Itoa(len(got)) + " bytes came: want " + strconv.Itoa(len(want)) + "; they differ from offset " + strconv.Itoa(at) +
		", got " + near(got) + ", want " + near(want)
}

// wantEndless checks that got is the beginning of what endless prints.
func wantEndless(t *engine.T, got []byte) {
	const first, line = 1000000, 8
	want := make([]byte, 0, len(got)+line)
	for i := int64(first); len(want) < len(got); i++ {
		want = append(strconv.AppendInt(want, i, 10), '\n')
	}
	if want = want[:len(got)]; !bytes.Equal(got, want) {
		t.Errorf("the output is damaged: %s", differ(got, want))
	}
}

// standsStill waits until a command that is endless prints no more, as it says
// itself and as GetExec does, and returns how much it printed. What decides are
// looks, each of which is a command that runs in the same sandbox meanwhile: one
// that is only slow goes on between them.
func standsStill(t *engine.T, box *stage.Box, c *stage.Command) int64 {
	const still, looks = time.Second, 10
	most := retained(t) + inBetween
	var said string
	last, since, same := int64(-1), time.Now(), 0
	stage.Eventually(t, 4*stage.Patience(t), "the command to block, as nobody acknowledges its output", func(context.Context) bool {
		now, says := c.Get().GetStdoutTotal(), box.Line("cat /tmp/progress 2>/dev/null || echo 0")
		if printed := max(now, rounds(says)*roundBytes); printed > most {
			t.Fatalf("the command printed %d bytes that nobody took, and goes on: want it to block", printed)
		}
		if same++; now != last || says != said || now == 0 {
			last, said, since, same = now, says, time.Now(), 0
		}
		return same >= looks && time.Since(since) >= still
	})
	return last
}

// inBetween is how much may be on its way between a command and its reader, in
// pipes and windows, beyond what is retained.
const inBetween = 64 << 20

// rounds is how many rounds an endless command says it has behind it.
func rounds(progress string) int64 {
	n, err := strconv.ParseInt(progress, 10, 64)
	if err != nil {
		return 0 // it is just being written
	}
	return max(0, n-firstRound)
}

// endsUnread waits for a command to end by itself, for as long as it prints.
func endsUnread(t *engine.T, c *stage.Command, want string) {
	silence := 2 * stage.Patience(t)
	printed, ended := whilePrinting(t, c, silence, func(e *providerv1.Exec) bool { return e.GetState() != providerv1.ExecState_EXEC_STATE_RUNNING })
	if !ended {
		t.Fatalf("the command has printed %d bytes and no more for %s: want %s", printed, silence, want)
	}
}

// arrives waits until all that a command printed is counted, for as long as that grows:
// that it has ended may be known before. What does not arrive is for the caller to find.
func arrives(t *engine.T, c *stage.Command, total int64) {
	_, _ = whilePrinting(t, c, stage.Patience(t), func(e *providerv1.Exec) bool { return e.GetStdoutTotal() >= total })
}

// whilePrinting waits until something is so of a command, or what it printed has not
// grown for as long as silence. It returns how much that is, and which it was.
func whilePrinting(t *engine.T, c *stage.Command, silence time.Duration, met func(*providerv1.Exec) bool) (printed int64, ok bool) {
	printed = -1
	since := time.Now()
	for e := c.Get(); !met(e); e = c.Get() {
		if e.GetStdoutTotal() != printed {
			printed, since = e.GetStdoutTotal(), time.Now()
		}
		if time.Since(since) > silence {
			return printed, false
		}
		stage.Pause(t, 20*time.Millisecond)
	}
	return printed, true
}

// beat is a script that grows a file for as long as it lives.
func beat(file string) string { return "while :; do echo x >> " + file + "; sleep 0.05; done" }

// beats waits until a file grows.
func beats(t *engine.T, box *stage.Box, file string) {
	stage.Eventually(t, stage.Patience(t), file+" to grow", func(context.Context) bool {
		return box.Line("if [ -s "+file+" ]; then echo yes; else echo no; fi") == "yes"
	})
}

// silent waits until a file does not grow any more while time for ten beats passes
// inside.
func silent(t *engine.T, box *stage.Box, file, want string) {
	stage.Eventually(t, stage.Patience(t), want, func(context.Context) bool {
		before := box.Line("wc -c < " + file)
		box.Ticks(10)
		return box.Line("wc -c < "+file) == before
	})
}

// state is a command's state without the enum's prefix, for messages.
func state(e *providerv1.Exec) string { return e.GetState().String()[len("EXEC_STATE_"):] }

// code is the exit code, or -1.
func code(e *providerv1.ExitStatus) int32 {
	if c, ok := e.GetResult().(*providerv1.ExitStatus_Code); ok {
		return c.Code
	}
	return -1
}
