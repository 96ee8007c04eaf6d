package runner

import (
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// # The runner
//
// A command is started by a runner inside the sandbox, which prints lines of ASCII:
//
//	started PID          the command runs, as the leader of a process group
//	refused WHY          its folder cannot be entered; nothing was started
//	failed WHY           the runner could not do its work; nothing was started
//	o OFFSET BASE64      standard output, at an offset
//	e OFFSET BASE64      standard error, likewise
//	O TOTAL, E TOTAL     the end of a stream
//	i OFFSET             how much of its standard input the command took over
//	I OFFSET             the same, and that nobody reads any more
//	exited CODE          the end of the command
//	killed NUMBER        the same, by a signal as Linux numbers them
//
// It never has more than a window of each stream on its way: what was taken over it
// reads from a file, ACK, in which the plugin writes "STDOUT STDERR", two offsets.
// "close" there says that nobody wants more: the runner leaves, and what a process
// that was left behind prints finds no reader. Asked to terminate, it kills the
// command's process group first.
//
// Standard input comes in files INPUT.0, INPUT.1 and so on: a length, a line end and so
// many bytes, or "close". The runner hands each to the command, says so, and looks for
// the next, at least four times a second; a piece is removed when the next is there.
//
// The environment of the command is on the standard input of the runner; see
// environment.
//
// The runner is a script for perl, which is essential to Debian and what is made of it.
// An image may have a program sandbar-probe instead, which does the same.

//go:embed runner.pl
var runnerScript string

// Launcher picks a runner. Its arguments are what the program that may be there calls
// it, the script, and those of the runner.
const Launcher = `mode=$1 script=$2; shift 2
if command -v sandbar-probe > /dev/null 2>&1; then exec sandbar-probe "$mode" "$@"; fi
for perl in perl /usr/bin/perl /usr/local/bin/perl; do
  if command -v $perl > /dev/null 2>&1; then exec $perl -e "$script" -- "$@"; fi
done
echo "failed there is no perl in this image, which running commands needs"`

// window is how much of each stream is on its way at once.
const window = 1 << 20

// ackFile is where the runner of an exec looks.
func ackFile(exec string) string { return "/tmp/.sandbar-" + exec }

// inputFile is where the runner looks for a piece of standard input.
func inputFile(exec string, piece int) string { return inputPrefix(exec) + "." + strconv.Itoa(piece) }

func inputPrefix(exec string) string { return ackFile(exec) + ".in" }

// Args are the arguments of /bin/sh that start a command under a runner, and what has
// to be in that shell's environment, beside what is there. workdir may be empty.
func Args(exec, workdir string, spec *providerv1.ExecSpec) (args []string, env map[string]string) {
	input := ""
	if spec.GetStdin() {
		input = inputPrefix(exec)
	}
	prologue, env := environment(spec.GetEnv())
	args = []string{"-c", prologue + Launcher, "sandbar", "run", runnerScript, ackFile(exec), strconv.Itoa(window), workdir, input}
	return append(args, spec.GetArgv()...), env
}

// mostCarried is how long one variable of environment becomes: Linux takes no string
// above 128 KiB for a program.
const mostCarried = 64 << 10

// environment is how a command gets its variables, which may be secret: arguments can
// be read by every process in the sandbox, by whoever it is, and vendors show them in
// their records of commands. So they go to the shell that starts the runner as
// variables, for which one vendor's call has a field and another's line of shell has
// assignments: neither makes arguments of them. A file would be one more call for each
// command, and readable by all until it is removed.
//
// They are not there by their names, or else a PATH, an LD_PRELOAD or a PERL5OPT of the
// command's would be the runner's; but in hexadecimal, NAME=VALUE with a NUL behind
// each. The prologue, which that shell runs first, hands them on as the runner's
// standard input, and takes them out of its environment: what /proc tells of a runner,
// which is there for longer than its command, has none of them. That of the command
// itself does, to its own user.
func environment(set map[string]string) (prologue string, env map[string]string) {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(set)) {
		text.WriteString(hex.EncodeToString([]byte(name + "=" + set[name] + "\x00")))
	}
	env = map[string]string{}
	var names []string
	for rest := text.String(); len(names) == 0 || rest != ""; { // one is there if it is empty: the sandbox may have one of its name
		name, n := "SANDBAR_ENV_"+strconv.Itoa(len(names)), min(len(rest), mostCarried)
		env[name], rest = rest[:n], rest[n:]
		names = append(names, name)
	}
	return "exec <<end\n$" + strings.Join(names, "$") + "\nend\nunset " + strings.Join(names, " ") + "\n", env
}

