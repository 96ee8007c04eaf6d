package userland

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

func cat(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "nu", map[string]byte{"number": 'n'})
	if !ok {
		return 2
	}
	line := 0
	return each(p, "cat", o.args, func(name string, in system.Descriptor) int {
		if !o.has('n') {
			return pour(p, "cat", name, in)
		}
		return lines(in, func(text []byte) int {
			line++
			return print(p, "cat", fmt.Sprintf("%6d\t%s", line, text))
		})
	})
}

// lines calls f with each line, its newline included, until f returns a code
// that is not 0.
func lines(in io.Reader, f func([]byte) int) int {
	var held []byte
	buf := make([]byte, blockSize)
	for {
		n, err := in.Read(buf)
		held = append(held, buf[:n]...)
		for {
			end := bytes.IndexByte(held, '\n')
			if end < 0 {
				break
			}
			if code := f(held[:end+1]); code != 0 {
				return code
			}
			held = held[end+1:]
		}
		if err != nil {
			if len(held) > 0 {
				return f(held)
			}
			return 0
		}
	}
}

func head(p system.Process, argv []string) int {
	o, ok := parse(p, shorthand(argv), "n:c:", map[string]byte{"lines": 'n', "bytes": 'c'})
	if !ok {
		return 2
	}
	text, count := "10", o.has('c')
	if v, ok := o.set['n']; ok {
		text = v
	}
	if count {
		text = o.set['c']
	}
	n, err := size(text)
	if err != nil {
		return complain(p, 2, "head: %v", err)
	}
	return each(p, "head", o.args, func(name string, in system.Descriptor) int {
		if len(o.args) > 1 {
			print(p, "head", fmt.Sprintf("==> %s <==\n", name))
		}
		if count {
			return pour(p, "head", name, io.LimitReader(in, n))
		}
		return headLines(p, name, in, n)
	})
}

func headLines(p system.Process, name string, in system.Descriptor, n int64) int {
	buf := make([]byte, blockSize)
	for n > 0 {
		got, err := in.Read(buf)
		end := 0
		for n > 0 && end < got {
			next := bytes.IndexByte(buf[end:got], '\n')
			if next < 0 {
				end = got
				break
			}
			end += next + 1
			n--
		}
		if n == 0 && end < got {
			_, _ = p.Seek(in.FD, int64(end-got), io.SeekCurrent) // what cannot seek has been read
		}
		if code := print(p, "head", string(buf[:end])); code != 0 {
			return code
		}
		if err == io.EOF { //nolint:errorlint // the calls of package system return it bare
			return 0
		}
		if err != nil {
			return trouble(p, "head", name, err)
		}
	}
	return 0
}

func tail(p system.Process, argv []string) int {
	o, ok := parse(p, shorthand(argv), "n:c:f", map[string]byte{"lines": 'n', "bytes": 'c', "follow": 'f'})
	if !ok {
		return 2
	}
	text, count := "10", o.has('c')
	if v, ok := o.set['n']; ok {
		text = v
	}
	if count {
		text = o.set['c']
	}
	fromStart := strings.HasPrefix(text, "+")
	n, err := size(strings.TrimLeft(text, "+-"))
	if err != nil {
		return complain(p, 2, "tail: %v", err)
	}
	if o.has('f') && len(o.args) > 1 {
		return complain(p, 2, "tail: -f takes one file")
	}
	return each(p, "tail", o.args, func(name string, in system.Descriptor) int {
		if len(o.args) > 1 {
			print(p, "tail", fmt.Sprintf("==> %s <==\n", name))
		}
		data, err := system.ReadAll(p, in)
		if err != nil {
			return trouble(p, "tail", name, err)
		}
		code := print(p, "tail", string(data[cut(data, n, count, fromStart):]))
		if o.has('f') && code == 0 {
			return follow(p, name, in)
		}
		return code
	})
}

