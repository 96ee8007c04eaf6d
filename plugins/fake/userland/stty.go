package userland

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// modes are the switches of stty; a dash before one turns it off.
var modes = []struct {
	name string
	of   func(*system.Modes) *bool
}{
	{"isig", func(m *system.Modes) *bool { return &m.Signals }},
	{"icanon", func(m *system.Modes) *bool { return &m.Canonical }},
	{"echo", func(m *system.Modes) *bool { return &m.Echo }},
	{"icrnl", func(m *system.Modes) *bool { return &m.CRToNL }},
	{"onlcr", func(m *system.Modes) *bool { return &m.NLToCRNL }},
	{"opost", func(m *system.Modes) *bool { return &m.NLToCRNL }},
}

func stty(p system.Process, argv []string) int {
	t := p.Terminal(0)
	if t == nil {
		return complain(p, 1, "stty: standard input: Inappropriate ioctl for device")
	}
	args := argv[1:]
	if len(args) == 0 {
		args = []string{"-a"}
	}
	for i := 0; i < len(args); i++ {
		m := t.Modes()
		rows, cols := t.Size()
		switch arg := args[i]; arg {
		case "size":
			print(p, "stty", fmt.Sprintf("%d %d\n", rows, cols))
		case "-a":
			print(p, "stty", fmt.Sprintf("speed 38400 baud; rows %d; columns %d;\n%s\n", rows, cols, describe(m)))
		case "-g":
			print(p, "stty", strings.ReplaceAll(describe(m), " ", ":")+"\n")
		case "sane", "cooked":
			t.SetModes(system.Cooked)
		case "raw", "-cooked":
			t.SetModes(system.Modes{Echo: m.Echo})
		case "-raw":
			cooked := system.Cooked
			cooked.Echo = m.Echo
			t.SetModes(cooked)
		case "cbreak":
			m.Canonical = false
			t.SetModes(m)
		case "rows", "cols", "columns":
			if i++; i == len(args) {
				return complain(p, 2, "stty: %s needs a number", arg)
			}
			n, err := strconv.ParseUint(args[i], 10, 16)
			if err != nil {
				return complain(p, 2, "stty: %s %s: want a number", arg, args[i])
			}
			if arg == "rows" {
				t.SetSize(uint32(n), cols)
			} else {
				t.SetSize(rows, uint32(n))
			}
		default:
			if !sttySwitches(t, m, arg) {
				return complain(p, 2, "stty: unsupported argument %s", arg)
			}
		}
	}
	return 0
}

// sttySwitches sets one mode, or those that stty -g printed.
func sttySwitches(t system.Terminal, m system.Modes, arg string) bool {
	for one := range strings.SplitSeq(arg, ":") {
		name, off := strings.CutPrefix(one, "-")
		known := false
		for _, mode := range modes {
			if mode.name == name {
				*mode.of(&m) = !off
				known = true
			}
		}
		if !known {
			return false
		}
	}
	t.SetModes(m)
	return true
}

func describe(m system.Modes) string {
	var out []string
	for _, mode := range modes {
		name := mode.name
		if !*mode.of(&m) {
			name = "-" + name
		}
		out = append(out, name)
	}
	return strings.Join(out, " ")
}
