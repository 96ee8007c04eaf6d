//go:build unix

package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// startTimeout is generous: a first start may make a database and start
	// plugins on a slow disk. Death of the server is noticed at once.
	startTimeout = 60 * time.Second
	// lockPoll is how often a CLI looks whether another has finished starting.
	lockPoll = 10 * time.Millisecond
	// keepLog is the size at which the log is moved aside before a start.
	keepLog = 1 << 20
)

// ReadyFD is the descriptor on which a server started by Ensure says "ready".
const ReadyFD = 3

// StartError is a server that did not come up.
type StartError struct {
	Reason string
	// Log is the path of the log, Tail its last lines of this start.
	Log  string
	Tail []string
}

func (e *StartError) Error() string {
	msg := "the server did not start: " + e.Reason
	if len(e.Tail) > 0 {
		msg += ": " + e.Tail[len(e.Tail)-1]
	}
	return msg
}

// Ensure makes sure that a server listens, and starts one if there is none. The
// returned flag says whether this call started it. program returns the path of the
// executable, and argv are the arguments that make it serve.
func Ensure(ctx context.Context, p Place, program func() (string, error), argv []string, environ []string) (started bool, err error) {
	if Listening(ctx, p) {
		return false, nil
	}
	if err := p.Make(); err != nil {
		return false, err
	}
	l, err := waitLock(ctx, filepath.Join(p.Dir, "start.lock"))
	if err != nil {
		return false, err
	}
	defer func() { _ = l.Close() }()
	if Listening(ctx, p) { // started by the one who held the lock
		return false, nil
	}
	return true, start(ctx, p, program, argv, environ)
}

// Listening reports whether something accepts connections on the socket.
func Listening(ctx context.Context, p Place) bool {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", p.Socket())
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func waitLock(ctx context.Context, path string) (*lock, error) {
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		l, err := tryLock(path)
		if !errors.Is(err, errLocked) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func start(ctx context.Context, p Place, program func() (string, error), argv, environ []string) error {
	log, from, err := openLog(p.Log())
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	ready, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer func() { _ = ready.Close() }()
	exe, err := program()
	if err != nil {
		_ = theirs.Close()
		return err
	}
	cmd := exec.Command(exe) //nolint:noctx // meant to outlive the context
	cmd.Args = append([]string{"sandbar"}, argv...)
	cmd.Dir = "/"
	cmd.Env = serverEnv(environ)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	return awaitReady(ctx, cmd, ready, p.Log(), from)
}

// awaitReady waits for the word on the pipe. A server that does not say it is
// ended: half a server is worse than none.
func awaitReady(ctx context.Context, cmd *exec.Cmd, ready *os.File, log string, from int64) error {
	slow := fmt.Errorf("it was not ready within %s", startTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, slow)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	word, err := io.ReadAll(ready)
	if err == nil && string(word) == "ready\n" {
		return cmd.Process.Release()
	}
	if cause := context.Cause(ctx); cause != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if !errors.Is(cause, slow) {
			return cause
		}
		return &StartError{Reason: cause.Error(), Log: log, Tail: tail(log, from)}
	}
	// The pipe ended without a word: the server is gone, or going.
	reason := "it ended"
	if err := cmd.Wait(); err != nil {
		reason = err.Error()
	}
	return &StartError{Reason: reason, Log: log, Tail: tail(log, from)}
}

func openLog(path string) (f *os.File, from int64, err error) {
	if info, err := os.Stat(path); err == nil && info.Size() > keepLog {
		_ = os.Rename(path, path+".1")
	}
	f, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("open the server's log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, fmt.Errorf("open the server's log: %w", err)
	}
	return f, info.Size(), nil
}

// tail returns the last lines that this start wrote.
func tail(path string, from int64) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil
	}
	var lines []string
	for sc := bufio.NewScanner(io.LimitReader(f, 1<<20)); sc.Scan(); {
		if line := strings.TrimSpace(sc.Text()); line != "" {
			lines = append(lines, line)
		}
		if len(lines) > 10 {
			lines = lines[1:]
		}
	}
	return lines
}

// passOn are the variables a server started on demand may see. It outlives the
// shell it was started from and serves others, so whatever secrets that shell
// had, the API key included, stay behind.
var passOn = []string{
	"HOME", "PATH", "USER", "LOGNAME", "TMPDIR", "LANG", "TZ", "GOTRACEBACK", "GOCOVERDIR", "GORACE",
	"XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME",
	"SANDBAR_CONFIG", "SANDBAR_PLUGIN_PATH", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
}

func serverEnv(environ []string) []string {
	var out []string
	for _, kv := range environ {
		if name, _, _ := strings.Cut(kv, "="); slices.Contains(passOn, name) {
			out = append(out, kv)
		}
	}
	return out
}

// AwaitGone waits until no server holds the place.
func AwaitGone(ctx context.Context, p Place) error {
	l, err := waitLock(ctx, p.serverLock())
	if err != nil {
		return err
	}
	return l.Close()
}

// OwnFolder is where the executable of this process really is.
func OwnFolder() (string, error) {
	exe, err := os.Executable()
	if err == nil {
		exe, err = filepath.EvalSymlinks(exe)
	}
	if err != nil {
		return "", fmt.Errorf("find our own executable: %w", err)
	}
	return filepath.Dir(exe), nil
}
