package daytona

import (
	"bytes"
	"cmp"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sandbar-dev/sandbar/conformance/simulator/internal/guest"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// defaultTimeout is of execute where a request names none [S].
const defaultTimeout = 10 * time.Second

// execute runs a line in a shell of its own. Its two streams are one, and an end that
// is not a success is a success of the call [O].
func (s *Simulator) execute(w http.ResponseWriter, r *http.Request, c call) error {
	var b struct {
		Command string            `json:"command"`
		CWD     string            `json:"cwd"`
		Envs    map[string]string `json:"envs"`
		Timeout int64             `json:"timeout"`
	}
	if err := read(r, &b); err != nil {
		return err
	}
	if strings.TrimSpace(b.Command) == "" {
		return &problem{status: http.StatusBadRequest, code: "BAD_REQUEST", message: "command cannot be empty or whitespace-only"}
	}
	timeout := cmp.Or(time.Duration(b.Timeout)*time.Second, defaultTimeout)
	run, err := c.guest.Start(r.Context(), guest.Order{
		Argv: []string{"/bin/sh", "-c", `exec /bin/sh -c "$1" 2>&1`, "sh", b.Command}, Env: b.Envs, Dir: cmp.Or(b.CWD, homeDir), Timeout: timeout,
	})
	if guest.Reason(err) == providerv1.ErrorReason_ERROR_REASON_FIELD_INVALID {
		answer(w, http.StatusOK, map[string]any{"exitCode": -1, "result": guest.Message(err)})
		return nil
	}
	if err != nil {
		return c.refused(err)
	}
	var mu sync.Mutex
	var out bytes.Buffer
	status, err := run.Follow(c.life, func(_ bool, data []byte) {
		mu.Lock()
		defer mu.Unlock()
		out.Write(data)
	})
	switch {
	case err != nil:
		return c.refused(err)
	case status.GetCause() == providerv1.ExitCause_EXIT_CAUSE_TIMEOUT:
		return &problem{status: http.StatusRequestTimeout, code: "PROCESS_EXECUTION_TIMEOUT", message: "command execution timeout"} // [S]
	}
	code := int(status.GetCode())
	if status.GetSignal() != "" {
		code = -1 // as Go says of a process that a signal ended [O]
	}
	answer(w, http.StatusOK, map[string]any{"exitCode": code, "result": out.String()})
	return nil
}
