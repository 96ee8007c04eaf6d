package exec

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// outputs are the cases about what a command prints.
func outputs() []engine.Case {
	return []engine.Case{
		{
			ID: "exec/stdout-stderr", Title: "Standard output and standard error arrive apart, each in its order.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-010"}, Cost: 5,
			Run: apart,
		},
		{
			ID: "exec/binary-safe", Title: "All 256 byte values arrive as they were written.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-010"}, Cost: 5,
			Run: binarySafe,
		},
		{
			ID: "exec/last-line", Title: "Output that does not end with a newline arrives whole, and nothing is added to it.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-010"}, Cost: 5,
			Run: lastLine,
		},
		{
			ID: "exec/large-output", Title: "Large output arrives complete and in order.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-010", "REQ-EXEC-011"}, Cost: 20, Budget: 3 * time.Minute,
			Run: largeOutput,
		},
		{
			ID: "exec/done-last", Title: "Exit comes once, then Done with the totals, and then nothing.",
			Profile: engine.Core, Requirements: []string{"REQ-EXEC-015"}, Cost: 5,
			Run: doneLast,
		},
	}
}

func apart(t *engine.T) {
	box := stage.Create(t)
	out := box.Sh("i=0; while [ $i -lt 50 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done")
	var stdout, stderr strings.Builder
	for i := range 50 {
		fmt.Fprintf(&stdout, "out %d\n", i)
		fmt.Fprintf(&stderr, "err %d\n", i)
	}
	out.Code(0).Out(stdout.String()).Err(stderr.String())
	box.Sh("echo only out").Code(0).Out("only out\n").Err("")
	box.Sh("echo only err >&2").Code(0).Out("").Err("only err\n")
	box.Run("true").Code(0).Out("").Err("")
}

func binarySafe(t *engine.T) {
	box := stage.Create(t)
	all := make([]byte, 0, 256)
	var text strings.Builder
	for b := range 256 {
		all = append(all, byte(b))
		fmt.Fprintf(&text, `\%03o`, b)
	}
	box.Run("printf", text.String()).Code(0).Out(string(all)).Err("")
	box.Run("sh", "-c", `printf "$1" >&2`, "sh", text.String()).Code(0).Out("").Err(string(all))
}

func lastLine(t *engine.T) {
	box := stage.Create(t)
	box.Run("printf", "no newline").Code(0).Out("no newline")
	box.Run("printf", `one\ntwo`).Code(0).Out("one\ntwo")
	box.Run("printf", `\r`).Code(0).Out("\r")
	box.Run("printf", `\n\n`).Code(0).Out("\n\n")
	box.Sh("printf 'no newline' >&2; exit 1").Code(1).Out("").Err("no newline")
}

func largeOutput(t *engine.T) {
	size := int64(stage.BulkMiB(t)) << 20
	box := stage.Create(t)
	start := time.Now()
	out := box.Start(count(size)).Attach(stage.Hashed()).Wait().Code(0)
	t.Measure("exec.output", time.Since(start))
	if want := sumOfNumbers(size); !bytes.Equal(out.Sum, want) {
		t.Errorf("%d bytes of output have SHA-256 %x: want %x", out.Done.GetStdoutTotal(), out.Sum, want)
	}
}

func doneLast(t *engine.T) {
	box := stage.Create(t)
	c := box.Start(stage.Script("printf 12345; printf 123 >&2; exit 3"))
	a := c.Attach()
	early := a.AwaitExit() // in Exit it says the same as in Done, which Wait checks
	out := a.Wait().Code(3).Cause(providerv1.ExitCause_EXIT_CAUSE_TASK)
	if code(early) != 3 {
		t.Errorf("Exit says %s: want exit code 3", stage.ExitText(early))
	}
	if out.Done.GetStdoutTotal() != 5 || out.Done.GetStderrTotal() != 3 {
		t.Errorf("Done says totals of %d and %d: want 5 and 3", out.Done.GetStdoutTotal(), out.Done.GetStderrTotal())
	}
	t.Step("the totals are the command's, not the attachment's")
	if none := c.Attach(stage.From(-1, -1)).Wait(); none.Done.GetStdoutTotal() != 5 || none.Done.GetStderrTotal() != 3 {
		t.Errorf("Done of an attachment without streams says totals of %d and %d: want 5 and 3",
			none.Done.GetStdoutTotal(), none.Done.GetStderrTotal())
	}
	t.Step("a command without output")
	quiet := box.Run("true").Code(0)
	if quiet.Done.GetStdoutTotal() != 0 || quiet.Done.GetStderrTotal() != 0 {
		t.Errorf("Done of a command without output says totals of %d and %d", quiet.Done.GetStdoutTotal(), quiet.Done.GetStderrTotal())
	}
}
