package runner

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestEnvironmentIsNoArgument: while a command runs, its variables are in the arguments
// of no process, and in the environment of the command alone: not in its runner's. They
// are looked for as they are and as they travel.
func TestEnvironmentIsNoArgument(t *testing.T) {
	for _, size := range []int{0, 1 << 20} { // of what a shell has in a pipe at once, and of more
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			secret := rand.Text()
			h, cmd, _ := runner(t, 1<<20, "", &providerv1.ExecSpec{
				Argv: []string{"sh", "-c", "echo $SECRET; read line"}, Stdin: true,
				Env: map[string]string{"SECRET": secret, "A": strings.Repeat("a", size/10), "Z": strings.Repeat("z", size/10)},
			})
			for h.out[0].String() != secret+"\n" {
				if !h.next() {
					t.Fatalf("it ended with %+v after %q and %q", h.last, h.out[0].String(), h.out[1].String())
				}
			}
			carried := hex.EncodeToString([]byte(secret))
			processes, err := filepath.Glob("/proc/[0-9]*")
			if err != nil || len(processes) == 0 {
				t.Fatalf("%d processes, %v: want those of this machine", len(processes), err)
			}
			seen := 0
			for _, process := range processes {
				args, err := os.ReadFile(process + "/cmdline")
				if err != nil {
					continue // it has ended
				}
				seen++
				if bytes.Contains(args, []byte(secret)) || bytes.Contains(args, []byte(carried)) {
					t.Errorf("%s has the secret in its arguments, %q", process, bytes.ReplaceAll(args[:min(len(args), 80)], []byte{0}, []byte{' '}))
				}
			}
			if seen < 3 { // this test, the runner, the command
				t.Errorf("the arguments of %d processes could be read", seen)
			}
			for pid, want := range map[int]bool{cmd.Process.Pid: false, int(h.pid): true} {
				env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
				if err != nil {
					t.Fatal(err)
				}
				if got := bytes.Contains(env, []byte(secret)) || bytes.Contains(env, []byte(carried)); got != want {
					t.Errorf("process %d of runner %d and command %d has the secret in its environment: %v, want %v", pid, cmd.Process.Pid, h.pid, got, want)
				}
			}
		})
	}
}
