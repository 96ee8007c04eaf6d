package userland

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

func succeeds(system.Process, []string) int { return 0 }
func fails(system.Process, []string) int    { return 1 }

func echo(p system.Process, argv []string) int {
	args, newline, escapes := argv[1:], true, false
options:
	for ; len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && strings.Trim(args[0][1:], "neE") == ""; args = args[1:] {
		for _, c := range args[0][1:] {
			switch c {
			case 'n':
				newline = false
			case 'e':
				escapes = true
			case 'E':
				escapes = false
			default:
				break options
			}
		}
	}
	text := strings.Join(args, " ")
	if escapes {
		var stop bool
		if text, stop = unescape(text, true); stop {
			newline = false
		}
	}
	if newline {
		text += "\n"
	}
	return print(p, "echo", text)
}

func pwd(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "LP", nil)
	if !ok {
		return 2
	}
	dir := p.Dir()
	if logical := Getenv(p.Environ(), "PWD"); !o.has('P') && strings.HasPrefix(logical, "/") {
		a, err1 := p.Stat(logical, true)
		b, err2 := p.Stat(dir, true)
		if err1 == nil && err2 == nil && a.ID == b.ID {
			dir = logical
		}
	}
	return print(p, "pwd", dir+"\n")
}

func hostname(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "", nil)
	if !ok || len(o.args) > 0 {
		return complain(p, 2, "hostname: the name cannot be changed")
	}
	return print(p, "hostname", p.Hostname()+"\n")
}

func uname(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "amnorsv", map[string]byte{"all": 'a', "machine": 'm', "nodename": 'n', "kernel-name": 's', "kernel-release": 'r'})
	if !ok {
		return 2
	}
	if len(o.args) > 0 {
		return complain(p, 2, "uname: extra operand %q", o.args[0])
	}
	if len(o.set) == 0 {
		o.set['s'] = ""
	}
	facts := []struct {
		flag byte
		text string
	}{{'s', "Linux"}, {'n', p.Hostname()}, {'r', "6.0.0-fake"}, {'v', "#1 in memory"}, {'m', "x86_64"}, {'o', "GNU/Linux"}}
	var out []string
	for _, f := range facts {
		if o.has(f.flag) || o.has('a') {
			out = append(out, f.text)
		}
	}
	return print(p, "uname", strings.Join(out, " ")+"\n")
}

// userNames are the users that every fake sandbox knows.
var userNames = map[uint32]string{0: "root", 1000: "user", 65534: "nobody"}

func userName(id uint32) string {
	if name := userNames[id]; name != "" {
		return name
	}
	return strconv.FormatUint(uint64(id), 10)
}

func id(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "ugGn", map[string]byte{"user": 'u', "group": 'g', "groups": 'G', "name": 'n'})
	if !ok {
		return 2
	}
	if len(o.args) > 0 {
		return complain(p, 2, "id: users cannot be named")
	}
	uid, gid := p.User()
	show := func(id uint32) string {
		if o.has('n') {
			return userName(id)
		}
		return strconv.FormatUint(uint64(id), 10)
	}
	switch {
	case o.has('u'):
		return print(p, "id", show(uid)+"\n")
	case o.has('g') || o.has('G'):
		return print(p, "id", show(gid)+"\n")
	}
	return print(p, "id", fmt.Sprintf("uid=%d(%s) gid=%d(%s) groups=%d(%s)\n", uid, userName(uid), gid, userName(gid), gid, userName(gid)))
}

