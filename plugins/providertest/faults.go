package providertest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sandbar-dev/sandbar/proto/fault"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Vendor is a provider's, which is simulated. Faults are asked of the simulator below
// /_simulator, as whoever starts one does.
type Vendor struct {
	// Start starts a simulator with guests in memory, which ends with the test, and
	// returns its address.
	Start func(*testing.T) string
	// Plugin serves and configures the provider for what is at an address. state may be
	// empty; more are settings besides those that it needs.
	Plugin func(t *testing.T, url, state string, more map[string]any) Plugin
	// Request asks for a sandbox that nobody has asked for yet.
	Request func() *providerv1.CreateSandboxRequest
	// Creating is where sandboxes are made, and Writing where files are written, as
	// faults have it. Printing is where the output of a command comes from: at first,
	// and when that broke.
	Creating, Writing string
	Printing          [2]string
}

// Fault is one of those that a simulator takes.
type Fault struct {
	Method     string `json:"method,omitempty"`
	Path       string `json:"path"`
	Kind       string `json:"kind"`
	Times      int    `json:"times,omitempty"`
	Status     int    `json:"status,omitempty"`
	RetryAfter int    `json:"retryAfter,omitempty"`
	DelayMS    int    `json:"delayMs,omitempty"`
	Bytes      int    `json:"bytes"`
}

// Inject adds a fault to a simulator.
func Inject(t *testing.T, url string, f Fault) {
	t.Helper()
	tell(t, url, "faults", f)
}

// tell asks the simulator itself for something.
func tell(t *testing.T, url, what string, in any) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/_simulator/"+what, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // it was read
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the simulator answers %d to %s %s: %s, %v", resp.StatusCode, what, body, said, err)
	}
}

const (
	none    = providerv1.Effect_EFFECT_NONE
	unknown = providerv1.Effect_EFFECT_UNKNOWN
)

// Faults tests what a provider makes of a vendor that goes wrong, as far as that is the
// same whoever it is.
func Faults(t *testing.T, v Vendor) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Vendor){
		"lost answer":                  lostAnswer,
		"unanswered key is not denied": unansweredKey,
		"down is no effect":            down,
		"slow vendor":                  slow,
		"stream breaks":                streamBreaks,
		"lost acknowledgement":         lostAcknowledgement,
		"eviction":                     eviction,
	} {
		t.Run(name, func(t *testing.T) { test(t, v) })
	}
}

// lostAnswer: what the vendor made without an answer is found by its key, and the same
// request answers it.
func lostAnswer(t *testing.T, v Vendor) {
	url := v.Start(t)
	p := v.Plugin(t, url, t.TempDir(), nil)
	Inject(t, url, Fault{Path: v.Creating, Kind: "lost"})
	req := v.Request()
	_, err := p.CreateSandbox(p.Ctx, req)
	_ = Refused(t, "CreateSandbox whose answer is lost", err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, unknown)
	found, err := p.GetSandbox(p.Ctx, ByKey(req.GetOperation().GetIdempotencyKey()))
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.CreateSandbox(p.Ctx, req)
	if err != nil || again.GetSandbox().GetVendorId() != found.GetSandbox().GetVendorId() {
		t.Errorf("the same request answers %v, %v: want %s", again.GetSandbox().GetVendorId(), err, found.GetSandbox().GetVendorId())
	}
}

// unansweredKey: a request that may still take effect is not said to have made nothing,
// by the next process either, until its time is over.
func unansweredKey(t *testing.T, v Vendor) {
	url, state := v.Start(t), t.TempDir()
	p := v.Plugin(t, url, state, nil)
	Inject(t, url, Fault{Path: v.Creating, Kind: "refused"})
	req := v.Request()
	key := req.GetOperation().GetIdempotencyKey()
	_, err := p.CreateSandbox(p.Ctx, req)
	_ = Refused(t, "CreateSandbox whose connection broke", err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, unknown)
	next := v.Plugin(t, url, state, nil)
	for name, p := range map[string]Plugin{"the process that sent it": p, "the next process": next} {
		_, err := p.GetSandbox(p.Ctx, ByKey(key))
		f := Refused(t, "GetSandbox by the key, of "+name, err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, none)
		if f.RetryAfter <= 0 {
			t.Errorf("%s does not say when to ask again", name)
		}
	}
	t.Log("when a request cannot be under way any more, its key made nothing")
	later := v.Plugin(t, url, state, map[string]any{"settle_after": "1s"})
	for {
		_, err = later.GetSandbox(later.Ctx, ByKey(key))
		if f := fault.From(err); f == nil || f.Reason != providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE {
			break
		}
	}
	_ = Refused(t, "GetSandbox by the key, later", err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_FOUND, none)
	_, err = later.CreateSandbox(later.Ctx, req)
	_ = Refused(t, "CreateSandbox with a key that was denied", err, providerv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED, none)
}

