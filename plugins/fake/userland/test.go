package userland

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// test is the utility: 0 true, 1 false, 2 not an expression.
func test(p system.Process, argv []string) int {
	e := &expression{p: p, rest: argv[1:]}
	if len(e.rest) == 0 {
		return 1
	}
	result := e.or()
	if e.err == nil && len(e.rest) > 0 {
		e.err = fmt.Errorf("%s: unexpected argument", e.rest[0])
	}
	switch {
	case e.err != nil:
		return complain(p, 2, "%s: %v", argv[0], e.err)
	case result:
		return 0
	}
	return 1
}

func bracket(p system.Process, argv []string) int {
	if len(argv) < 2 || argv[len(argv)-1] != "]" {
		return complain(p, 2, "[: missing ]")
	}
	return test(p, argv[:len(argv)-1])
}

// expression is what is left of a test.
type expression struct {
	p    system.Process
	rest []string
	err  error
}

func (e *expression) is(word string) bool {
	if len(e.rest) == 0 || e.rest[0] != word {
		return false
	}
	e.rest = e.rest[1:]
	return true
}

func (e *expression) or() bool {
	v := e.and()
	for e.is("-o") {
		next := e.and()
		v = v || next
	}
	return v
}

func (e *expression) and() bool {
	v := e.not()
	for e.is("-a") {
		next := e.not()
		v = v && next
	}
	return v
}

func (e *expression) not() bool {
	// With three arguments a binary operator in the middle goes first, so that
	// ! = ! compares.
	if len(e.rest) >= 3 && Binary(e.rest[1]) {
		return e.primary()
	}
	if len(e.rest) > 1 && e.is("!") {
		return !e.not()
	}
	return e.primary()
}

func (e *expression) primary() bool {
	switch {
	case len(e.rest) == 0:
		e.err = errors.New("argument expected")
		return false
	case len(e.rest) >= 3 && Binary(e.rest[1]):
		x, op, y := e.rest[0], e.rest[1], e.rest[2]
		e.rest = e.rest[3:]
		v, err := Compare(e.p, x, op, y)
		if err != nil {
			e.err = err
		}
		return v
	case len(e.rest) > 1 && e.is("("):
		v := e.or()
		if !e.is(")") {
			e.err = errors.New("missing )")
		}
		return v
	case len(e.rest) > 1 && unary(e.rest[0]):
		op, x := e.rest[0], e.rest[1]
		e.rest = e.rest[2:]
		return Examine(e.p, op, x)
	}
	word := e.rest[0]
	e.rest = e.rest[1:]
	return word != ""
}

func unary(op string) bool {
	return len(op) == 2 && op[0] == '-' && strings.IndexByte("bcdefgGhkLnOprsStuwxz", op[1]) >= 0
}

// Binary says whether a word is a binary operator of test.
func Binary(op string) bool {
	switch op {
	case "=", "==", "!=", "<", ">", "-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-nt", "-ot", "-ef":
		return true
	}
	return false
}

// Compare applies a binary operator of test.
func Compare(p system.Process, x, op, y string) (bool, error) {
	switch op {
	case "=", "==":
		return x == y, nil
	case "!=":
		return x != y, nil
	case "<":
		return x < y, nil
	case ">":
		return x > y, nil
	case "-nt", "-ot", "-ef":
		a, err1 := p.Stat(x, true)
		b, err2 := p.Stat(y, true)
		switch op {
		case "-ef":
			return err1 == nil && err2 == nil && a.ID == b.ID, nil
		case "-nt":
			return err1 == nil && (err2 != nil || a.Modified.After(b.Modified)), nil
		}
		return err2 == nil && (err1 != nil || b.Modified.After(a.Modified)), nil
	}
	a, err := strconv.ParseInt(strings.TrimSpace(x), 10, 64)
	if err != nil {
		return false, fmt.Errorf("%s: want a whole number", x)
	}
	b, err := strconv.ParseInt(strings.TrimSpace(y), 10, 64)
	if err != nil {
		return false, fmt.Errorf("%s: want a whole number", y)
	}
	return map[string]bool{"-eq": a == b, "-ne": a != b, "-lt": a < b, "-le": a <= b, "-gt": a > b, "-ge": a >= b}[op], nil
}

// Examine applies a unary operator of test.
func Examine(p system.Process, op, x string) bool {
	switch op {
	case "-n":
		return x != ""
	case "-z":
		return x == ""
	case "-r":
		return p.Access(x, 4) == nil
	case "-w":
		return p.Access(x, 2) == nil
	case "-x":
		return p.Access(x, 1) == nil
	case "-t":
		fd, err := strconv.Atoi(x)
		return err == nil && p.Terminal(fd) != nil
	}
	info, err := p.Stat(x, op != "-h" && op != "-L")
	if err != nil {
		return false
	}
	uid, gid := p.User()
	switch op {
	case "-e":
		return true
	case "-f":
		return info.Kind == system.Regular
	case "-d":
		return info.Kind == system.Directory
	case "-h", "-L":
		return info.Kind == system.Symlink
	case "-s":
		return info.Size > 0
	case "-c":
		return info.Kind == system.Device
	case "-p":
		return info.Kind == system.Pipe
	case "-S":
		return info.Kind == system.Socket
	case "-g":
		return info.Mode&0o2000 != 0
	case "-u":
		return info.Mode&0o4000 != 0
	case "-k":
		return info.Mode&0o1000 != 0
	case "-O":
		return info.UID == uid
	case "-G":
		return info.GID == gid
	}
	return false // -b: there are no block devices
}
