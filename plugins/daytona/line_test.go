package daytona

import (
	"crypto/rand"
	"os/exec"
	"strings"
	"testing"
)

// TestLine: what a shell is given on standard input, as the vendor's is, runs with its
// variables and arguments as they are, and the variables are arguments of nothing.
func TestLine(t *testing.T) {
	secret := rand.Text()
	odd := "it's \"$HOME\" `id`\n\\"
	const script = `printf '%s\n' "$SECRET" "$ODD" "$1"; echo; for args in /proc/[0-9]*/cmdline; do cat "$args" | tr '\000' ' '; echo; done`
	cmd := exec.Command("/bin/sh")
	cmd.Stdin = strings.NewReader(line([]string{"-c", script, "marked", odd}, map[string]string{"SECRET": secret, "ODD": odd}) + "\n")
	out, err := cmd.CombinedOutput()
	printed, arguments, _ := strings.Cut(string(out), "\n\n")
	if err != nil || printed != secret+"\n"+odd+"\n"+odd {
		t.Errorf("it printed %q, %v: want %q and twice %q", printed, err, secret, odd)
	}
	if !strings.Contains(arguments, " marked ") {
		t.Fatalf("the arguments of processes are %.200q: want those of the shell among them", arguments)
	}
	if strings.Contains(arguments, secret) {
		t.Error("a process has the secret in its arguments")
	}
}
