package pluginhost

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// tailBytes of stderr are kept for crash reports.
	tailBytes = 64 << 10
	// reportLines of them go into the reason that people see.
	reportLines = 6
)

// lastWords keeps the end of what a process wrote to stderr, and the line with
// which the Go runtime begins to report a panic: with all goroutines dumped the
// end alone rarely holds it. It is safe for concurrent use.
type lastWords struct {
	mu     sync.Mutex
	tail   []byte
	line   []byte // the beginning of the line being written
	header string
}

// headerBytes of a line are enough to see and show a panic header.
const headerBytes = 512

// Write never fails and keeps nothing of b.
func (w *lastWords) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tail = append(w.tail, b...)
	if over := len(w.tail) - tailBytes; over > 0 {
		w.tail = append(w.tail[:0], w.tail[over:]...)
	}
	for rest := b; len(rest) > 0 && w.header == ""; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		w.line = append(w.line, line[:min(len(line), headerBytes-len(w.line))]...)
		if ended {
			w.endLine()
		}
		rest = after
	}
	return len(b), nil
}

func (w *lastWords) endLine() {
	for _, start := range []string{"panic: ", "fatal error: ", "SIGSEGV: ", "SIGABRT: ", "SIGQUIT: "} {
		if bytes.HasPrefix(w.line, []byte(start)) {
			w.header = string(w.line)
		}
	}
	w.line = w.line[:0]
}

// report returns the panic header and the last lines, or "" if nothing was said.
func (w *lastWords) report() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.header != "" {
		return w.header
	}
	var lines []string
	for line := range strings.Lines(string(w.tail)) {
		if line = readable(strings.TrimSpace(line)); line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) > reportLines {
		lines = lines[len(lines)-reportLines:]
	}
	return strings.Join(lines, "\n")
}

// readable turns a line of hclog's JSON into what it says, and drops those that
// are for developers.
func readable(line string) string {
	var entry struct {
		Level   string `json:"@level"`
		Message string `json:"@message"`
		Error   any    `json:"error"`
	}
	if json.Unmarshal([]byte(line), &entry) != nil || entry.Message == "" {
		return line
	}
	switch {
	case entry.Level == "trace" || entry.Level == "debug":
		return ""
	case entry.Error != nil:
		return fmt.Sprintf("%s: %v", entry.Message, entry.Error)
	}
	return entry.Message
}

// ending says in words how a process ended.
func ending(err error) string {
	var exit *exec.ExitError
	if err == nil {
		return "exit status 0"
	}
	if !errors.As(err, &exit) {
		return err.Error()
	}
	ws, ok := exit.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		core := ""
		if ws.CoreDump() {
			core = " (core dumped)"
		}
		return fmt.Sprintf("killed by %s%s", unix.SignalName(ws.Signal()), core)
	}
	return fmt.Sprintf("exit status %d", exit.ExitCode())
}
