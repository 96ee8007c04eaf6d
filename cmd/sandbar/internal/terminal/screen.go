//go:build unix

package terminal

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"unicode/utf8"
)

// Screen is a terminal's other screen, which what stood on the first one outlives.
type Screen struct {
	file *os.File
	once sync.Once
	err  error
}

// The sequences are those that every terminal of the last decades knows.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // another screen, without a cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	drawHome    = "\x1b[H"
	endOfLine   = "\x1b[K"
	endOfScreen = "\x1b[J"
)

// NewScreen switches to the other screen. The caller must Restore it.
func NewScreen(f *os.File) (*Screen, error) {
	if _, err := f.WriteString(enterScreen); err != nil {
		return nil, fmt.Errorf("write to the terminal: %w", err)
	}
	return &Screen{file: f}, nil
}

// Draw shows text from the top on, cut to the terminal's size, in one write, so
// that nothing flickers.
func (s *Screen) Draw(text string) error {
	size := Size(s.file)
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > int(size.GetRows()) {
		lines = lines[:size.GetRows()]
	}
	var out bytes.Buffer
	out.WriteString(drawHome)
	for i, line := range lines {
		if i > 0 {
			out.WriteString("\r\n")
		}
		out.WriteString(cut(line, int(size.GetCols())))
		out.WriteString(endOfLine)
	}
	out.WriteString(endOfScreen)
	if _, err := s.file.Write(out.Bytes()); err != nil {
		return fmt.Errorf("write to the terminal: %w", err)
	}
	return nil
}

func cut(line string, columns int) string {
	if utf8.RuneCountInString(line) <= columns {
		return line
	}
	return string([]rune(line)[:columns])
}

// Restore switches back. It is safe to call again.
func (s *Screen) Restore() error {
	s.once.Do(func() {
		if _, err := s.file.WriteString(leaveScreen); err != nil {
			s.err = fmt.Errorf("restore the terminal: %w", err)
		}
	})
	return s.err
}
