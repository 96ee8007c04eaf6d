package fake

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// Program is a program of the fake: it returns its exit code.
type Program func(*process) int

// Programs are all there is. Beside those that do as on Linux:
//
//	counter [INTERVAL]    prints 1, 2, 3, … one a line
//	emit OUT ERR [CODE]   prints OUT to stdout and ERR to stderr
//	exit CODE             ends with CODE
//	listen PORT           echoes what connects to PORT
//	trap                  prints "ready", then each signal it gets; SIGTERM ends it
//	winsize               prints the terminal's size now and on each change
var Programs = map[string]Program{
	"cat": cat, "counter": counter, "echo": echo, "emit": emit, "env": env, "exit": exit, "false": fails,
	"head": head, "hostname": hostnameProgram, "id": id, "listen": listen, "ls": ls, "printf": printf, "pwd": pwd,
	"seq": seq, "sha256sum": sha256sum, "sleep": sleep, "tee": tee, "trap": trap, "true": succeeds, "tty": tty,
	"winsize": winsize, "yes": yes,
}

// program finds what argv[0] names; like a shell, it ends with 127 for what does
// not exist and with 126 for what cannot be executed. The caller holds the
// cloud's mutex.
func (c *cloud) program(b *box, name string) Program {
	base := path.Base(name)
	if !strings.Contains(name, "/") {
		if p := Programs[name]; p != nil {
			return p
		}
		return failure(name, "not found", 127)
	}
	at, err := c.view(b).existing(name, true)
	switch {
	case err != nil:
		return failure(name, "not found", 127)
	case at.node.Kind == regular && at.node.Mode&0o111 != 0 && Programs[base] != nil:
		return Programs[base]
	}
	return failure(name, "cannot be executed", 126)
}

func failure(name, why string, code int) Program {
	return func(p *process) int { return p.complain(code, "%s: %s", name, why) }
}

func (p *process) complain(code int, format string, args ...any) int {
	_, _ = fmt.Fprintf(p.errs(), format+"\n", args...) // a program that cannot complain ends all the same
	return code
}

func (p *process) args() []string { return p.spec.GetArgv()[1:] }

// print writes to stdout and returns the exit code that follows from it.
func (p *process) print(text string) int {
	if _, err := io.WriteString(p, text); err != nil {
		return 1
	}
	return 0
}

func succeeds(*process) int { return 0 }
func fails(*process) int    { return 1 }

func echo(p *process) int { return p.print(strings.Join(p.args(), " ") + "\n") }

