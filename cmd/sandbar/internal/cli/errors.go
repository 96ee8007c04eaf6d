package cli

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/daemon"
	"github.com/sandbar-dev/sandbar/cmd/sandbar/internal/render"
	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Exit codes; see the package comment.
const (
	codeFailure        = 1
	codeUsage          = 2
	codeIncomplete     = 123
	codeInfrastructure = 125
	codeNotExecutable  = 126
	codeNotFound       = 127
	codePipe           = 128 + int(syscall.SIGPIPE)
)

// usageError is a command line that cannot be understood.
type usageError struct {
	message string
	command string
}

func (e *usageError) Error() string { return e.message }

// exitError ends the process with a code and says nothing, because what there
// was to say has been said.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// suiteError is an error of something that was started without a broker: what a
// broker could tell about it is no help.
type suiteError struct{ error }

func (e suiteError) Unwrap() error { return e.error }

// badFlag is a wrong value that the parser could not see.
func badFlag(flag, value, want string) error {
	return &usageError{message: fmt.Sprintf("--%s: %q %s", flag, value, want)}
}

// report writes an error the way it was asked for and returns the exit code. What
// an error says below its first line, indented, stays below it.
func (a *app) report(err error) int {
	var exit exitError
	var interrupted *interruptedError
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	case errors.Is(err, syscall.EPIPE):
		return codePipe
	case errors.As(err, &interrupted):
		return interrupted.code()
	}
	code := a.failCode
	var broken *reportError
	if errors.As(err, &broken) {
		code = codeNotConformant
	}
	if errors.As(err, &usage) {
		code = a.usageCode
	}
	if a.JSON {
		a.reportJSON(err)
		return code
	}
	said, details, _ := strings.Cut(err.Error(), "\n  ")
	fmt.Fprintf(a.stderr, "sandbar: %s\n", oneLine(said))
	for line := range strings.Lines(details) {
		fmt.Fprintf(a.stderr, "  %s\n", oneLine(line))
	}
	if h := hint(err); h != "" {
		fmt.Fprintf(a.stderr, "  hint: %s\n", oneLine(h))
	}
	return code
}

// errorJSON is the form of an error under --json.
type errorJSON struct {
	Code     string            `json:"code"`
	Reason   string            `json:"reason"`
	Message  string            `json:"message"`
	Metadata map[string]string `json:"metadata"`
}

func (a *app) reportJSON(err error) {
	out := errorJSON{Code: "UNKNOWN", Message: err.Error(), Metadata: map[string]string{}}
	var usage *usageError
	var f *fault.Error
	switch {
	case errors.As(err, &usage):
		out.Code, out.Reason = "INVALID_ARGUMENT", "FIELD_INVALID"
	case errors.As(err, &f):
		out.Code, out.Reason = fault.InfoOf(f.Reason).GetCode(), fault.Name(f.Reason)
		for k, v := range f.Metadata {
			out.Metadata[k] = v
		}
		if f.Effect != providerv1.Effect_EFFECT_UNSPECIFIED {
			out.Metadata[fault.MetaEffect] = fault.EffectName(f.Effect)
		}
	}
	if h := hint(err); h != "" {
		out.Metadata["hint"] = h
	}
	// There is nobody left to tell that standard error is gone.
	_ = render.Value(a.stderr, map[string]errorJSON{"error": out})
}

// hint is what can be done about an error, or "".
func hint(err error) string {
	var start *daemon.StartError
	if errors.As(err, &start) {
		h := "the server's log is " + start.Log
		if len(start.Tail) > 1 {
			h += "; its last lines: " + strings.Join(start.Tail[:len(start.Tail)-1], " | ")
		}
		return h
	}
	var usage *usageError
	if errors.As(err, &usage) {
		if usage.command == "" {
			return ""
		}
		return fmt.Sprintf("`%s --help` shows what is possible", usage.command)
	}
	var f *fault.Error
	if !errors.As(err, &f) {
		return ""
	}
	if remedy := f.Metadata["remedy"]; remedy != "" {
		return remedy
	}
	if f.Reason == providerv1.ErrorReason_ERROR_REASON_CREDENTIALS_INSUFFICIENT && f.Metadata["permission"] != "" {
		return "`sandbar whoami` shows what you may do"
	}
	var suite suiteError
	if errors.As(err, &suite) {
		return ""
	}
	if f.Reason == providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING && f.Metadata["state"] == "PAUSED" {
		return "`sandbar resume SANDBOX` lets it run on"
	}
	return hints[f.Reason]
}

var hints = map[providerv1.ErrorReason]string{
	providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND:        "`sandbar ls` lists the sandboxes",
	providerv1.ErrorReason_ERROR_REASON_EXEC_NOT_FOUND:           "`sandbar ps SANDBOX` lists the commands of a sandbox",
	providerv1.ErrorReason_ERROR_REASON_SNAPSHOT_NOT_FOUND:       "`sandbar snapshot ls` lists the snapshots",
	providerv1.ErrorReason_ERROR_REASON_VOLUME_NOT_FOUND:         "`sandbar volume ls` lists the volumes",
	providerv1.ErrorReason_ERROR_REASON_CAPABILITY_NOT_SUPPORTED: "`sandbar providers` shows what each provider can do",
	providerv1.ErrorReason_ERROR_REASON_HOST_UNSUPPORTED:         "`sandbar doctor` explains what this machine lacks",
	providerv1.ErrorReason_ERROR_REASON_NOT_CONFIGURED:           "`sandbar providers` lists the providers; `sandbar doctor` explains what is missing",
	providerv1.ErrorReason_ERROR_REASON_PLUGIN_QUARANTINED:       "`sandbar providers` shows why the plugin was stopped",
}

// oneLine keeps a line one: a vendor's message may hold anything.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.ReplaceAll(s, "\n", " ")), " ")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
}
