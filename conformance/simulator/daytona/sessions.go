package daytona

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/guest"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// session is a shell of the vendor's; see doc.go for what it is here. Its sandbox
// ends it with life.
type session struct {
	id   string
	life context.Context //nolint:containedctx // commands outlive the requests that start them
	end  context.CancelFunc

	mu       sync.Mutex
	commands []*command
	// last is closed when the command before the next one has ended.
	last chan struct{}
}

// command is one that a session was given.
type command struct {
	id, line string

	mu sync.Mutex
	// log is what a file holds at the vendor: lines with a mark of their stream.
	log     []byte
	partial [2][]byte
	exit    *int
	run     *guest.Run
	changed chan struct{}
}

// call is a request to the toolbox of a sandbox that runs.
type call struct {
	sb    *sandbox
	guest *guest.Guest
	life  context.Context //nolint:containedctx // what a request starts outlives it
	s     *Simulator
}

// inToolbox finds the sandbox that a route is about.
func (s *Simulator) inToolbox(do func(http.ResponseWriter, *http.Request, call) error) route {
	return func(w http.ResponseWriter, r *http.Request) error {
		sb, life, err := s.alive(r.PathValue("id"))
		if err != nil {
			return err
		}
		s.mu.Lock()
		g := sb.guest
		s.mu.Unlock()
		if g == nil {
			return badRequest("Sandbox is not running") // it has just ended
		}
		return do(w, r, call{sb: sb, guest: g, life: life, s: s})
	}
}

// session finds the one that a route is about.
func (c call) session(r *http.Request) (*session, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if sn := c.sb.sessions[r.PathValue("session")]; sn != nil {
		return sn, nil
	}
	return nil, &problem{status: http.StatusNotFound, code: "NOT_FOUND", message: "session not found"} // [O]
}

func (c call) command(r *http.Request) (*command, error) {
	sn, err := c.session(r)
	if err != nil {
		return nil, err
	}
	sn.mu.Lock()
	defer sn.mu.Unlock()
	for _, cmd := range sn.commands {
		if cmd.id == r.PathValue("command") {
			return cmd, nil
		}
	}
	return nil, &problem{status: http.StatusNotFound, code: "NOT_FOUND", message: "command not found"} // [O]
}

func createSession(w http.ResponseWriter, r *http.Request, c call) error {
	var b struct {
		SessionID string `json:"sessionId"`
	}
	if err := read(r, &b); err != nil {
		return err
	}
	if b.SessionID == "" {
		return &problem{status: http.StatusBadRequest, code: "INVALID_REQUEST_BODY", message: "sessionId is required"}
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.sb.sessions[b.SessionID] != nil {
		return &problem{status: http.StatusConflict, code: "CONFLICT", message: "session already exists"} // [O]
	}
	sn := &session{id: b.SessionID, last: make(chan struct{})}
	close(sn.last)
	sn.life, sn.end = context.WithCancel(c.life)
	c.sb.sessions[b.SessionID] = sn
	w.WriteHeader(http.StatusCreated)
	return nil
}

// wire is a session as it is shown [S].
func (sn *session) wire() map[string]any {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	commands := []map[string]any{}
	for _, cmd := range sn.commands {
		commands = append(commands, cmd.wire())
	}
	return map[string]any{"sessionId": sn.id, "commands": commands}
}

func (cmd *command) wire() map[string]any {
	cmd.mu.Lock()
	defer cmd.mu.Unlock()
	out := map[string]any{"id": cmd.id, "command": cmd.line}
	if cmd.exit != nil {
		out["exitCode"] = *cmd.exit
	}
	return out
}

func listSessions(w http.ResponseWriter, _ *http.Request, c call) error {
	c.s.mu.Lock()
	out := []map[string]any{}
	for _, sn := range c.sb.sessions {
		out = append(out, sn.wire())
	}
	c.s.mu.Unlock()
	answer(w, http.StatusOK, out)
	return nil
}

func getSession(w http.ResponseWriter, r *http.Request, c call) error {
	sn, err := c.session(r)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, sn.wire())
	return nil
}

