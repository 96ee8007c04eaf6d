package userland

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// forever is longer than any sandbox lives.
const forever = 100 * 365 * 24 * time.Hour

func env(p system.Process, argv []string) int {
	pairs, args := p.Environ(), argv[1:]
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		switch arg := args[0]; {
		case arg == "--":
		case arg == "-i" || arg == "--ignore-environment":
			pairs = nil
		case arg == "-u" && len(args) > 1:
			pairs = slices.DeleteFunc(pairs, func(pair string) bool { return strings.HasPrefix(pair, args[1]+"=") })
			args = args[1:]
		default:
			return complain(p, 125, "env: unsupported option %s", arg)
		}
		args = args[1:]
		if argv[len(argv)-len(args)-1] == "--" {
			break
		}
	}
	for ; len(args) > 0 && strings.Contains(args[0], "="); args = args[1:] {
		name, _, _ := strings.Cut(args[0], "=")
		pairs = slices.DeleteFunc(pairs, func(pair string) bool { return strings.HasPrefix(pair, name+"=") })
		pairs = append(pairs, args[0])
	}
	if len(args) == 0 {
		slices.Sort(pairs)
		return print(p, "env", strings.Join(append(pairs, ""), "\n"))
	}
	file, err := Find(p, args[0], Getenv(p.Environ(), "PATH"))
	if err == nil {
		err = p.Exec(file, args, pairs)
	}
	return complain(p, NotFound(err), "env: '%s': %s", args[0], Message(err))
}

func kill(p system.Process, argv []string) int {
	args, signal := argv[1:], system.SIGTERM
	if len(args) > 0 && args[0] == "-l" {
		var names []string
		for _, s := range system.SignalList {
			names = append(names, strings.TrimPrefix(s.String(), "SIG"))
		}
		return print(p, "kill", strings.Join(names, "\n")+"\n")
	}
	if len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && args[0] != "--" {
		name := args[0][1:]
		if name == "s" || name == "n" {
			if len(args) < 2 {
				return complain(p, 2, "kill: -%s needs a signal", name)
			}
			name, args = args[1], args[1:]
		}
		s, ok := system.ParseSignal(name)
		if !ok {
			return complain(p, 2, "kill: %s: no such signal", name)
		}
		signal, args = s, args[1:]
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return complain(p, 2, "kill: want a process")
	}
	code := 0
	for _, text := range args {
		pid, err := strconv.Atoi(text)
		if err != nil {
			code = complain(p, 1, "kill: %s: want a number", text)
			continue
		}
		if err := p.Kill(pid, signal); err != nil {
			code = complain(p, 1, "kill: (%s) - %s", text, Message(err))
		}
	}
	return code
}

func sleep(p system.Process, argv []string) int {
	if len(argv) < 2 {
		return complain(p, 1, "sleep: want a time")
	}
	var total time.Duration
	for _, text := range argv[1:] {
		d, err := seconds(text)
		if err != nil {
			return complain(p, 1, "sleep: %v", err)
		}
		total = min(total+d, forever)
	}
	end := p.Now().Add(total)
	for p.Sleep(total) == syscall.EINTR { //nolint:errorlint // returned bare
		total = end.Sub(p.Now())
	}
	return 0
}

// seconds reads seconds, or a duration such as 10ms, 5m or 1d.
func seconds(text string) (time.Duration, error) {
	if text == "infinity" || text == "inf" {
		return forever, nil
	}
	unit := time.Second
	if days, ok := strings.CutSuffix(text, "d"); ok {
		text, unit = days, 24*time.Hour
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && f >= 0 {
		return time.Duration(min(f*float64(unit), float64(forever))), nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || unit != time.Second {
		return 0, fmt.Errorf("%q: want seconds", text)
	}
	return d, nil
}

func tty(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "s", map[string]byte{"silent": 's', "quiet": 's'})
	if !ok {
		return 2
	}
	name, code := "/dev/pts/0", 0
	if p.Terminal(0) == nil {
		name, code = "not a tty", 1
	}
	if !o.has('s') {
		return max(code, print(p, "tty", name+"\n"))
	}
	return code
}
