package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// Process is what the operating system gave us.
type Process struct {
	// Args are the arguments without the program's name.
	Args                  []string
	Stdin, Stdout, Stderr *os.File
	Environ               []string
	// Version of the binary; empty: what the module was built as.
	Version string
	// Broker is what the broker's program adds; nil: this is not that program.
	Broker Broker
}

// kongExit carries an exit that the parser asks for, after --help.
type kongExit int

// Main runs one command and returns the exit code of the process.
func Main(p Process) (code int) {
	signals := newSignalRouter()
	defer signals.close()
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	defer signals.handle(func(s os.Signal) {
		if interrupts(s) {
			cancel(&interruptedError{s})
		}
	})()

	a := newApp(p, signals)
	defer a.close()
	defer func() {
		switch exit := recover().(type) {
		case nil:
		case kongExit:
			code = int(exit)
		default:
			panic(exit)
		}
	}()
	err := a.run(ctx)
	return a.report(err)
}

// run parses the arguments and runs the command they name.
func (a *app) run(ctx context.Context) error {
	parser, err := newParser(&a.grammar, kong.Writers(a.stdout, a.stderr), kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(a))
	if err != nil {
		return err
	}
	a.model = parser.Model
	// Known before parsing succeeds, because a wrong flag must end with 125 too.
	a.failCode, a.usageCode = exitCodes(a.args)
	if err := isText(a.args); err != nil {
		return err
	}
	kctx, err := parser.Parse(a.args)
	if err != nil {
		a.JSON = a.JSON || slices.Contains(a.args, "--json")
		var pe *kong.ParseError
		if errors.As(err, &pe) {
			return &usageError{message: strings.Replace(pe.Error(), "expected value value", "expected a value", 1), command: commandPath(pe.Context)}
		}
		return err
	}
	return a.traced(ctx, commandPath(kctx), func(ctx context.Context) error {
		kctx.BindTo(ctx, (*context.Context)(nil))
		return kctx.Run()
	})
}

// isText refuses arguments that the API, whose strings are UTF-8, would change.
func isText(args []string) error {
	for i, arg := range args {
		if !utf8.ValidString(arg) {
			return &usageError{message: fmt.Sprintf("argument %d, %q, is not UTF-8; pass such bytes in a file or on standard input", i+1, arg)}
		}
	}
	return nil
}

func newParser(g *grammar, options ...kong.Option) (*kong.Kong, error) {
	options = append([]kong.Option{
		kong.Name("sandbar"),
		kong.Description("Sandboxes from one command, on any provider."),
		kong.Exit(func(code int) { panic(kongExit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
	}, options...)
	return kong.New(g, options...)
}

func commandPath(ctx *kong.Context) string {
	if ctx == nil || ctx.Selected() == nil {
		return "sandbar"
	}
	var names []string
	for n := ctx.Selected(); n != nil; n = n.Parent {
		names = append([]string{n.Name}, names...)
	}
	return strings.Join(names, " ")
}

// exitCodes returns what failures of Sandbar and wrong usage end with.
func exitCodes(args []string) (failure, usage int) {
	for i, arg := range args {
		if strings.HasPrefix(arg, "-") || i > 0 && (args[i-1] == "--server" || args[i-1] == "--tenant") {
			continue
		}
		if arg == "run" || arg == "exec" || arg == "shell" {
			return codeInfrastructure, codeInfrastructure
		}
		if arg == "conformance" {
			return codeSuite, codeSuite
		}
		break
	}
	return codeFailure, codeUsage
}