// cut returns where the tail of data begins.
func cut(data []byte, n int64, count, fromStart bool) int {
	total := int64(len(data))
	switch {
	case count && fromStart:
		return int(min(max(n-1, 0), total))
	case count:
		return int(total - min(n, total))
	case fromStart:
		at := 0
		for ; n > 1; n-- {
			next := bytes.IndexByte(data[at:], '\n')
			if next < 0 {
				return len(data)
			}
			at += next + 1
		}
		return at
	case n == 0:
		return len(data)
	}
	at := len(bytes.TrimSuffix(data, []byte("\n")))
	for ; n > 0 && at >= 0; n-- {
		at = bytes.LastIndexByte(data[:at], '\n')
	}
	return at + 1
}

// followEvery is how often tail -f looks for more.
const followEvery = 20 * time.Millisecond

func follow(p system.Process, name string, in system.Descriptor) int {
	for {
		if code := pour(p, "tail", name, in); code != 0 {
			return code
		}
		if err := p.Sleep(followEvery); err != nil {
			return 1
		}
	}
}

func tee(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "ai", map[string]byte{"append": 'a', "ignore-interrupts": 'i'})
	if !ok {
		return 2
	}
	if o.has('i') {
		p.Handle(system.SIGINT, system.Ignore)
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if o.has('a') {
		flags = os.O_WRONLY | os.O_CREATE | os.O_APPEND
	}
	code := 0
	outs := []io.Writer{system.Stdout(p)}
	for _, name := range o.args {
		fd, err := p.Open(name, flags, 0o666)
		if err != nil {
			code = trouble(p, "tee", name, err)
			continue
		}
		outs = append(outs, system.Descriptor{P: p, FD: fd})
	}
	buf := make([]byte, blockSize)
	for {
		n, err := system.Stdin(p).Read(buf)
		for i, out := range outs {
			if _, err := out.Write(buf[:n]); err != nil {
				code = complain(p, 1, "tee: write error: %s", Message(err))
				outs[i] = io.Discard
			}
		}
		if err == io.EOF { //nolint:errorlint // the calls of package system return it bare
			return code
		}
		if err != nil {
			return trouble(p, "tee", "-", err)
		}
	}
}

// counts is what wc counts.
type counts struct{ lines, words, chars, bytes int64 }

func wc(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "clmw", map[string]byte{"bytes": 'c', "lines": 'l', "chars": 'm', "words": 'w'})
	if !ok {
		return 2
	}
	if len(o.set) == 0 {
		o.set['l'], o.set['w'], o.set['c'] = "", "", ""
	}
	type row struct {
		name string
		counts
	}
	var rows []row
	var total counts
	code := each(p, "wc", o.args, func(name string, in system.Descriptor) int {
		c, err := count(in)
		if err != nil {
			return trouble(p, "wc", name, err)
		}
		if len(o.args) == 0 {
			name = ""
		}
		rows = append(rows, row{name, c})
		total.lines, total.words, total.chars, total.bytes = total.lines+c.lines, total.words+c.words, total.chars+c.chars, total.bytes+c.bytes
		return 0
	})
	if len(rows) > 1 {
		rows = append(rows, row{"total", total})
	}
	width := 1
	if len(o.set) > 1 || len(rows) > 1 {
		width = len(strconv.FormatInt(total.bytes, 10))
		if len(o.args) == 0 {
			width = 7
		}
	}
	for _, r := range rows {
		var out []string
		for _, v := range []struct {
			flag byte
			n    int64
		}{{'l', r.lines}, {'w', r.words}, {'m', r.chars}, {'c', r.bytes}} {
			if o.has(v.flag) {
				out = append(out, fmt.Sprintf("%*d", width, v.n))
			}
		}
		if r.name != "" {
			out = append(out, r.name)
		}
		code = max(code, print(p, "wc", strings.Join(out, " ")+"\n"))
	}
	return code
}

func count(in io.Reader) (counts, error) {
	var c counts
	inWord := false
	buf := make([]byte, blockSize)
	for {
		n, err := in.Read(buf)
		c.bytes += int64(n)
		for _, b := range buf[:n] {
			if b == '\n' {
				c.lines++
			}
			if utf8.RuneStart(b) {
				c.chars++
			}
			space := b == ' ' || (b >= '\t' && b <= '\r')
			if inWord && space {
				c.words++
			}
			inWord = !space
		}
		if err == io.EOF {
			if inWord {
				c.words++
			}
			return c, nil
		}
		if err != nil {
			return c, err
		}
	}
}