// Kinds of what a runner says.
type kind int

const (
	started kind = iota + 1
	refused
	failed
	output
	finished
	exited
	killed
	taken
	unread
)

// saying is one line of a runner.
type saying struct {
	kind kind
	// stream is of output and finished: 0 standard output, 1 standard error.
	stream int
	// offset is of output, taken and unread, the total of finished, and the number of
	// started, exited and killed.
	offset int64
	data   []byte
	// text is why, of refused and failed.
	text string
}

var errLine = errors.New("a line of the runner cannot be understood")

// parse reads one line, without its end.
func parse(line string) (saying, error) {
	word, rest, _ := strings.Cut(line, " ")
	numbers := map[string]kind{"started": started, "O": finished, "E": finished, "exited": exited, "killed": killed, "i": taken, "I": unread}
	switch word {
	case "refused":
		return saying{kind: refused, text: rest}, nil
	case "failed":
		return saying{kind: failed, text: rest}, nil
	case "o", "e":
		offset, code, _ := strings.Cut(rest, " ")
		at, err := strconv.ParseInt(offset, 10, 64)
		if err != nil || at < 0 {
			return saying{}, fmt.Errorf("%w: offset %q", errLine, offset)
		}
		data, err := base64.StdEncoding.DecodeString(code)
		if err != nil {
			return saying{}, fmt.Errorf("%w: %w", errLine, err)
		}
		return saying{kind: output, stream: streamOf(word), offset: at, data: data}, nil
	}
	k, ok := numbers[word]
	n, err := strconv.ParseInt(rest, 10, 64)
	if !ok || err != nil || n < 0 {
		const most = 80
		return saying{}, fmt.Errorf("%w: %q", errLine, line[:min(len(line), most)])
	}
	return saying{kind: k, stream: streamOf(word), offset: n}, nil
}

func streamOf(word string) int {
	if strings.EqualFold(word, "e") {
		return 1
	}
	return 0
}

// signalNumbers are those of Linux.
var signalNumbers = map[providerv1.ExecSignal]int{
	providerv1.ExecSignal_EXEC_SIGNAL_HUP: 1, providerv1.ExecSignal_EXEC_SIGNAL_INT: 2, providerv1.ExecSignal_EXEC_SIGNAL_QUIT: 3,
	providerv1.ExecSignal_EXEC_SIGNAL_KILL: 9, providerv1.ExecSignal_EXEC_SIGNAL_USR1: 10, providerv1.ExecSignal_EXEC_SIGNAL_USR2: 12,
	providerv1.ExecSignal_EXEC_SIGNAL_PIPE: 13, providerv1.ExecSignal_EXEC_SIGNAL_ALRM: 14, providerv1.ExecSignal_EXEC_SIGNAL_TERM: 15,
	providerv1.ExecSignal_EXEC_SIGNAL_CONT: 18, providerv1.ExecSignal_EXEC_SIGNAL_STOP: 19, providerv1.ExecSignal_EXEC_SIGNAL_TSTP: 20,
	providerv1.ExecSignal_EXEC_SIGNAL_WINCH: 28,
}

// otherSignals can end a command and cannot be sent by a caller.
var otherSignals = map[int]string{
	4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 11: "SIGSEGV", 16: "SIGSTKFLT", 23: "SIGURG", 24: "SIGXCPU",
	25: "SIGXFSZ", 26: "SIGVTALRM", 27: "SIGPROF", 29: "SIGIO", 30: "SIGPWR", 31: "SIGSYS",
}
