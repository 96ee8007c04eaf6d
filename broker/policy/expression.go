package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/interpreter"
)

// maxCost bounds one evaluation, in CEL's units, of which reading a field is one.
// It is some hundred times what a sensible rule takes, and less than a millisecond.
const maxCost = 10_000

// scope is what an expression may be about.
type scope int

const (
	// requests knows request, tenant and caller.
	requests scope = iota
	// candidates knows provider too.
	candidates
)

// environment returns what expressions of a scope are checked against. Making it
// takes a while, so nothing does before there is a rule.
func (s scope) environment() (*cel.Env, error) {
	if s == candidates {
		return candidateEnvironment()
	}
	return requestEnvironment()
}

var (
	requestEnvironment = sync.OnceValues(func() (*cel.Env, error) {
		types, err := newSchemas()
		if err != nil {
			return nil, err
		}
		return cel.NewEnv(
			cel.CustomTypeProvider(types),
			cel.ParserExpressionSizeLimit(maxText),
			cel.CrossTypeNumericComparisons(true), // or request.cpu > 2 would be a mistake
			cel.Variable(varRequest, requestSchema().typ),
			cel.Variable(varTenant, cel.StringType),
			cel.Variable(varCaller, callerSchema().typ),
		)
	})
	candidateEnvironment = sync.OnceValues(func() (*cel.Env, error) {
		env, err := requestEnvironment()
		if err != nil {
			return nil, err
		}
		return env.Extend(cel.Variable(varProvider, providerSchema().typ))
	})
)

// expression is a compiled CEL expression that is true or false.
type expression struct{ program cel.Program }

// compile checks an expression. The problem says where it is wrong.
func compile(text string, about scope) (*expression, *Problem) {
	wrong := func(at common.Location, want string) *Problem {
		p := &Problem{Value: shortened(text), Want: want}
		if at != nil && at.Line() > 0 {
			p.Line, p.Column = at.Line(), at.Column()+1
		}
		return p
	}
	if len(text) > maxText {
		return nil, wrong(nil, fmt.Sprintf("want at most %d bytes", maxText))
	}
	env, err := about.environment()
	if err != nil {
		return nil, wrong(nil, err.Error())
	}
	ast, issues := env.Compile(text)
	if found := issues.Errors(); len(found) > 0 {
		first := slices.MinFunc(found, func(a, b *cel.Error) int {
			return (a.Location.Line()-b.Location.Line())*maxText + a.Location.Column() - b.Location.Column()
		})
		return nil, wrong(first.Location, explained(text, about, first))
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) {
		return nil, wrong(nil, fmt.Sprintf("want true or false, not a value of type %s", t))
	}
	program, err := env.Program(ast, cel.CostLimit(maxCost))
	if err != nil {
		return nil, wrong(nil, err.Error())
	}
	return &expression{program}, nil
}

// explained adds what there is to what is not.
func explained(text string, about scope, e *cel.Error) string {
	message, _, _ := strings.Cut(e.Message, "\n")
	switch {
	case strings.HasPrefix(message, "undefined field"):
		if s := schemaOf(identifierBefore(text, e.Location)); s != nil {
			message += ": want one of " + strings.Join(s.names, ", ")
		}
	case strings.HasPrefix(message, "undeclared reference"):
		vars := []string{varCaller, varRequest, varTenant}
		if about == candidates {
			vars = []string{varCaller, varProvider, varRequest, varTenant}
		}
		message = strings.ReplaceAll(message, " (in container '')", "") + ": want one of " + strings.Join(vars, ", ") + ", or a function of CEL"
	}
	return message
}

// identifierBefore returns the name that a selector at a position belongs to, such
// as provider where it is the dot of provider.name.
func identifierBefore(text string, at common.Location) string {
	lines := strings.Split(text, "\n")
	if at.Line() < 1 || at.Line() > len(lines) {
		return ""
	}
	runes := []rune(lines[at.Line()-1])
	end := min(at.Column(), len(runes))
	begin := end
	for begin > 0 && (unicode.IsLetter(runes[begin-1]) || runes[begin-1] == '_') {
		begin--
	}
	return string(runes[begin:end])
}

// holds evaluates the expression.
func (e *expression) holds(vars variables) (bool, error) {
	out, _, err := e.program.Eval(vars)
	var cancelled interpreter.EvalCancelledError
	switch {
	case errors.As(err, &cancelled) && cancelled.Cause == interpreter.CostLimitExceeded:
		return false, fmt.Errorf("it takes more than %d steps", maxCost)
	case err != nil:
		return false, err
	}
	b, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("it is a %s, not true or false", out.Type().TypeName())
	}
	return b, nil
}
