package fake

import "io"

// Control characters that a terminal handles itself.
const (
	ctrlC = 3
	ctrlD = 4
)

// lineDiscipline is the input side of a terminal: it echoes, turns carriage
// return into newline, Ctrl-C into SIGINT, and Ctrl-D into the end of input.
type lineDiscipline struct{ p *process }

// Write takes what a person types.
func (l *lineDiscipline) Write(b []byte) (int, error) {
	for i, c := range b {
		var err error
		switch c {
		case ctrlC:
			l.p.deliver("SIGINT")
		case ctrlD:
			l.p.stdin.closeWrite()
		case '\r':
			err = l.key('\n')
		default:
			err = l.key(c)
		}
		if err != nil {
			return i, err
		}
	}
	return len(b), nil
}

func (l *lineDiscipline) key(c byte) error {
	if err := cooked(l.p.stdout, []byte{c}); err != nil {
		return err
	}
	_, err := l.p.stdin.Write([]byte{c})
	return err
}

// Close hangs up.
func (l *lineDiscipline) Close() error {
	l.p.stdin.closeWrite()
	return nil
}

// cooked writes with newline as carriage return and newline.
func cooked(w io.Writer, b []byte) error {
	out := make([]byte, 0, len(b)+8)
	for _, c := range b {
		if c == '\n' {
			out = append(out, '\r')
		}
		out = append(out, c)
	}
	_, err := w.Write(out)
	return err
}
