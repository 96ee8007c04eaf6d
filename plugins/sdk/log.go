package sdk

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// logBytes is how much log may wait for a slow reader of standard error.
const logBytes = 1 << 20

// timeFormat is what go-plugin's host parses.
const timeFormat = "2006-01-02T15:04:05.000000Z07:00"

// newLogger returns a logger whose lines a go-plugin host re-emits at their own
// level: one JSON object a line, with @level, @message and @timestamp.
func newLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: hostNames}))
}

func hostNames(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		return slog.String("@timestamp", a.Value.Time().Format(timeFormat))
	case slog.LevelKey:
		return slog.String("@level", strings.ToLower(a.Value.String()))
	case slog.MessageKey:
		a.Key = "@message"
	}
	return a
}

func droppedLine(n uint64) []byte {
	return fmt.Appendf(nil, `{"@level":"warn","@message":"log lines were dropped","dropped":%d}`+"\n", n)
}
