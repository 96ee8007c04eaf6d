package fake_test

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestRunner: sandbar-probe run tells of a command as plugins/vercel wants it.
func TestRunner(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	for _, tc := range []struct {
		name string
		args []string
		want []string
	}{
		{
			"a command",
			[]string{"/tmp", "", "1", "A=b", "sh", "-c", `echo "$A $(pwd)"; echo e >&2; exit 3`},
			[]string{"E 2", "O 7", "e 0 ZQo=", "exited 3", "o 0 YiAvdG1wCg=="},
		},
		{"a signal for the group", []string{"", "", "0", "sh", "-c", "sleep 60 & kill -s KILL -- -$$"}, []string{"E 0", "O 0", "killed 9"}},
		{"no such program", []string{"", "", "0", "nope"}, []string{"E 32", "O 0", "e 0 bm9wZTogTm8gc3VjaCBmaWxlIG9yIGRpcmVjdG9yeQo=", "exited 127"}},
		{"no such folder", []string{"/no/such", "", "0", "true"}, []string{"refused No such file or directory"}},
	} {
		out, errs, exit := r.run("sbx_1", "exe_"+strings.ReplaceAll(tc.name, " ", "_"), append([]string{"sandbar-probe", "run", "/tmp/ack", "100000"}, tc.args...)...)
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		if strings.HasPrefix(lines[0], "started ") {
			lines = lines[1:]
		}
		slices.Sort(lines)
		if !slices.Equal(lines, tc.want) || errs != "" || exit.GetCode() != 0 {
			t.Errorf("%s: it says %q, complains %q and ends with %v: want %q", tc.name, lines, errs, exit, tc.want)
		}
	}
}

// TestRunnerWaits: no more than a window is on its way until it is acknowledged.
func TestRunnerWaits(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	e := r.start("sbx_1", "exe_1", &providerv1.ExecSpec{
		Argv: []string{"sandbar-probe", "run", "/tmp/ack", "1000", "", "", "0", "sh", "-c", "seq 1 20000; echo > /tmp/done"},
	})
	if out, _, _ := r.run("sbx_1", "exe_2", "sh", "-c", "i=0; while [ $i -lt 20 ]; do i=$((i+1)); sleep 0.01; done; cat /tmp/done 2>/dev/null; echo '1000000 0' > /tmp/ack"); out != "" {
		t.Error("a command whose output nobody takes has ended")
	}
	out, _, _ := r.finish(e)
	if !strings.Contains(out, "\nO 108894\n") || !strings.Contains(out, "\nexited 0\n") {
		t.Errorf("it says %q", out)
	}
}

// TestRunnerFeeds: input comes in files, and is said to be taken over when it is.
func TestRunnerFeeds(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	for name, content := range map[string]string{"/tmp/in.0": "5\nhello", "/tmp/in.1": "4\n you", "/tmp/in.2": "close\n"} {
		if err := r.write("sbx_1", name, content); err != nil {
			t.Fatal(err)
		}
	}
	said, _, _ := r.run("sbx_1", "exe_1", "sandbar-probe", "run", "/tmp/ack", "1000", "", "/tmp/in", "0", "sh", "-c", "head -c 5; cat; echo end")
	var out strings.Builder
	for line := range strings.Lines(said) {
		if fields := strings.Fields(line); fields[0] == "o" {
			data, err := base64.StdEncoding.DecodeString(fields[2])
			if err != nil {
				t.Fatal(err)
			}
			out.Write(data)
		}
	}
	if out.String() != "hello youend\n" || !strings.Contains(said, "\ni 5\n") || !strings.Contains(said, "\ni 9\n") {
		t.Errorf("it says %q, which is %q", said, out.String())
	}
}
