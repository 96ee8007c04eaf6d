package exec

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
	"github.com/sandbar-dev/sandbar/conformance/internal/stage"
	"github.com/sandbar-dev/sandbar/conformance/internal/subject"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// readers are the cases about readers that stop.
func readers() []engine.Case {
	return []engine.Case{
		{
			ID: "exec/slow-reader", Title: "A reader that stops slows its own command only, and gets everything when it reads on.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-014"}, Cost: 20, Budget: time.Minute,
			Run: slowReader,
		},
		{
			ID: "exec/slow-reader-memory", Title: "Readers that stop do not make the plugin's memory grow.",
			Profile: engine.Exec, Requirements: []string{"REQ-EXEC-014"}, Cost: 50, Budget: time.Minute,
			Kinds: []subject.Kind{subject.Binary}, Phase: engine.Apart,
			Run: slowReaderMemory,
		},
	}
}

func slowReader(t *engine.T) {
	box := stage.Create(t)
	c := box.Start(endless())
	a := c.Attach(stage.Stalled())
	at := standsStill(t, box, c)
	t.Step("it stands still after %d bytes; the others do not", at)
	want := string(numbers(64 << 10))
	for range 5 {
		box.Start(count(64 << 10)).Wait().Code(0).Out(want)
	}
	if s := box.Get().GetState(); s != providerv1.SandboxState_SANDBOX_STATE_RUNNING {
		t.Errorf("the sandbox is %s: want RUNNING", stage.StateName(s))
	}
	t.Step("read on")
	a.Proceed()
	a.Grows(at + 1<<20)
	a.Detach()
	wantEndless(t, a.Stdout())
}

// growth is how much memory some stopped readers may cost: their windows, what is
// retained, and what a garbage collector has not looked at yet.
const growth = 96 << 20

func slowReaderMemory(t *engine.T) {
	box := stage.Create(t)
	box.Start(count(1 << 20)).Wait().Code(0) // what one costs in any case
	before := rss(t)
	const commands = 4
	for range commands {
		box.Start(stage.Argv("yes")).Attach(stage.Stalled())
	}
	t.Step("nobody reads; look at the plugin's memory while another command's output is read")
	pace := box.Start(stage.Argv("yes")).Attach(stage.Hashed())
	for began := time.Now(); watched(pace, time.Since(began)); stage.Pause(t, 100*time.Millisecond) {
		if now := rss(t); now > before+growth {
			t.Fatalf("with %d readers that stopped, the plugin's memory grew from %d to %d MiB: want it bounded", commands, before>>20, now>>20)
		}
	}
}

// watched reports whether to look on. A plugin that reads ahead without end does so at
// least as fast as its output can be read: how long that takes to fill its memory
// depends on the machine.
func watched(pace *stage.Attachment, so time.Duration) bool {
	const least, most = 3 * time.Second, 40 * time.Second
	return so < least || so < most && pace.Next() < growth
}

// rss is the plugin's resident memory.
func rss(t *engine.T) int64 {
	name := fmt.Sprintf("/proc/%d/status", t.Instance().Process.PID())
	content, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		t.Skip(engine.Platform, "there is no "+name)
	}
	if err != nil {
		t.Broken("read the plugin's memory: %v", err)
	}
	for line := range strings.SplitSeq(string(content), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "VmRSS:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Broken("read the plugin's memory: %v", err)
			}
			return kib << 10
		}
	}
	t.Broken("%s does not say how much memory the plugin has", name)
	return 0
}
