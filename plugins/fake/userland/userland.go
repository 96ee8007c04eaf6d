package userland

import (
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// Programs is every program but the shell, by name.
var Programs = map[string]system.Program{
	"[": bracket, "cat": cat, "chmod": chmod, "counter": counter, "cp": cp, "date": date, "dd": dd, "echo": echo, "emit": emit,
	"env": env, "exit": exit, "false": fails, "head": head, "hostname": hostname, "id": id, "kill": kill, "listen": listen,
	"ln": ln, "ls": ls, "mkdir": mkdir, "mv": mv, "od": od, "printf": printf, "pwd": pwd, "readlink": readlink, "rm": rm,
	"rmdir": rmdir, "sandbar-probe": probe, "seq": seq, "sha256sum": sha256sum, "sleep": sleep, "sort": sortLines, "stty": stty,
	"tail": tail, "tee": tee, "test": test, "touch": touch, "tr": tr, "trap": trap, "true": succeeds, "tty": tty, "uname": uname,
	"wc": wc, "winsize": winsize, "yes": yes,
}

// blockSize is how much programs read and write at once.
const blockSize = 32 << 10

// Message is an error in the words of strerror.
func Message(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

// complain writes a line to standard error and returns code.
func complain(p system.Process, code int, format string, args ...any) int {
	_, _ = fmt.Fprintf(system.Stderr(p), format+"\n", args...) // a program that cannot complain ends all the same
	return code
}

// trouble is complain for a file.
func trouble(p system.Process, program, name string, err error) int {
	return complain(p, 1, "%s: %s: %s", program, name, Message(err))
}

// print writes to stdout and returns the exit code that follows from it.
func print(p system.Process, program, text string) int {
	if _, err := io.WriteString(system.Stdout(p), text); err != nil {
		return complain(p, 1, "%s: write error: %s", program, Message(err))
	}
	return 0
}

// open opens a file to read; "-" is standard input.
func open(p system.Process, program, name string) (system.Descriptor, bool) {
	if name == "-" {
		return system.Stdin(p), true
	}
	fd, err := p.Open(name, os.O_RDONLY, 0)
	if err != nil {
		trouble(p, program, name, err)
		return system.Descriptor{}, false
	}
	in := system.Descriptor{P: p, FD: fd}
	if info, err := p.Fstat(fd); err == nil && info.Kind == system.Directory {
		done(in)
		trouble(p, program, name, syscall.EISDIR)
		return system.Descriptor{}, false
	}
	return in, true
}

// done closes what open opened.
func done(d system.Descriptor) {
	if d.FD != 0 {
		_ = d.Close() // it was only read
	}
}

// each calls f with every named file, or with standard input if there are none,
// and returns the worst code.
func each(p system.Process, program string, names []string, f func(name string, in system.Descriptor) int) int {
	if len(names) == 0 {
		names = []string{"-"}
	}
	worst := 0
	for _, name := range names {
		in, ok := open(p, program, name)
		if !ok {
			worst = max(worst, 1)
			continue
		}
		worst = max(worst, f(name, in))
		done(in)
	}
	return worst
}

// pour copies to stdout and returns the code that follows from it.
func pour(p system.Process, program, name string, in io.Reader) int {
	buf := make([]byte, blockSize)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			if _, err := system.Stdout(p).Write(buf[:n]); err != nil {
				return complain(p, 1, "%s: write error: %s", program, Message(err))
			}
		}
		if err == io.EOF {
			return 0
		}
		if err != nil {
			return trouble(p, program, name, err)
		}
	}
}

// Getenv returns the last value of a variable in env.
func Getenv(env []string, name string) string {
	value := ""
	for _, pair := range env {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			value = v
		}
	}
	return value
}

// Find returns the file that a command's name means: itself if it has a slash,
// or else the first executable file of that name in the folders of PATH.
func Find(p system.Process, name, folders string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	var found error = syscall.ENOENT
	for dir := range strings.SplitSeq(folders, ":") {
		file := path.Join(dir, name)
		if dir == "" {
			file = "./" + name
		}
		info, err := p.Stat(file, true)
		switch {
		case err != nil || info.Kind != system.Regular:
		case p.Access(file, 1) != nil:
			found = syscall.EACCES
		default:
			return file, nil
		}
	}
	return "", found
}

// NotFound is the code for a command that could not be started.
func NotFound(err error) int {
	if err == syscall.ENOENT || err == syscall.ENOTDIR { //nolint:errorlint // the calls of package system return them bare
		return 127
	}
	return 126
}
