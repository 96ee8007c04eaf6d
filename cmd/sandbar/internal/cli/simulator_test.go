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

// TestSimulator starts the command, speaks to what it says that it serves, and
// interrupts it.
func TestSimulator(t *testing.T) {
	plugin, err := exec.LookPath("sandbar-provider-fake")
	if err != nil {
		t.Fatal(err)
	}
	sandbar, err := exec.LookPath("sandbar")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), sandbar, "--json", "simulator", "vercel", "--plugin", plugin, "--token", "tok")
	cmd.Env, cmd.Stderr = append(os.Environ(), "GORACE="+noExitSleep), os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		BaseURL string `json:"base_url"`
		Token   string `json:"token"`
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &said)
	}
	if err != nil {
		t.Fatalf("it says %q: %v", line, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, said.BaseURL+"/v2/sandboxes?limit=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+said.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // nobody reads it
	if resp.StatusCode != http.StatusOK || said.Token != "tok" {
		t.Errorf("the listing answers %d with token %q", resp.StatusCode, said.Token)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("then it says %q, %v", rest, err)
	}
	_ = cmd.Wait() // an interruption is an end like another
}
