package shim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/sandbar-dev/sandbar/plugins/local/runsc"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Command is the first argument of a process that is to be a shim.
const Command = "shim"

// Descriptors a shim starts with, beside the standard streams.
const (
	lockFD  = 3
	readyFD = 4
)

// Spawn starts a shim in a sandbox's folder and waits until it serves or says
// why it cannot. binary is the provider's; empty: this process's own. lock is the folder's lock, held by the caller; Spawn closes it.
// If Spawn fails, or ctx ends first, the shim is dead when it returns.
//
// The returned function waits for the shim's end, so that no zombie stays; it
// must be called, usually in a goroutine of its own.
func Spawn(ctx context.Context, binary, dir string, lock *os.File, boot *Boot) (wait func(), err error) {
	input, err := json.Marshal(boot)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("encode boot message: %w", err), lock.Close())
	}
	cmd, answers, err := startProcess(ctx, binary, dir, lock, bytes.NewReader(input))
	if err != nil {
		return nil, err
	}
	defer func() { _ = answers.Close() }()
	if err := awaitReady(ctx, answers, dir); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	return func() { _ = cmd.Wait() }, nil
}

// startProcess starts a shim. What it says can be read from answers, which the caller
// closes.
func startProcess(ctx context.Context, binary, dir string, lock *os.File, stdin io.Reader) (cmd *exec.Cmd, answers *os.File, err error) {
	defer func() { _ = lock.Close() }()
	for _, stale := range []string{socketName, bootstrapName} {
		if err := os.Remove(filepath.Join(dir, stale)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("remove stale %s: %w", stale, err)
		}
	}
	logFile, err := os.OpenFile(filepath.Join(dir, logName), os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open shim log: %w", err)
	}
	defer func() { _ = logFile.Close() }()
	answers, readyW, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("make ready pipe: %w", err)
	}
	cmd = runsc.Shim(ctx, binary, Command, dir)
	cmd.Stdin, cmd.Stderr, cmd.Stdout = stdin, logFile, nil
	cmd.ExtraFiles = []*os.File{lock, readyW}
	err = launch(cmd)
	_ = readyW.Close()
	if err != nil {
		_ = answers.Close()
		return nil, nil, spawnError(err)
	}
	return cmd, answers, nil
}

// spawnError explains why the kernel refused a new namespace.
func spawnError(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, os.ErrPermission) {
		return fault.New(providerv1.ErrorReason_ERROR_REASON_HOST_UNSUPPORTED,
			"the kernel forbids new namespaces to this user: %w", err).With("missing", "user-namespaces").
			With("remedy", "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, "+
				"kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces above 0), or run as root")
	}
	return fmt.Errorf("start shim: %w", err)
}

func awaitReady(ctx context.Context, r *os.File, dir string) error {
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(past) })
	defer stop()
	var msg ready
	err := json.NewDecoder(r).Decode(&msg)
	switch {
	case err == nil && msg.OK:
		return nil
	case err == nil && msg.Fault != nil:
		return msg.Fault.err()
	case ctx.Err() != nil:
		return fault.New(providerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED,
			"the sandbox did not start in time: %w", ctx.Err()).WithEffect(providerv1.Effect_EFFECT_NONE)
	}
	return fault.New(providerv1.ErrorReason_ERROR_REASON_PLUGIN_BUG,
		"the sandbox's process ended while it started: %s", lastWords(dir)).WithEffect(providerv1.Effect_EFFECT_NONE)
}

// lastWordsBytes of a log are what a person reads of a shim that died.
const lastWordsBytes = 2048

// lastWords returns the end of a shim's log on one line.
func lastWords(dir string) string {
	f, err := os.Open(filepath.Join(dir, logName))
	if err != nil {
		return "it left no log"
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > lastWordsBytes {
		_, _ = f.Seek(-lastWordsBytes, io.SeekEnd)
	}
	data, _ := io.ReadAll(io.LimitReader(f, lastWordsBytes))
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return "it left no words"
	}
	lines := bytes.Split(data, []byte("\n"))
	return string(lines[len(lines)-1])
}

// IsShim reports whether this process was started by Spawn.
func IsShim(args []string) bool { return len(args) == 3 && args[1] == Command }
