package vercel

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/guest"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// mostLogged is how much of a command's output is kept to be read again. How much
// the vendor keeps is not documented [I].
const mostLogged = 16 << 20

// logLine is a piece of output: text, because that is what the vendor's lines hold
// [S]. What becomes of bytes that are no UTF-8 is not documented; here they become
// U+FFFD, as JSON has no other way [I].
type logLine struct {
	Stream string `json:"stream"`
	Data   string `json:"data"`
}

// command is one that was started in a session.
type command struct {
	id, name, cwd string
	args          []string
	session       string
	started       time.Time
	run           *guest.Run

	mu    sync.Mutex
	lines []logLine
	// first is the number of the first line that is kept, logged the bytes of all.
	first, logged int
	partial       [2][]byte
	exit          *int
	ended         time.Time
	// broken says that the session ended before the command did.
	broken  bool
	changed chan struct{}
}

// wire is a command as it is shown.
func (c *command) wire() wireCommand {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := wireCommand{ID: c.id, Name: c.name, Args: c.args, CWD: c.cwd, SessionID: c.session, ExitCode: c.exit, StartedAt: millis(c.started)}
	if c.exit != nil {
		took := c.ended.Sub(c.started).Milliseconds()
		out.DurationMS = &took
	}
	return out
}

// print adds output, in whole characters.
func (c *command) print(stderr bool, data []byte) {
	i, name := 0, "stdout"
	if stderr {
		i, name = 1, "stderr"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	data = append(c.partial[i], data...)
	n := len(data)
	for back := 1; back < utf8.UTFMax && back <= n; back++ { // a character may go on in the next piece
		if utf8.RuneStart(data[n-back]) {
			if !utf8.FullRune(data[n-back:]) {
				n -= back
			}
			break
		}
	}
	c.partial[i] = slices.Clone(data[n:])
	c.add(logLine{Stream: name, Data: string(data[:n])})
}

// add appends a line. The caller holds mu.
func (c *command) add(line logLine) {
	if line.Data == "" {
		return
	}
	c.lines = append(c.lines, line)
	for c.logged += len(line.Data); c.logged > mostLogged; c.first++ {
		c.logged -= len(c.lines[0].Data)
		c.lines = c.lines[1:]
	}
	c.wake()
}

// wake tells who waits. The caller holds mu.
func (c *command) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// finish records the end. That a signal counts as 128 and its number is what a shell
// would say [I].
func (c *command) finish(status *providerv1.ExitStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, name := range []string{"stdout", "stderr"} {
		c.add(logLine{Stream: name, Data: string(c.partial[i])})
	}
	code := 0
	switch r := status.GetResult().(type) {
	case *providerv1.ExitStatus_Code:
		code = int(r.Code)
	case *providerv1.ExitStatus_Signal:
		const shell = 128
		code = shell + signalNumber(r.Signal)
	default:
		c.broken = true
		c.wake()
		return
	}
	c.exit, c.ended = &code, time.Now()
	c.wake()
}

// signals by their number on Linux.
var signals = map[int]string{
	1: "HUP", 2: "INT", 3: "QUIT", 9: "KILL", 10: "USR1", 12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM", 18: "CONT", 19: "STOP", 20: "TSTP", 28: "WINCH",
}

func signalNumber(name string) int {
	for n, short := range signals {
		if "SIG"+short == name {
			return n
		}
	}
	return 0
}

// startCommand runs a command [S]. Without wait it answers at once; with wait it
// answers lines of JSON: the command without an exit code, with logs its output, and
// the command with its exit code.
func (s *Simulator) startCommand(w http.ResponseWriter, r *http.Request, sn *session) error {
	var b struct {
		Command string            `json:"command"`
		Args    []string          `json:"args"`
		CWD     string            `json:"cwd"`
		Env     map[string]string `json:"env"`
		Timeout int64             `json:"timeout"`
		Wait    bool              `json:"wait"`
		Logs    bool              `json:"logs"`
	}
	if err := read(r, &b); err != nil {
		return err
	}
	if b.Command == "" {
		return badRequest("Invalid request: missing required property `command`")
	}
	g, err := s.alive(sn)
	if err != nil {
		return err
	}
	if b.CWD == "" {
		b.CWD = homeDir
	}
	c := &command{
		id: newID("cmd_"), name: b.Command, args: b.Args, cwd: b.CWD, session: sn.id, started: time.Now(), changed: make(chan struct{}),
	}
	if c.args == nil {
		c.args = []string{}
	}
	// The vendor goes on when its client leaves.
	c.run, err = g.Start(context.WithoutCancel(r.Context()), guest.Order{
		Argv: append([]string{b.Command}, b.Args...), Env: b.Env, Dir: b.CWD,
		Timeout: time.Duration(b.Timeout) * time.Millisecond, // it is killed with SIGKILL then [S]
	})
	if err != nil {
		return s.inGuest(sn, err)
	}
	s.mu.Lock()
	sn.commands[c.id] = c
	s.mu.Unlock()
	s.spawn(func() {
		status, err := c.run.Follow(sn.life, c.print)
		if err != nil && sn.life.Err() == nil {
			s.opts.Log.Error("a guest's command was lost", "command_id", c.id, "error", err)
		}
		c.finish(status)
	})
	if !b.Wait {
		answer(w, http.StatusOK, map[string]any{"command": c.wire()})
		return nil
	}
	out := newLines(w)
	begun := c.wire()
	begun.ExitCode, begun.DurationMS = nil, nil
	out.write(map[string]any{"command": begun})
	if s.pour(r.Context(), out, c, b.Logs) {
		out.write(map[string]any{"command": c.wire()})
	}
	return nil
}

// inGuest says what a guest's refusal would be of the vendor's.
func (s *Simulator) inGuest(sn *session, err error) error {
	if _, dead := s.alive(sn); dead != nil {
		return dead
	}
	switch guest.Reason(err) {
	case providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID, providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED:
		return badRequest(guest.Message(err))
	case providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND:
		return notFound(guest.Message(err))
	}
	return err
}

// lines writes lines of JSON as they come. The content type is exactly this one [S].
type lines struct {
	w       http.ResponseWriter
	control *http.ResponseController
	failed  bool
}

func newLines(w http.ResponseWriter) *lines {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	return &lines{w: w, control: http.NewResponseController(w)}
}

func (l *lines) write(line any) {
	text, err := json.Marshal(line)
	if err == nil {
		_, err = l.w.Write(append(text, '\n'))
	}
	if err == nil {
		err = l.control.Flush()
	}
	l.failed = l.failed || err != nil
}

// pour writes output, if it is asked for, until the command has ended, and reports
// whether it has.
func (s *Simulator) pour(ctx context.Context, out *lines, c *command, logs bool) bool {
	next := 0
	for !out.failed {
		c.mu.Lock()
		var batch []logLine
		lost := next < c.first && logs
		if !lost {
			batch = slices.Clone(c.lines[max(0, next-c.first):])
			next = c.first + len(c.lines)
		}
		done, broken, changed := c.exit != nil, c.broken, c.changed
		c.mu.Unlock()
		if lost {
			out.write(map[string]any{"stream": "error", "data": map[string]string{"code": "logs_truncated", "message": "The beginning of the logs is gone"}})
			return false
		}
		for _, line := range batch {
			if logs && !out.failed {
				out.write(line)
			}
		}
		switch {
		case len(batch) > 0: // more may have come meanwhile
			continue
		case done:
			return true
		case broken:
			out.write(map[string]any{"stream": "error", "data": map[string]string{"code": "sandbox_stopped", "message": "Sandbox is stopped"}})
			return false
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
	return false
}

// findCommand finds the command that a route is about.
func (s *Simulator) findCommand(r *http.Request, sn *session) (*command, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := sn.commands[r.PathValue("cmd")]; c != nil {
		return c, nil
	}
	return nil, notFound("Command not found: " + r.PathValue("cmd")) // [M]
}

func (s *Simulator) listCommands(w http.ResponseWriter, _ *http.Request, sn *session) error {
	s.mu.Lock()
	var all []*command
	for _, c := range sn.commands {
		all = append(all, c)
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b *command) int { return a.started.Compare(b.started) })
	out := []wireCommand{}
	for _, c := range all {
		out = append(out, c.wire())
	}
	answer(w, http.StatusOK, map[string]any{"commands": out})
	return nil
}

func (s *Simulator) getCommand(w http.ResponseWriter, r *http.Request, sn *session) error {
	c, err := s.findCommand(r, sn)
	if err != nil {
		return err
	}
	for r.URL.Query().Get("wait") == "true" {
		c.mu.Lock()
		done, broken, changed := c.exit != nil, c.broken, c.changed
		c.mu.Unlock()
		if done {
			break
		}
		if broken {
			return gone()
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return nil
		}
	}
	answer(w, http.StatusOK, map[string]any{"command": c.wire()})
	return nil
}

// commandLogs streams the output from its beginning [S]. That a session which has
// ended has none any more is [I].
func (s *Simulator) commandLogs(w http.ResponseWriter, r *http.Request, sn *session) error {
	c, err := s.findCommand(r, sn)
	if err != nil {
		return err
	}
	if _, err := s.alive(sn); err != nil {
		return err
	}
	s.pour(r.Context(), newLines(w), c, true)
	return nil
}

// killCommand sends a signal by its number; the command must be running [D].
func (s *Simulator) killCommand(w http.ResponseWriter, r *http.Request, sn *session) error {
	var b struct {
		Signal int `json:"signal"`
	}
	if err := read(r, &b); err != nil {
		return err
	}
	c, err := s.findCommand(r, sn)
	if err != nil {
		return err
	}
	if _, err := s.alive(sn); err != nil {
		return err
	}
	name, ok := signals[b.Signal]
	if !ok {
		return badRequest("Invalid request: unknown signal " + strconv.Itoa(b.Signal))
	}
	if c.wire().ExitCode != nil {
		return badRequest("Command is not running")
	}
	if err := c.run.Signal(r.Context(), providerv1.ExecSignal(providerv1.ExecSignal_value["EXEC_SIGNAL_"+name])); err != nil {
		return s.inGuest(sn, err)
	}
	answer(w, http.StatusOK, map[string]any{"command": c.wire()})
	return nil
}