// down: a vendor that cannot be connected to has not been asked.
func down(t *testing.T, v Vendor) {
	closed := httptest.NewServer(nil)
	closed.Close()
	p := v.Plugin(t, closed.URL, t.TempDir(), nil)
	_, err := p.CreateSandbox(p.Ctx, v.Request())
	_ = Refused(t, "CreateSandbox", err, providerv1.ErrorReason_ERROR_REASON_UPSTREAM_UNAVAILABLE, none)
	probe, err := p.Probe(p.Ctx, &providerv1.ProbeRequest{})
	if err != nil || probe.GetReady() || probe.GetChecks()[0].GetRemedy() == "" {
		t.Errorf("Probe answers %v, %v: want not ready, and a remedy", probe, err)
	}
}

// slow: a call ends by its deadline, and says that it may have done something.
func slow(t *testing.T, v Vendor) {
	url := v.Start(t)
	p := v.Plugin(t, url, t.TempDir(), nil)
	Inject(t, url, Fault{Path: v.Creating, Kind: "slow", DelayMS: 600_000})
	const sent = 10 * time.Second // by then it is, on a machine that is busy too
	ctx, cancel := context.WithTimeout(p.Ctx, sent)
	defer cancel()
	_, err := p.CreateSandbox(ctx, v.Request())
	_ = Refused(t, "CreateSandbox", err, providerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, unknown)
}

// numbers runs a command that prints the numbers up to n, and checks that all arrived.
func (p Plugin) numbers(box *providerv1.SandboxRef, n int) {
	p.T.Helper()
	last := strconv.Itoa(n)
	out, exit := p.Run(box, "sh", "-c", `seq 1 "$1"; exit 7`, "sh", last)
	if exit.GetCode() != 7 || !strings.HasPrefix(out, "1\n2\n3\n") || !strings.HasSuffix(out, "\n"+last+"\n") || strings.Count(out, "\n") != n {
		p.T.Errorf("%d bytes with %d lines came, exit %v: want %d lines and exit code 7", len(out), strings.Count(out, "\n"), exit, n)
	}
}

// streamBreaks: output is whole although the vendor's stream breaks in the middle,
// again and again.
func streamBreaks(t *testing.T, v Vendor) {
	url := v.Start(t)
	p := v.Plugin(t, url, "", nil)
	box := p.Create(v.Request())
	Inject(t, url, Fault{Path: v.Printing[0], Kind: "cut", Bytes: 40_000})
	for _, n := range []int{60_000, 0, 300_000} {
		Inject(t, url, Fault{Path: v.Printing[1], Kind: "cut", Bytes: n})
	}
	Inject(t, url, Fault{Path: v.Printing[1], Kind: "status", Status: http.StatusServiceUnavailable})
	p.numbers(box, 60_000)
}

// lostAcknowledgement: a command goes on although word of what was taken over was lost.
func lostAcknowledgement(t *testing.T, v Vendor) {
	url := v.Start(t)
	p := v.Plugin(t, url, "", nil)
	box := p.Create(v.Request())
	Inject(t, url, Fault{Path: v.Writing, Kind: "status", Status: http.StatusTooManyRequests, Times: 2})
	Inject(t, url, Fault{Path: v.Writing, Kind: "refused"})
	p.numbers(box, 400_000)
}

// eviction: a command whose machine is taken away died with its sandbox, and the
// sandbox says so.
func eviction(t *testing.T, v Vendor) {
	url := v.Start(t)
	p := v.Plugin(t, url, "", nil)
	req := v.Request()
	box := p.Create(req)
	id := p.Start(box, "sleep", "600")
	tell(t, url, "evict", map[string]string{"name": "sandbar-" + req.GetOperation().GetIdempotencyKey()})
	p.DiedWithSandbox(box, id)
	sb, err := p.GetSandbox(p.Ctx, &providerv1.GetSandboxRequest{By: &providerv1.GetSandboxRequest_Sandbox{Sandbox: box}})
	if err != nil || sb.GetSandbox().GetState() != providerv1.SandboxState_SANDBOX_STATE_FAILED || sb.GetSandbox().GetStatusReason() == "" {
		t.Errorf("the sandbox is %v, %v: want FAILED with a reason", sb, err)
	}
	_, err = p.StartExec(p.Ctx, &providerv1.StartExecRequest{
		Sandbox: box, ExecId: NewID("exe"), RequestDigest: req.GetOperation().GetRequestDigest(), Spec: &providerv1.ExecSpec{Argv: []string{"true"}},
	})
	_ = Refused(t, "StartExec in it", err, providerv1.ErrorReason_ERROR_REASON_SANDBOX_NOT_RUNNING, none)
}

// DiedWithSandbox waits for the end of a command, which is to be that of its sandbox:
// how it ended is known, and whether all that it printed arrived is not.
func (p Plugin) DiedWithSandbox(box *providerv1.SandboxRef, id string) {
	p.T.Helper()
	var exit *providerv1.ExitStatus
	for exit == nil {
		resp, err := p.GetExec(p.Ctx, &providerv1.GetExecRequest{Sandbox: box, ExecId: id})
		if err != nil {
			p.T.Fatal(err)
		}
		exit = resp.GetExec().GetExit()
	}
	if exit.GetCause() != providerv1.ExitCause_EXIT_CAUSE_SANDBOX || exit.GetSignal() != "SIGKILL" {
		p.T.Errorf("the command ended with %v: want SIGKILL with cause SANDBOX", exit)
	}
}
