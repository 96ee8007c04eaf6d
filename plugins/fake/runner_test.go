package fake_test

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"testing"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestRunner: sandbar-probe run tells of a command as plugins/internal/runner wants it.
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
			[]string{"/tmp", "", "sh", "-c", `echo "$A $(pwd)"; echo e >&2; exit 3`},
			[]string{"E 2", "O 7", "e 0 ZQo=", "exited 3", "o 0 YiAvdG1wCg=="},
		},
		{"a signal for the group", []string{"", "", "sh", "-c", "sleep 60 & kill -s KILL -- -$$"}, []string{"E 0", "O 0", "killed 9"}},
		{"no such program", []string{"", "", "nope"}, []string{"E 32", "O 0", "e 0 bm9wZTogTm8gc3VjaCBmaWxlIG9yIGRpcmVjdG9yeQo=", "exited 127"}},
		{"no such folder", []string{"/no/such", "", "true"}, []string{"refused No such file or directory"}},
	} {
		run := []string{"sh", "-c", "printf " + hex.EncodeToString([]byte("A=b\x00")) + ` | sandbar-probe "$@"`, "sh", "run", "/tmp/ack", "100000"}
		out, errs, exit := r.run("sbx_1", "exe_"+strings.ReplaceAll(tc.name, " ", "_"), append(run, tc.args...)...)
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
		Argv: []string{"sandbar-probe", "run", "/tmp/ack", "1000", "", "", "sh", "-c", "seq 1 20000; echo > /tmp/done"},
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
	said, _, _ := r.run("sbx_1", "exe_1", "sandbar-probe", "run", "/tmp/ack", "1000", "", "/tmp/in", "sh", "-c", "head -c 5; cat; echo end")
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

// TestFileCalls: sandbar-probe files does to files, and says, what plugins/internal/files
// wants.
func TestFileCalls(t *testing.T) {
	r := serve(t, nil)
	r.create("sbx_1", nil)
	calls := 0
	call := func(args ...string) string {
		t.Helper()
		calls++
		out, errs, exit := r.run("sbx_1", "exe_"+strconv.Itoa(calls), append([]string{"sandbar-probe", "files"}, args...)...)
		if errs != "" || exit.GetCode() != 0 {
			t.Errorf("%q complains %q and ends with %v", args, errs, exit)
		}
		return out
	}
	for name, content := range map[string]string{
		"/tmp/s.0": "one ", "/tmp/s.1": "two", "/tmp/t.0": "file d 700 0 0 0 0 d\nfile r 4750 7 8 4 5 d/f\ntext", "/tmp/u.0": "file l 777 0 0 0 0 l /etc\nfile r 644 0 0 0 0 l/f\n",
	} {
		if err := r.write("sbx_1", name, content); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		args []string
		want string // without the time
	}{
		{[]string{"stat", "0", "/tmp/no such"}, "errno 2 /tmp/no%20such\n"},
		{[]string{"write", "new", "640", "1", "0", "/tmp/s", "2", "/tmp/new/a b"}, "file r 640 0 0 7 TIME /tmp/new/a%20b\ndone\n"},
		{[]string{"write", "new", "640", "0", "0", "/tmp/s", "0", "/tmp/new/a b"}, "errno 17 /tmp/new/a%20b\n"},
		{[]string{"unpack", "1", "/tmp/to", "/tmp/t", "1"}, "done\n"},
		{[]string{"stat", "0", "/tmp/to/d/f"}, "file r 4750 7 8 4 TIME /tmp/to/d/f\ndone\n"},
		{[]string{"list", "1", "1", "", "/tmp/to"}, "file d 700 0 0 0 TIME d\nmore\ndone\n"},
		{[]string{"unpack", "0", "/tmp/to", "/tmp/u", "1"}, "errno 1 l/f\n"},
		{[]string{"remove", "0", "/tmp/to"}, "errno 39 /tmp/to\n"},
		{[]string{"remove", "1", "/tmp/to"}, "done\n"},
		{[]string{"remove", "1", "/tmp/to"}, "absent\ndone\n"},
		{[]string{"dance"}, "errno 38 dance\n"},
	} {
		var got []string
		for line := range strings.Lines(call(tc.args...)) {
			if f := strings.Split(line, " "); f[0] == "file" {
				f[6] = "TIME"
				line = strings.Join(f, " ")
			}
			got = append(got, line)
		}
		if said := strings.Join(got, ""); said != tc.want {
			t.Errorf("%q says %q: want %q", tc.args, said, tc.want)
		}
	}
	if out, _, _ := r.run("sbx_1", "exe_last", "sh", "-c", "ls -A /tmp; cat '/tmp/new/a b'"); out != "new\none two" {
		t.Errorf("afterwards there is %q: want nothing of what was sent", out)
	}
}
