package pluginhost

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"time"

	"github.com/hashicorp/go-hclog"
)

// hcLogger passes what go-plugin logs on to slog. go-plugin's own words go out
// at debug level at most, since the supervisor says the same with more sense;
// what the plugin wrote, which comes through a logger made by Named, keeps its
// level.
type hcLogger struct {
	to   *slog.Logger
	name string
	args []any
}

func newHCLogger(to *slog.Logger) hclog.Logger { return &hcLogger{to: to} }

// levelTrace is one step below debug, as hclog has it.
const levelTrace = slog.LevelDebug - 4

func slogLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.Trace:
		return levelTrace
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	case hclog.Info:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

func (l *hcLogger) level(level hclog.Level) slog.Level {
	if l.name == "" {
		return min(slogLevel(level), slog.LevelDebug)
	}
	return slogLevel(level)
}

// Log hands the record to the handler directly: the message is the plugin's.
func (l *hcLogger) Log(level hclog.Level, msg string, args ...any) {
	ctx := context.Background()
	if !l.to.Enabled(ctx, l.level(level)) {
		return
	}
	r := slog.NewRecord(time.Now(), l.level(level), msg, 0)
	r.Add("source", l.source())
	r.Add(l.args...)
	for i := 0; i+1 < len(args); i += 2 {
		if key, ok := args[i].(string); !ok || key != "timestamp" {
			r.Add(fmt.Sprint(args[i]), plain(args[i+1]))
		}
	}
	_ = l.to.Handler().Handle(ctx, r)
}

func (l *hcLogger) source() string {
	if l.name == "" {
		return "go-plugin"
	}
	return "plugin"
}

// plain resolves hclog's deferred formatting.
func plain(v any) any {
	if f, ok := v.(hclog.Format); ok && len(f) > 0 {
		if format, ok := f[0].(string); ok {
			return fmt.Sprintf(format, f[1:]...)
		}
	}
	return v
}

func (l *hcLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *hcLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *hcLogger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *hcLogger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *hcLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *hcLogger) enabled(level hclog.Level) bool {
	return l.to.Enabled(context.Background(), l.level(level))
}

func (l *hcLogger) IsTrace() bool { return l.enabled(hclog.Trace) }
func (l *hcLogger) IsDebug() bool { return l.enabled(hclog.Debug) }
func (l *hcLogger) IsInfo() bool  { return l.enabled(hclog.Info) }
func (l *hcLogger) IsWarn() bool  { return l.enabled(hclog.Warn) }
func (l *hcLogger) IsError() bool { return l.enabled(hclog.Error) }

func (l *hcLogger) ImpliedArgs() []any { return l.args }
func (l *hcLogger) Name() string       { return l.name }

func (l *hcLogger) With(args ...any) hclog.Logger {
	c := *l
	c.args = append(c.args[:len(c.args):len(c.args)], args...)
	return &c
}

func (l *hcLogger) Named(name string) hclog.Logger {
	if name == "stdio" { // go-plugin's own, in spite of its name
		return l
	}
	return l.ResetNamed(name)
}

func (l *hcLogger) ResetNamed(name string) hclog.Logger {
	c := *l
	c.name = name
	return &c
}

// SetLevel does nothing: the slog handler decides.
func (l *hcLogger) SetLevel(hclog.Level) {}

// GetLevel says everything is wanted as far as the handler wants it.
func (l *hcLogger) GetLevel() hclog.Level {
	for _, level := range []hclog.Level{hclog.Trace, hclog.Debug, hclog.Info, hclog.Warn, hclog.Error} {
		if l.enabled(level) {
			return level
		}
	}
	return hclog.Off
}

func (l *hcLogger) StandardLogger(opts *hclog.StandardLoggerOptions) *log.Logger { //nolint:forbidigo // hclog wants it
	return log.New(l.StandardWriter(opts), "", 0) //nolint:forbidigo // as above
}

func (l *hcLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return &lineLogger{log: func(line string) { l.Info(line) }}
}

// lineLogger logs whole lines, such as what a plugin printed although standard
// output is not its to print on. It is used by one goroutine.
type lineLogger struct {
	log  func(line string)
	part []byte
}

// maxLine is where a line without an end is cut.
const maxLine = 8 << 10

func (w *lineLogger) Write(b []byte) (int, error) {
	w.part = append(w.part, b...)
	for {
		line, rest, ended := bytes.Cut(w.part, []byte("\n"))
		if !ended {
			if len(w.part) < maxLine {
				return len(b), nil
			}
			line, rest = w.part, nil
		}
		w.log(string(line))
		w.part = append([]byte(nil), rest...)
	}
}
