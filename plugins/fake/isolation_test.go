package fake_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestAScriptCannotReachTheMachine plants files on the machine and tries every
// way that a shell has to see, read, run or change one.
func TestAScriptCannotReachTheMachine(t *testing.T) {
	const secret = "planted-on-the-machine"
	dir := t.TempDir()
	file, program := filepath.Join(dir, "planted"), filepath.Join(dir, "run")
	if err := os.WriteFile(file, []byte("echo "+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho "+secret+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PLANTED_"+"VARIABLE", secret)
	r := serve(t, nil)
	r.create("sbx_1", &providerv1.SandboxSpec{})
	for i, try := range []string{
		"cat FILE", "cat < FILE", "read x < FILE; echo $x", "echo $(<FILE)", ". FILE", "source FILE", "sh FILE", "bash FILE", "sh < FILE",
		"PROGRAM", "exec PROGRAM", "command PROGRAM", "env PROGRAM", "PATH=DIR run", "PATH=DIR; run", "PATH=DIR; command -v run", "PATH=DIR; type run",
		"PATH=DIR; . planted", "command -v PROGRAM", "echo DIR/*", "echo DIR/pl*", "echo DIR/[p]lanted", "ls DIR", "ls -d FILE", "cd DIR && pwd", "cd -P DIR && pwd",
		"test -e FILE && echo seen PLANT", "[ -f FILE ] && echo seen PLANT", "[ FILE -nt /etc ] && echo seen PLANT", "ln -s FILE /tmp/l && cat /tmp/l",
		"ln FILE /tmp/h", "cp FILE /tmp/c && cat /tmp/c", "mv FILE /tmp/m && cat /tmp/m", "head -c 9 FILE", "tail FILE", "dd if=FILE", "od -c FILE", "sha256sum FILE",
		"wc FILE", "sort FILE", "tee FILE < /dev/null && cat FILE", "readlink -f /proc/self/exe", "cat /proc/self/environ", "cat /proc/1/cmdline", "cat /proc/self/root/FILE",
		"echo /proc/*", "ls /proc", "cat /dev/fd/9", "echo $PLANTED_VARIABLE", "env", "set", "cat /etc/passwd", "cat /etc/hostname", "echo ~root ~daemon ~bin", "cd ~daemon && pwd",
		"cat ../../../../../../FILE", "cat /tmp/../FILE", "ln -s /proc/self/root /tmp/r; cat /tmp/r/FILE", "rm -rf FILE DIR", "chmod 777 FILE", "touch FILE",
		"mkdir -p DIR/new", "echo changed > FILE", "echo changed >> FILE", "echo changed 1<> FILE", "trap 'cat FILE' EXIT", "eval 'cat FILE'", "(cat FILE) | cat", "kill -9 HOST",
		"kill HOST", "cat <(cat FILE)", "pwd -P", "cd /tmp; mkdir -p DIR; pwd -P",
	} {
		text := strings.NewReplacer("FILE", file, "PROGRAM", program, "DIR", dir, "PLANT", secret, "HOST", fmt.Sprint(os.Getpid())).Replace(try)
		for _, shell := range []string{"sh", "bash"} {
			// A way that makes the planted names inside is followed by an empty sandbox.
			id := fmt.Sprintf("sbx_%s_%d", shell, i)
			sub := *r
			sub.create(id, nil)
			out, errs, _ := sub.run(id, "exe_1", shell, "-c", text)
			for _, leak := range []string{secret, "daemon:", "/usr/sbin", "seen"} {
				if strings.Contains(out, leak) || strings.Contains(strings.ReplaceAll(errs, "~daemon:", ""), leak) {
					t.Errorf("%s -c %q saw the machine: out %q err %q", shell, text, out, errs)
				}
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("the planted folder has %v, %v", entries, err)
	}
	got, err := os.ReadFile(file)
	info, err2 := os.Stat(file)
	if err != nil || err2 != nil || string(got) != "echo "+secret+"\n" || info.Mode() != 0o600 {
		t.Errorf("the planted file became %q %v (%v, %v)", got, info, err, err2)
	}
}
