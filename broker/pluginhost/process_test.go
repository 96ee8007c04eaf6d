package pluginhost

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// run starts a program and returns what it wrote to stdout.
func run(t *testing.T, program *os.File, path string, args ...string) string {
	t.Helper()
	p := newProcess(path, args, nil, nil)
	if err := p.start(program); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = p.errR.WriteTo(&errs)
	}()
	_, _ = p.outR.WriteTo(&out)
	<-p.exited
	<-copied
	if p.err != nil {
		t.Fatalf("%v: %s", p.err, errs.String())
	}
	return strings.TrimSpace(out.String())
}

// TestSwappedPathRunsWhatWasOpened: for a program and for a script.
func TestSwappedPathRunsWhatWasOpened(t *testing.T) {
	attacker := []byte("#!/bin/sh\necho attacker\n")
	for _, tc := range []struct {
		name    string
		content func() []byte
		args    []string
	}{
		{"script", func() []byte { return []byte("#!/bin/sh\necho original\n") }, nil},
		{"program", func() []byte {
			b, err := os.ReadFile("/bin/echo")
			if err != nil {
				t.Fatal(err)
			}
			return b
		}, []string{"original"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "plugin")
			if err := os.WriteFile(path, tc.content(), 0o755); err != nil {
				t.Fatal(err)
			}
			program, err := openProgram(path)
			if err != nil {
				t.Fatal(err)
			}
			defer program.Close()
			before, err := pinOf(program)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, attacker, 0o755); err != nil {
				t.Fatal(err)
			}
			if got := run(t, program, path, tc.args...); got != "original" {
				t.Errorf("ran %q", got)
			}
			if after, err := pinOf(program); err != nil || after != before {
				t.Errorf("the digest changed from %v to %v: %v", before, after, err)
			}
		})
	}
}

func TestKillBeforeStartCallsItOff(t *testing.T) {
	program, err := openProgram("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	p := newProcess("/bin/sleep", []string{"300"}, nil, nil)
	if err := p.Kill(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := p.start(program); err == nil || !strings.Contains(err.Error(), "called off") {
		t.Errorf("start after kill: %v", err)
	}
}

func TestLastWords(t *testing.T) {
	flood := strings.Repeat("goroutine 7 [select]:\n", 10_000)
	for _, tc := range []struct{ name, stderr, want string }{
		{"nothing", "", ""},
		{"a line", "no such account\n", "no such account"},
		{"the last lines", "1\n2\n3\n4\n5\n6\n7\n8\n", "3\n4\n5\n6\n7\n8"},
		{"a panic and all goroutines", "starting\npanic: out of tea\n\n" + flood, "panic: out of tea"},
		{"a fatal error", "fatal error: all goroutines are asleep\n" + flood, "fatal error: all goroutines are asleep"},
		{"structured", `{"@level":"debug","@message":"plugin address"}` + "\n" + `{"@level":"error","@message":"cannot log in","error":"401"}`, "cannot log in: 401"},
		{"a word that is no panic", "panicking: not\n", "panicking: not"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for size := range []int{1, 7, 100_000} { // however it is cut
				w := &lastWords{}
				for rest := []byte(tc.stderr); len(rest) > 0; {
					n := min(len(rest), size+1)
					_, _ = w.Write(rest[:n])
					rest = rest[n:]
				}
				if got := w.report(); got != tc.want {
					t.Errorf("in pieces of %d: got %q, want %q", size+1, got, tc.want)
				}
				if len(w.tail) > tailBytes {
					t.Errorf("keeps %d bytes", len(w.tail))
				}
			}
		})
	}
}

func TestLoggerKeepsThePluginsLevels(t *testing.T) {
	var out bytes.Buffer
	log := newHCLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
		Level: slog.LevelInfo,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})).With("provider", "test"))
	log.Error("plugin process exited") // go-plugin's own: not news to anybody
	plugin := log.Named("sandbar-provider-test")
	plugin.Debug("noise")
	plugin.Warn("slow vendor", "took", "3s", "count", hclog.Fmt("%d of %d", 2, 3), "timestamp", "now")
	plugin.With("region", "eu").Error("gone")
	want := `level=WARN msg="slow vendor" provider=test source=plugin took=3s count="2 of 3"
level=ERROR msg=gone provider=test source=plugin region=eu
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	if plugin.IsDebug() || !plugin.IsInfo() || plugin.GetLevel() != hclog.Info || log.IsError() {
		t.Error("levels do not follow the handler")
	}
}

func TestLineLogger(t *testing.T) {
	var lines []string
	w := &lineLogger{log: func(line string) { lines = append(lines, line) }}
	for _, part := range []string{"a", "b\nc\n", "d", strings.Repeat("e", maxLine), "\n"} {
		_, _ = fmt.Fprint(w, part)
	}
	if len(lines) != 4 || lines[0] != "ab" || lines[1] != "c" || len(lines[2]) != maxLine+1 || lines[3] != "" {
		t.Errorf("got %d lines", len(lines))
	}
}
