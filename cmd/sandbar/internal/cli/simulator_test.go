package cli_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"testing"
)

// TestSimulator starts the command of each vendor, speaks to what it says that it
// serves, and interrupts it.
func TestSimulator(t *testing.T) {
	for vendor, tc := range map[string]struct{ flag, secret, listing string }{
		"daytona": {"--key", "api_key", "/sandbox?limit=1"},
		"vercel":  {"--token", "token", "/v2/sandboxes?limit=1"},
	} {
		t.Run(vendor, func(t *testing.T) { simulate(t, vendor, tc.flag, tc.secret, tc.listing) })
	}
}

func simulate(t *testing.T, vendor, flag, secret, listing string) {
	t.Helper()
	plugin, err := exec.LookPath("sandbar-provider-fake")
	if err != nil {
		t.Fatal(err)
	}
	sandbar, err := exec.LookPath("sandbar")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), sandbar, "--json", "simulator", vendor, "--plugin", plugin, flag, "tok")
	cmd.Env, cmd.Stderr = append(os.Environ(), "GORACE="+noExitSleep), os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var said map[string]string
	lines := bufio.NewReader(out)
	line, err := lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &said)
	}
	if err != nil {
		t.Fatalf("it says %q: %v", line, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, said["base_url"]+listing, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+said[secret])
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // nobody reads it
	if resp.StatusCode != http.StatusOK || said[secret] != "tok" {
		t.Errorf("the listing answers %d with token %q", resp.StatusCode, said[secret])
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("then it says %q, %v", rest, err)
	}
	_ = cmd.Wait() // an interruption is an end like another
}