func seq(p system.Process, argv []string) int {
	// Numbers may be negative, which is no option.
	var flags, numbers []string
	for i := 1; i < len(argv); i++ {
		if _, err := strconv.ParseFloat(argv[i], 64); err == nil && (len(flags) == 0 || flags[len(flags)-1] != "-s") {
			numbers = append(numbers, argv[i])
			continue
		}
		flags = append(flags, argv[i])
	}
	o, ok := parse(p, append([]string{"seq"}, flags...), "s:w", map[string]byte{"separator": 's', "equal-width": 'w'})
	if !ok {
		return 2
	}
	if len(o.args) > 0 || len(numbers) == 0 || len(numbers) > 3 {
		return complain(p, 1, "seq: want [FIRST [INCREMENT]] LAST as numbers")
	}
	first, step, digits := 1.0, 1.0, 0
	values := make([]float64, len(numbers))
	for i, text := range numbers {
		values[i], _ = strconv.ParseFloat(text, 64) // checked above
		if _, fraction, ok := strings.Cut(text, "."); ok && i < max(len(numbers)-1, 1) {
			digits = max(digits, len(fraction))
		}
	}
	last := values[len(values)-1]
	if len(values) > 1 {
		first = values[0]
	}
	if len(values) > 2 {
		step = values[1]
	}
	if step == 0 {
		return complain(p, 1, "seq: the increment is 0")
	}
	separator := "\n"
	if o.has('s') {
		separator = o.set['s']
	}
	width := 0
	if o.has('w') {
		width = max(len(strconv.FormatFloat(first, 'f', digits, 64)), len(strconv.FormatFloat(last, 'f', digits, 64)))
	}
	return countUp(p, first, step, last, digits, width, separator)
}

func countUp(p system.Process, first, step, last float64, digits, width int, separator string) int {
	buf := make([]byte, 0, 2*blockSize)
	count := math.Floor((last-first)/step + 1e-9)
	for i := 0.0; i <= count; i++ {
		value := first + i*step
		if i > 0 {
			buf = append(buf, separator...)
		}
		switch {
		case width > 0:
			buf = fmt.Appendf(buf, "%0*.*f", width, digits, value)
		case digits == 0 && value == math.Trunc(value):
			buf = strconv.AppendInt(buf, int64(value), 10)
		default:
			buf = strconv.AppendFloat(buf, value, 'f', digits, 64)
		}
		if len(buf) > blockSize {
			if code := print(p, "seq", string(buf)); code != 0 {
				return code
			}
			buf = buf[:0]
		}
	}
	if count < 0 {
		return 0
	}
	return print(p, "seq", string(append(buf, '\n')))
}

func yes(p system.Process, argv []string) int {
	line := "y\n"
	if len(argv) > 1 {
		line = strings.Join(argv[1:], " ") + "\n"
	}
	block := strings.Repeat(line, blockSize/len(line)+1)
	for {
		if code := print(p, "yes", block); code != 0 {
			return code
		}
	}
}

// dateWords are the conversions of date and the layouts that they mean.
var dateWords = map[byte]string{
	'Y': "2006", 'm': "01", 'd': "02", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'y': "06", 'a': "Mon", 'A': "Monday", 'b': "Jan",
	'B': "January", 'e': "_2", 'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", 'D': "01/02/06", 'Z': "MST", 'z': "-0700", 'j': "002",
	'p': "PM", 'c': "Mon Jan _2 15:04:05 2006", 'N': "000000000",
}

func date(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "ud:", map[string]byte{"utc": 'u', "date": 'd'})
	if !ok {
		return 2
	}
	now := p.Now().UTC()
	if o.has('d') {
		seconds, err := strconv.ParseInt(strings.TrimPrefix(o.set['d'], "@"), 10, 64)
		if err != nil || !strings.HasPrefix(o.set['d'], "@") {
			return complain(p, 2, "date: -d %s: want @SECONDS", o.set['d'])
		}
		now = time.Unix(seconds, 0).UTC()
	}
	format := "+%a %b %e %H:%M:%S %Z %Y"
	if len(o.args) > 0 {
		format = o.args[0]
	}
	if !strings.HasPrefix(format, "+") || len(o.args) > 1 {
		return complain(p, 2, "date: want +FORMAT; the time cannot be set")
	}
	var out strings.Builder
	for i := 1; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			out.WriteByte(format[i])
			continue
		}
		i++
		switch c := format[i]; {
		case c == '%':
			out.WriteByte('%')
		case c == 'n':
			out.WriteByte('\n')
		case c == 't':
			out.WriteByte('\t')
		case c == 's':
			out.WriteString(strconv.FormatInt(now.Unix(), 10))
		case c == 'N':
			fmt.Fprintf(&out, "%09d", now.Nanosecond())
		case dateWords[c] != "":
			out.WriteString(now.Format(dateWords[c]))
		default:
			return complain(p, 2, "date: unsupported conversion %%%c", c)
		}
	}
	return print(p, "date", out.String()+"\n")
}
