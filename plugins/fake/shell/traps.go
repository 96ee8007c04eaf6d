package shell

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// signals runs the traps of signals that came; true: there was one.
func (sh *shell) signals() bool {
	if sh.trapping {
		return false
	}
	any := false
	for s, ok := sh.p.Caught(); ok; s, ok = sh.p.Caught() {
		any = true
		if action := sh.traps[s.String()[3:]]; action != "" {
			sh.trap(action)
		} else if sh.interactive {
			_, _ = system.Stderr(sh.p).Write([]byte{'\n'}) // the line that was interrupted
		}
	}
	return any
}

// trap runs an action; $? stays what it was.
func (sh *shell) trap(action string) {
	last, leave := sh.last, sh.leave
	sh.trapping, sh.leave = true, leaving{}
	sh.eval(action)
	sh.trapping, sh.last = false, last
	if sh.leave.kind == "" {
		sh.leave = leave
	}
}

// condition of trap: EXIT, ERR or a signal, by name or number.
func trapName(text string) (name string, signal system.Signal, ok bool) {
	switch text {
	case "0", "EXIT":
		return "EXIT", 0, true
	case "ERR":
		return "ERR", 0, true
	}
	s, ok := system.ParseSignal(text)
	if !ok || s == 0 {
		return "", 0, false
	}
	return s.String()[3:], s, true
}

func trapBuiltin(sh *shell, args []string) int {
	args = args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 || (len(args) == 1 && args[0] == "-p") {
		var out strings.Builder
		for _, name := range slices.Sorted(maps.Keys(sh.traps)) {
			out.WriteString("trap -- " + quote(sh.traps[name]) + " " + name + "\n")
		}
		return sh.print(out.String())
	}
	action, names := args[0], args[1:]
	reset := action == "-"
	if _, err := strconv.Atoi(action); err == nil || len(names) == 0 {
		reset, names = true, args
	}
	for _, text := range names {
		name, signal, ok := trapName(text)
		if !ok {
			return sh.complain(1, "trap: %s: no such signal", text)
		}
		how := system.Catch
		switch {
		case reset:
			how = system.Default
			delete(sh.traps, name)
		case action == "":
			how = system.Ignore
			sh.traps[name] = ""
		default:
			sh.traps[name] = action
		}
		if signal != 0 {
			sh.p.Handle(signal, how)
		}
	}
	return 0
}

func waitBuiltin(sh *shell, args []string) int {
	if len(args) > 1 && strings.HasPrefix(args[1], "-") {
		return sh.complain(2, "wait: unsupported option %s", args[1])
	}
	pids := slices.Clone(sh.jobs)
	if len(args) > 1 {
		pids = nil
		for _, text := range args[1:] {
			pid, ok := sh.job(text)
			if !ok {
				return sh.complain(2, "wait: %s: no such job", text)
			}
			pids = append(pids, pid)
		}
	}
	status := 0
	for _, pid := range pids {
		for {
			ended, err := sh.p.Wait(pid)
			if interrupted(err) {
				s, came := sh.p.Caught()
				if !came {
					continue
				}
				if action := sh.traps[s.String()[3:]]; action != "" {
					sh.trap(action)
				}
				return 128 + int(s)
			}
			status = ended.ExitCode()
			if err == syscall.ECHILD { //nolint:errorlint // returned bare
				status = 127
			}
			break
		}
		sh.jobs = slices.DeleteFunc(sh.jobs, func(job int) bool { return job == pid })
	}
	if len(args) == 1 {
		return 0
	}
	return status
}

// job reads a process id or %N.
func (sh *shell) job(text string) (int, bool) {
	number, isJob := strings.CutPrefix(text, "%")
	n, err := strconv.Atoi(number)
	if isJob && (number == "" || number == "%" || number == "+") {
		n, err = len(sh.jobs), nil
	}
	switch {
	case err != nil:
		return 0, false
	case !isJob:
		return n, true
	case n < 1 || n > len(sh.jobs):
		return 0, false
	}
	return sh.jobs[n-1], true
}

// quote makes a text one word.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