func printf(p *process) int {
	return p.print(strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\\`, `\`, `%%`, "%").Replace(strings.Join(p.args(), "")))
}

func emit(p *process) int {
	args := append(slices.Clone(p.args()), "", "", "0")
	if code := p.print(args[0]); code != 0 {
		return code
	}
	if _, err := io.WriteString(p.errs(), args[1]); err != nil {
		return 1
	}
	code, err := strconv.Atoi(args[2])
	if err != nil {
		return 0
	}
	return code
}

func exit(p *process) int {
	if len(p.args()) == 0 {
		return 0
	}
	code, err := strconv.Atoi(p.args()[0])
	if err != nil || code < 0 || code > 255 {
		return p.complain(2, "exit: %s: want a number from 0 to 255", p.args()[0])
	}
	return code
}

func pwd(p *process) int { return p.print(p.dir + "\n") }

func env(p *process) int {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p.env)) {
		out.WriteString(name + "=" + p.env[name] + "\n")
	}
	return p.print(out.String())
}

func hostnameProgram(p *process) int { return p.print(hostname(p.box) + "\n") }

func id(p *process) int { return p.print("uid=" + strconv.FormatUint(uint64(p.uid), 10) + "\n") }

func tty(p *process) int {
	if p.spec.GetTerminal() == nil {
		_ = p.print("not a tty\n")
		return 1
	}
	return p.print("/dev/pts/0\n")
}

func (p *process) printSize() int {
	p.mu.Lock()
	rows, cols := p.size.GetRows(), p.size.GetCols()
	p.mu.Unlock()
	return p.print(fmt.Sprintf("%d %d\n", rows, cols))
}

func winsize(p *process) int {
	if p.spec.GetTerminal() == nil {
		return p.complain(1, "winsize: not a terminal")
	}
	p.catch()
	for code := p.printSize(); code == 0; {
		name, err := p.sleep(forever)
		switch {
		case err != nil:
			return 1
		case name == "SIGWINCH":
			code = p.printSize()
		default:
			return 0
		}
	}
	return 1
}

// forever is longer than any sandbox lives.
const forever = 100 * 365 * 24 * time.Hour

func (p *process) catch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trapped = true
}

func trap(p *process) int {
	p.catch()
	for line := "ready"; p.print(line+"\n") == 0 && line != "SIGTERM"; {
		name, err := p.sleep(forever)
		if err != nil {
			return 1
		}
		line = name
	}
	return 0
}

func sleep(p *process) int {
	d, err := seconds(p.args(), "")
	if err != nil {
		return p.complain(1, "sleep: %v", err)
	}
	if _, err := p.sleep(d); err != nil {
		return 1
	}
	return 0
}

// seconds reads the first argument as seconds or as a duration such as 10ms.
func seconds(args []string, def string) (time.Duration, error) {
	text := def
	if len(args) > 0 {
		text = args[0]
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && f >= 0 {
		return time.Duration(f * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q: want seconds", text)
	}
	return d, nil
}

func counter(p *process) int {
	interval, err := seconds(p.args(), "10ms")
	if err != nil {
		return p.complain(1, "counter: %v", err)
	}
	for n := 1; ; n++ {
		if code := p.print(strconv.Itoa(n) + "\n"); code != 0 {
			return code
		}
		if _, err := p.sleep(interval); err != nil {
			return 1
		}
	}
}

func seq(p *process) int {
	args := p.args()
	if len(args) == 0 || len(args) > 2 {
		return p.complain(1, "seq: want [FIRST] LAST")
	}
	first, err1 := strconv.Atoi("1")
	last, err2 := strconv.Atoi(args[len(args)-1])
	if len(args) == 2 {
		first, err1 = strconv.Atoi(args[0])
	}
	if err1 != nil || err2 != nil {
		return p.complain(1, "seq: want numbers")
	}
	buf := make([]byte, 0, bufferSize)
	for n := first; n <= last; n++ {
		buf = append(strconv.AppendInt(buf, int64(n), 10), '\n')
		if len(buf) > bufferSize/2 || n == last {
			if _, err := p.Write(buf); err != nil {
				return 1
			}
			buf = buf[:0]
		}
	}
	return 0
}

func yes(p *process) int {
	line := "y\n"
	if len(p.args()) > 0 {
		line = strings.Join(p.args(), " ") + "\n"
	}
	block := []byte(strings.Repeat(line, bufferSize/2/len(line)+1))
	for {
		if _, err := p.Write(block); err != nil {
			return 1
		}
	}
}

func listen(p *process) int {
	if len(p.args()) != 1 {
		return p.complain(2, "listen: want a port")
	}
	port, err := strconv.ParseUint(p.args()[0], 10, 16)
	if err != nil || port == 0 {
		return p.complain(2, "listen: %s: want a port from 1 to 65535", p.args()[0])
	}
	p.cloud.mu.Lock()
	taken := p.box.live.ports[uint32(port)] != nil
	if !taken {
		p.box.live.ports[uint32(port)] = p
	}
	p.cloud.mu.Unlock()
	if taken {
		return p.complain(1, "listen: port %d is in use", port)
	}
	if code := p.print("listening\n"); code != 0 {
		return code
	}
	if _, err := p.sleep(forever); err != nil {
		return 1
	}
	return 0
}

func sha256sum(p *process) int {
	in, code := p.inputs(p.args())
	if code != 0 {
		return code
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return 1
	}
	return p.print(fmt.Sprintf("%x  -\n", sum.Sum(nil)))
}

func cat(p *process) int {
	in, code := p.inputs(p.args())
	if code != 0 {
		return code
	}
	if _, err := io.Copy(struct{ io.Writer }{p}, struct{ io.Reader }{in}); err != nil {
		return 1
	}
	return 0
}

// head prints the first bytes of its input; of /dev/urandom they are the same
// every time, so that a reader can check them.
func head(p *process) int {
	args := p.args()
	if len(args) < 2 || args[0] != "-c" {
		return p.complain(1, "head: want -c N [FILE]")
	}
	n, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil || n < 0 {
		return p.complain(1, "head: %s: want a number of bytes", args[1])
	}
	in, code := p.inputs(args[2:])
	if code != 0 {
		return code
	}
	buf := make([]byte, bufferSize/2)
	if _, err := io.CopyBuffer(struct{ io.Writer }{p}, io.LimitReader(in, n), buf); err != nil {
		return 1
	}
	return 0
}

// absolute returns a path as the program means it.
func (p *process) absolute(name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return path.Join(p.dir, name)
}

// inputs returns the content of files, or standard input if there are none.
func (p *process) inputs(names []string) (io.Reader, int) {
	if len(names) == 0 {
		return p, 0
	}
	var all []io.Reader
	for _, name := range names {
		switch p.absolute(name) {
		case "/dev/stdin":
			all = append(all, p)
			continue
		case "/dev/urandom":
			all = append(all, NewRandom())
			continue
		case "/dev/zero":
			all = append(all, zeros{})
			continue
		}
		p.cloud.mu.Lock()
		at, err := p.cloud.view(p.box).existing(p.absolute(name), true)
		p.cloud.mu.Unlock()
		if err != nil || at.node.Kind != regular {
			return nil, p.complain(1, "%s: no such file", name)
		}
		all = append(all, strings.NewReader(string(at.node.Data)))
	}
	return io.MultiReader(all...), 0
}

func tee(p *process) int {
	data, err := io.ReadAll(io.TeeReader(struct{ io.Reader }{p}, struct{ io.Writer }{p}))
	if err != nil {
		return 1
	}
	for _, name := range p.args() {
		p.cloud.mu.Lock()
		_, err := p.cloud.writeFile(p.box, &providerv1.WriteFileOpen{
			Path: p.absolute(name), Mode: providerv1.WriteMode_WRITE_MODE_REPLACE, Permissions: 0o644,
		}, data)
		if err == nil {
			err = p.cloud.saveFiles(p.box)
		}
		p.cloud.mu.Unlock()
		if err != nil {
			return p.complain(1, "tee: %v", err)
		}
	}
	return 0
}

func ls(p *process) int {
	dir := p.dir
	if len(p.args()) > 0 {
		dir = p.absolute(p.args()[0])
	}
	p.cloud.mu.Lock()
	v := p.cloud.view(p.box)
	at, err := v.existing(dir, true)
	var names []string
	if err == nil {
		names = v.names(at)
	}
	p.cloud.mu.Unlock()
	if err != nil {
		return p.complain(1, "ls: %v", err)
	}
	return p.print(strings.Join(append(names, ""), "\n"))
}
