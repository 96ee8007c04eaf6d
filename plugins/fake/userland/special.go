package userland

import (
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

func emit(p system.Process, argv []string) int {
	args := append(slices.Clone(argv[1:]), "", "", "0")
	if code := print(p, "emit", args[0]); code != 0 {
		return code
	}
	if _, err := io.WriteString(system.Stderr(p), args[1]); err != nil {
		return 1
	}
	code, err := strconv.Atoi(args[2])
	if err != nil {
		return 0
	}
	return code
}

func exit(p system.Process, argv []string) int {
	if len(argv) < 2 {
		return 0
	}
	code, err := strconv.Atoi(argv[1])
	if err != nil || code < 0 || code > 255 {
		return complain(p, 2, "exit: %s: want a number from 0 to 255", argv[1])
	}
	return code
}

func counter(p system.Process, argv []string) int {
	interval := 10 * time.Millisecond
	if len(argv) > 1 {
		var err error
		if interval, err = seconds(argv[1]); err != nil {
			return complain(p, 1, "counter: %v", err)
		}
	}
	for n := 1; ; n++ {
		if code := print(p, "counter", strconv.Itoa(n)+"\n"); code != 0 {
			return code
		}
		if p.Sleep(interval) != nil {
			return 1
		}
	}
}

// trap shows what signals come.
func trap(p system.Process, _ []string) int {
	for _, s := range system.SignalList {
		if s != system.SIGCHLD && s != system.SIGPIPE {
			p.Handle(s, system.Catch)
		}
	}
	if code := print(p, "trap", "ready\n"); code != 0 {
		return code
	}
	for {
		for s, ok := p.Caught(); ok; s, ok = p.Caught() {
			if code := print(p, "trap", s.String()+"\n"); code != 0 || s == system.SIGTERM {
				return code
			}
		}
		_ = p.Sleep(forever) // ends with a signal
	}
}

func winsize(p system.Process, _ []string) int {
	t := p.Terminal(0)
	if t == nil {
		return complain(p, 1, "winsize: not a terminal")
	}
	p.Handle(system.SIGWINCH, system.Catch)
	for {
		rows, cols := t.Size()
		if code := print(p, "winsize", strconv.Itoa(int(rows))+" "+strconv.Itoa(int(cols))+"\n"); code != 0 {
			return code
		}
		s, ok := p.Caught()
		for ; !ok; s, ok = p.Caught() {
			_ = p.Sleep(forever) // ends with a signal
		}
		if s != system.SIGWINCH {
			return 0
		}
	}
}

func listen(p system.Process, argv []string) int {
	if len(argv) != 2 {
		return complain(p, 2, "listen: want a port")
	}
	return serve(p, "listen", argv[1], "listening\n")
}

func probe(p system.Process, argv []string) int {
	switch {
	case len(argv) == 3 && argv[1] == "echo":
		return serve(p, "sandbar-probe", argv[2], "")
	case len(argv) == 6 && argv[1] == "send" && (argv[2] == "tcp" || argv[2] == "udp"):
		return send(p, argv[2], net.JoinHostPort(argv[3], argv[4]), argv[5])
	case len(argv) == 3 && argv[1] == "lookup":
		return lookup(p, argv[2])
	case len(argv) > 2 && argv[1] == "run":
		return run(p, argv[2:])
	case len(argv) > 2 && argv[1] == "files":
		return files(p, argv[2:])
	case len(argv) > 3 && argv[1] == "relay":
		return relay(p, argv[2], argv[3:])
	}
	return complain(p, 2, "sandbar-probe: want echo PORT, send tcp|udp ADDRESS PORT TEXT, lookup NAME, run ACK WINDOW FOLDER INPUT COUNT …, files WHAT …, or relay PORT ADDRESS…")
}

// serve echoes every connection to a port, each in a process of its own.
func serve(p system.Process, program, text, ready string) int {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return complain(p, 2, "%s: %s: want a port from 1 to 65535", program, text)
	}
	fd, err := p.Listen(uint16(port))
	if err != nil {
		return complain(p, 1, "%s: port %d: %s", program, port, Message(err))
	}
	p.Handle(system.SIGCHLD, system.Ignore)
	p.Handle(system.SIGPIPE, system.Ignore)
	if code := print(p, program, ready); code != 0 {
		return code
	}
	for {
		conn, err := p.Accept(fd)
		if err != nil {
			return complain(p, 1, "%s: accept: %s", program, Message(err))
		}
		if _, err = p.Fork(func(p system.Process) int {
			// The listener and the standard streams are its parent's.
			for _, other := range []int{0, 1, 2, fd} {
				_ = p.Close(other) // it is open
			}
			return reflect(p, conn)
		}); err != nil {
			complain(p, 0, "%s: fork: %s", program, Message(err))
		}
		_ = p.Close(conn) // the child has it
	}
}

func reflect(p system.Process, conn int) int {
	buf := make([]byte, blockSize)
	for {
		n, err := p.Read(conn, buf)
		if n > 0 {
			if _, err := p.Write(conn, buf[:n]); err != nil {
				return 1
			}
		}
		if err != nil {
			_ = p.Shutdown(conn) // its peer has ended its side, or is gone
			return 0
		}
	}
}