// deleteSession ends the processes of a session's commands: they are asked to
// terminate, and killed when they do not [O].
func (s *Simulator) deleteSession(w http.ResponseWriter, r *http.Request, c call) error {
	sn, err := c.session(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	delete(c.sb.sessions, sn.id)
	s.mu.Unlock()
	sn.mu.Lock()
	commands := slices.Clone(sn.commands)
	sn.mu.Unlock()
	s.spawn(func() {
		defer sn.end()
		for _, cmd := range commands {
			cmd.terminate(sn.life, s.opts.Log)
		}
	})
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// terminate ends a command, with some grace [O].
func (cmd *command) terminate(ctx context.Context, log *slog.Logger) {
	const grace = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	for _, signal := range []providerv1.ExecSignal{providerv1.ExecSignal_EXEC_SIGNAL_TERM, providerv1.ExecSignal_EXEC_SIGNAL_KILL} {
		cmd.mu.Lock()
		run, done := cmd.run, cmd.exit != nil
		cmd.mu.Unlock()
		if run == nil || done {
			return
		}
		if err := run.Signal(context.WithoutCancel(ctx), signal); err != nil {
			log.Debug("a command could not be signalled", "command_id", cmd.id, "error", err)
		}
		for ctx.Err() == nil {
			cmd.mu.Lock()
			done, changed := cmd.exit != nil, cmd.changed
			cmd.mu.Unlock()
			if done {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
}

// refused says what a guest's refusal would be of the vendor's.
func (c call) refused(err error) error {
	if _, _, dead := c.s.alive(c.sb.id); dead != nil {
		return dead
	}
	switch guest.Reason(err) {
	case providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID, providerv1.ErrorReason_ERROR_REASON_FILE_REFUSED:
		return &problem{status: http.StatusBadRequest, code: "BAD_REQUEST", message: guest.Message(err)}
	case providerv1.ErrorReason_ERROR_REASON_FILE_NOT_FOUND:
		return &problem{status: http.StatusNotFound, code: "FILE_NOT_FOUND", message: guest.Message(err)}
	}
	return err
}

// runInSession gives a session a line. The answer to runAsync is 202 and an id [S].
func (s *Simulator) runInSession(w http.ResponseWriter, r *http.Request, c call) error {
	var b struct {
		Command  string `json:"command"`
		RunAsync bool   `json:"runAsync"`
		Async    bool   `json:"async"`
	}
	if err := read(r, &b); err != nil {
		return err
	}
	if strings.TrimSpace(b.Command) == "" {
		return &problem{status: http.StatusBadRequest, code: "BAD_REQUEST", message: "command cannot be empty"}
	}
	sn, err := c.session(r)
	if err != nil {
		return err
	}
	cmd := &command{id: newID(), line: b.Command, changed: make(chan struct{})}
	mine := make(chan struct{})
	sn.mu.Lock()
	before := sn.last
	sn.last = mine
	sn.commands = append(sn.commands, cmd)
	sn.mu.Unlock()
	s.spawn(func() {
		defer close(mine)
		select {
		case <-before:
			s.runCommand(sn, cmd, c.guest)
		case <-sn.life.Done():
		}
	})
	if b.RunAsync || b.Async {
		answer(w, http.StatusAccepted, map[string]any{"cmdId": cmd.id})
		return nil
	}
	select {
	case <-mine:
	case <-r.Context().Done():
		return nil
	}
	return cmd.showSync(w, r)
}

// runCommand runs a line to its end. The vendor's shell reads it from its standard input
// [O], so that it is no argument here either, nor in the environment of what it runs.
func (s *Simulator) runCommand(sn *session, cmd *command, g *guest.Guest) {
	run, err := g.Start(sn.life, guest.Order{
		Argv: []string{"/bin/sh", "-c", `line=$SIMULATOR_LINE; unset SIMULATOR_LINE; eval "$line"`},
		Env:  map[string]string{"SIMULATOR_LINE": cmd.line}, Dir: homeDir,
	})
	if err == nil {
		cmd.mu.Lock()
		cmd.run = run
		cmd.mu.Unlock()
		var status *providerv1.ExitStatus
		if status, err = run.Follow(sn.life, cmd.print); err == nil {
			cmd.finish(exitCode(status))
			return
		}
	}
	if sn.life.Err() == nil {
		s.opts.Log.Error("a guest's command was lost", "command_id", cmd.id, "error", err)
	}
}

// exitCode is what a shell would say [O: it is a shell that does].
func exitCode(status *providerv1.ExitStatus) int {
	const shell = 128
	if sig := status.GetSignal(); sig != "" {
		return shell + signals[sig]
	}
	return int(status.GetCode())
}

// signals by their name, with their number on Linux.
var signals = map[string]int{
	"SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGILL": 4, "SIGTRAP": 5, "SIGABRT": 6, "SIGBUS": 7, "SIGFPE": 8, "SIGKILL": 9, "SIGUSR1": 10,
	"SIGSEGV": 11, "SIGUSR2": 12, "SIGPIPE": 13, "SIGALRM": 14, "SIGTERM": 15, "SIGXCPU": 24, "SIGXFSZ": 25,
}

// print adds output as the vendor's shell loop does, which reads lines: bytes of value
// 0 are dropped, and a line that is not ended is when the stream is [O].
func (cmd *command) print(stderr bool, data []byte) {
	i := 0
	if stderr {
		i = 1
	}
	cmd.mu.Lock()
	defer cmd.mu.Unlock()
	rest := slices.Concat(cmd.partial[i], bytes.ReplaceAll(data, []byte{0}, nil))
	for {
		n := bytes.IndexByte(rest, '\n')
		if n < 0 {
			break
		}
		cmd.addLine(i, rest[:n])
		rest = rest[n+1:]
	}
	cmd.partial[i] = rest
	cmd.wake()
}

// marks stand before the lines of the two streams [S, O].
var marks = [2]string{"\x01\x01\x01", "\x02\x02\x02"}

func (cmd *command) addLine(stream int, line []byte) {
	cmd.log = append(cmd.log, marks[stream]...)
	cmd.log = append(append(cmd.log, line...), '\n')
}

// wake tells who waits. The caller holds mu.
func (cmd *command) wake() {
	close(cmd.changed)
	cmd.changed = make(chan struct{})
}

func (cmd *command) finish(code int) {
	cmd.mu.Lock()
	defer cmd.mu.Unlock()
	for i, rest := range cmd.partial {
		if len(rest) > 0 {
			cmd.addLine(i, rest)
		}
	}
	cmd.exit = &code
	cmd.wake()
}
