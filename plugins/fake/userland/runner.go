package userland

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// runLine bounds what one line of output holds, so that the line is written as a
// whole however full the pipe is.
const runLine = 3000

// patience is how often a reader who has not acknowledged is looked for.
const patience = 10 * time.Millisecond

// run is the runner of providers whose vendor can do no more than to stream text;
// plugins/internal/runner/protocol.go says what it prints, and that the environment is on standard
// input. Its arguments are ACK WINDOW FOLDER INPUT PROGRAM ARGUMENT….
func run(p system.Process, args []string) int {
	const fixed = 4
	var window int64
	var err error
	if len(args) > fixed {
		window, err = strconv.ParseInt(args[1], 10, 64)
	}
	if err != nil || window < 1 {
		return complain(p, 2, "sandbar-probe: want run ACK WINDOW FOLDER INPUT PROGRAM ARGUMENT…")
	}
	set, err := environment(p)
	if err != nil {
		return print(p, "sandbar-probe", "failed its environment cannot be read: "+err.Error()+"\n")
	}
	if args[2] != "" {
		if err := p.Chdir(args[2]); err != nil {
			return print(p, "sandbar-probe", "refused "+Message(err)+"\n")
		}
	}
	var r, w [3]int // the ends of its standard streams
	for i := range r {
		if r[i], w[i], err = p.Pipe(); err != nil {
			return print(p, "sandbar-probe", "failed "+Message(err)+"\n")
		}
	}
	pid, err := p.Fork(func(p system.Process) int {
		return become(p, args[fixed:], set, [3]int{r[0], w[1], w[2]}, slices.Concat(r[:], w[:]))
	})
	if err != nil {
		return print(p, "sandbar-probe", "failed "+Message(err)+"\n")
	}
	_, _, _ = p.Close(r[0]), p.Close(w[1]), p.Close(w[2]) // they are the command's
	if code := print(p, "sandbar-probe", fmt.Sprintf("started %d\n", pid)); code != 0 {
		return code
	}
	ours := []int{w[0], r[1], r[2]}
	var pumps []int
	for i, fd := range ours {
		if i == 0 && args[3] == "" {
			continue
		}
		pump, err := p.Fork(func(p system.Process) int {
			for _, other := range ours {
				if other != fd {
					_ = p.Close(other) // it is open
				}
			}
			if i == 0 {
				return feed(p, args[3], fd)
			}
			return tell(p, "oe"[i-1:i], args[0], window, fd)
		})
		if err != nil {
			return complain(p, 1, "sandbar-probe: fork: %s", Message(err))
		}
		pumps = append(pumps, pump)
	}
	_, _, _ = p.Close(w[0]), p.Close(r[1]), p.Close(r[2]) // they are the pumps'
	return await(p, args[0], args[3] != "", pid, pumps)
}

// environment reads what is to be in the command's.
func environment(p system.Process) ([]string, error) {
	text, err := io.ReadAll(system.Stdin(p))
	if err != nil {
		return nil, err
	}
	pairs, err := hex.DecodeString(strings.TrimSpace(string(text)))
	return strings.FieldsFunc(string(pairs), func(r rune) bool { return r == 0 }), err
}

// await waits for a command and then for its pumps, of which the first may be the one
// of input: it is not waited for.
func await(p system.Process, ack string, feeds bool, pid int, pumps []int) int {
	status, err := p.Wait(pid)
	if err != nil {
		return complain(p, 1, "sandbar-probe: wait: %s", Message(err))
	}
	end := fmt.Sprintf("exited %d\n", status.Code)
	if status.Signal != 0 {
		end = fmt.Sprintf("killed %d\n", status.Signal)
	}
	code := print(p, "sandbar-probe", end)
	if feeds {
		_ = p.Kill(pumps[0], system.SIGKILL) // it may have ended
	}
	for _, pump := range pumps {
		_, _ = p.Wait(pump) // there is nothing to be told of it
	}
	_ = p.Unlink(ack) // it need not be there
	return code
}

// feed hands input to the command as it comes, in files of a length, a line end, and
// what it is the length of, until one says close.
func feed(p system.Process, input string, fd int) int {
	p.Handle(system.SIGPIPE, system.Ignore)
	for fed, n := 0, 0; ; {
		name := input + "." + strconv.Itoa(n)
		text, err := system.ReadFile(p, name)
		head, piece, whole := strings.Cut(string(text), "\n")
		size, bad := strconv.Atoi(head)
		switch {
		case err == nil && whole && head == "close":
			return 0
		case err != nil || !whole || bad != nil || size != len(piece):
			_ = p.Sleep(patience) // it is not there, or just being written
			continue
		}
		if n > 0 {
			_ = p.Unlink(input + "." + strconv.Itoa(n-1)) // it was there, and is not being made any more
		}
		if _, err := p.Write(fd, []byte(piece)); err != nil {
			return print(p, "sandbar-probe", fmt.Sprintf("I %d\n", fed))
		}
		fed, n = fed+size, n+1
		if code := print(p, "sandbar-probe", fmt.Sprintf("i %d\n", fed)); code != 0 {
			return code
		}
	}
}

// become makes the command of the process it is called in.
func become(p system.Process, argv, set []string, streams [3]int, open []int) int {
	if err := p.Setsid(); err != nil {
		return complain(p, 126, "sandbar-probe: %s", Message(err))
	}
	for fd, from := range streams {
		_ = p.Dup2(from, fd) // it is open
	}
	for _, fd := range open {
		_ = p.Close(fd) // it is open
	}
	env := p.Environ()
	for _, pair := range set {
		name, _, _ := strings.Cut(pair, "=")
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		env = append(env, pair)
	}
	file, err := Find(p, argv[0], Getenv(env, "PATH"))
	if err == nil {
		err = p.Exec(file, argv, env)
	}
	return complain(p, NotFound(err), "%s: %s", argv[0], Message(err))
}

// tell prints what comes from a descriptor, as far as the window allows.
func tell(p system.Process, name, ack string, window int64, fd int) int {
	buf := make([]byte, runLine)
	var sent, acked int64
	for {
		for sent-acked >= window {
			var closed bool
			if acked, closed = acknowledged(p, name, ack, acked); closed {
				return 0
			}
			if sent-acked >= window {
				_ = p.Sleep(patience) // a signal is as good
			}
		}
		n, err := p.Read(fd, buf[:min(runLine, window-sent+acked)])
		if n > 0 {
			line := fmt.Sprintf("%s %d %s\n", name, sent, base64.StdEncoding.EncodeToString(buf[:n]))
			if _, err := io.WriteString(system.Stdout(p), line); err != nil {
				return 1
			}
			sent += int64(n)
		}
		if err != nil {
			return print(p, "sandbar-probe", fmt.Sprintf("%s %d\n", strings.ToUpper(name), sent))
		}
	}
}

// acknowledged reads how much of a stream was taken over, and whether nobody wants
// more.
func acknowledged(p system.Process, name, file string, before int64) (acked int64, closed bool) {
	text, err := system.ReadFile(p, file)
	if err != nil {
		return before, false
	}
	if strings.HasPrefix(string(text), "close") {
		return before, true
	}
	fields := strings.Fields(string(text))
	if len(fields) != 2 || !strings.HasSuffix(string(text), "\n") {
		return before, false // it is just being written
	}
	n, err := strconv.ParseInt(fields[strings.Index("oe", name)], 10, 64)
	if err != nil {
		return before, false
	}
	return max(before, n), false
}
