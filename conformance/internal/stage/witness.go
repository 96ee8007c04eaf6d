package stage

import (
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/internal/engine"
)

// Witness is a process that knows whether it is still itself: it counts, it holds
// a secret in memory only, and it has a file open and is half-way through it. What
// it says after a pause or in a copy tells what was kept.
type Witness struct {
	box *Box
	cmd *Command
	// pid and sum were said at the start.
	pid, sum string
}

// witnessScript counts into /tmp/count, one number a line, and answers each
// /tmp/ask with its pid, the sum of its secret, the number, and the next line of
// the file that it opened at the start.
const witnessScript = `cd /tmp
printf 'one\ntwo\nthree\nfour\nfive\nsix\n' > lines
secret=$(head -c 8192 /dev/urandom | od -An -tx1)
exec 3< lines
rm lines
i=0
while :; do
  i=$((i+1))
  echo $i >> count
  if [ -e ask ]; then
    rm ask
    read line <&3
    sum=$(echo "$secret" | sha256sum)
    echo "$$ ${sum%% *} $i $line" > answer.new
    mv answer.new answer
  fi
  sleep 0.05
done`

// Testimony is what a witness says when it is asked.
type Testimony struct {
	PID, Sum, Line string
	Count          int
}

// StartWitness starts one, and hears it once.
func (b *Box) StartWitness() *Witness {
	w := &Witness{box: b, cmd: b.Start(Script(witnessScript))}
	first := w.Ask()
	if first.Line != "one" {
		b.t.Broken("the witness says line %q at the start", first.Line)
	}
	w.pid, w.sum = first.PID, first.Sum
	return w
}

// In is the same witness in a copy of its sandbox.
func (w *Witness) In(box *Box) *Witness {
	return &Witness{box: box, cmd: w.cmd.By(box), pid: w.pid, sum: w.sum}
}

// Command is the witness's command.
func (w *Witness) Command() *Command { return w.cmd }

// Ask asks it, and waits for the answer.
func (w *Witness) Ask() Testimony {
	looks := int(w.box.t.Slowly(5*time.Second) / (50 * time.Millisecond))
	out := w.box.Sh(`cd /tmp; rm -f answer; : > ask
for n in $(seq ` + strconv.Itoa(looks) + `); do
  if [ -e answer ]; then cat answer; exit 0; fi
  sleep 0.05
done
exit 9`)
	fields := strings.Fields(string(out.Stdout))
	if len(fields) < 3 {
		w.box.t.Fatalf("the process that ran in the sandbox does not answer: %s, stdout %s: want it to run", ExitText(out.Exit), Excerpt(out.Stdout))
	}
	said := Testimony{PID: fields[0], Sum: fields[1]}
	said.Count, _ = strconv.Atoi(fields[2])
	if len(fields) > 3 {
		said.Line = fields[3]
	}
	return said
}

// Same checks that the witness is the process it was, with its memory and its
// open file; line is the one it reads next.
func (w *Witness) Same(line string) Testimony {
	said := w.Ask()
	t := w.box.t
	if said.PID != w.pid {
		t.Errorf("the process has pid %s: want %s, as before", said.PID, w.pid)
	}
	if said.Sum != w.sum {
		t.Errorf("what the process held in memory is not what it was: sum %s: want %s", said.Sum, w.sum)
	}
	if said.Line != line {
		t.Errorf("the process read %q from the file it has open: want %q, where it was", said.Line, line)
	}
	return said
}

// Contiguous checks that the witness counted from 1 without a gap or a
// repetition, and returns how far.
func (w *Witness) Contiguous() int {
	lines := strings.Fields(w.box.Line("cat /tmp/count"))
	for i, line := range lines {
		if line != strconv.Itoa(i+1) {
			w.box.t.Errorf("line %d of what the process counted is %q: want %d", i+1, line, i+1)
			break
		}
	}
	return len(lines)
}

// Clock checks that the sandbox's clock tells the time of the world.
func (b *Box) Clock(t *engine.T) {
	before := time.Now()
	seconds, err := strconv.ParseInt(b.Line("date +%s"), 10, 64)
	after := time.Now()
	if err != nil {
		t.Fatalf("date +%%s did not print a number: %v", err)
	}
	const tolerance = 2 * time.Second
	got := time.Unix(seconds, 0)
	if got.Before(before.Add(-tolerance)) || got.After(after.Add(tolerance)) {
		t.Errorf("the clock inside says %s: want between %s and %s, within %s",
			got.UTC().Format(time.TimeOnly), before.UTC().Format(time.TimeOnly), after.UTC().Format(time.TimeOnly), tolerance)
	}
}
