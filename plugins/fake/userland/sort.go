package userland

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/sandbar-dev/sandbar/plugins/fake/system"
)

// order is how sort compares.
type order struct {
	numeric, fold, blanks, reverse bool
	separator                      string
	first, last                    int
}

func sortLines(p system.Process, argv []string) int {
	o, ok := parse(p, argv, "bcfk:no:rst:u", map[string]byte{
		"numeric-sort": 'n', "reverse": 'r', "unique": 'u', "key": 'k', "field-separator": 't', "output": 'o', "check": 'c', "stable": 's',
	})
	if !ok {
		return 2
	}
	by := order{numeric: o.has('n'), fold: o.has('f'), blanks: o.has('b'), reverse: o.has('r'), separator: o.set['t']}
	if key, ok := o.set['k']; ok {
		first, last, both := strings.Cut(key, ",")
		var err1, err2 error
		by.first, err1 = strconv.Atoi(first)
		if both {
			by.last, err2 = strconv.Atoi(last)
		}
		if err1 != nil || err2 != nil || by.first < 1 {
			return complain(p, 2, "sort: -k %s: want FIELD[,FIELD]", key)
		}
	}
	if len(by.separator) > 1 {
		return complain(p, 2, "sort: -t %s: want one character", by.separator)
	}
	var all []string
	code := each(p, "sort", o.args, func(name string, in system.Descriptor) int {
		data, err := system.ReadAll(p, in)
		if err != nil {
			return trouble(p, "sort", name, err)
		}
		if len(data) > 0 {
			all = append(all, strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")...)
		}
		return 0
	})
	if code != 0 {
		return 2
	}
	compare := func(a, b string) int {
		c := by.compare(a, b)
		if c == 0 && !o.has('s') && !o.has('u') {
			c = strings.Compare(a, b)
			if by.reverse {
				c = -c
			}
		}
		return c
	}
	if o.has('c') {
		if !slices.IsSortedFunc(all, compare) {
			return complain(p, 1, "sort: the input is not in order")
		}
		return 0
	}
	slices.SortStableFunc(all, compare)
	if o.has('u') {
		all = slices.CompactFunc(all, func(a, b string) bool { return by.compare(a, b) == 0 })
	}
	text := ""
	if len(all) > 0 {
		text = strings.Join(all, "\n") + "\n"
	}
	if name, ok := o.set['o']; ok {
		fd, err := p.Open(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
		if err == nil {
			err = p.Dup2(fd, 1)
		}
		if err != nil {
			return trouble(p, "sort", name, err)
		}
	}
	return print(p, "sort", text)
}

// key returns the part of a line that is compared.
func (o order) key(line string) string {
	if o.first > 0 {
		var fields []string
		if o.separator != "" {
			fields = strings.Split(line, o.separator)
		} else {
			fields = strings.Fields(line)
		}
		last := len(fields)
		if o.last > 0 {
			last = min(o.last, last)
		}
		line = strings.Join(fields[min(o.first-1, last):last], o.separator+" ")
	}
	if o.blanks {
		line = strings.TrimLeft(line, " \t")
	}
	if o.fold {
		line = strings.ToUpper(line)
	}
	return line
}

func (o order) compare(a, b string) int {
	a, b = o.key(a), o.key(b)
	c := strings.Compare(a, b)
	if o.numeric {
		x, y := leading(a), leading(b)
		switch {
		case x < y:
			c = -1
		case x > y:
			c = 1
		default:
			c = 0
		}
	}
	if o.reverse {
		return -c
	}
	return c
}

// leading is the number that a text begins with, or 0.
func leading(text string) float64 {
	text = strings.TrimLeft(text, " \t")
	end := 0
	for end < len(text) && (text[end] == '.' || (text[end] >= '0' && text[end] <= '9') || (end == 0 && text[end] == '-')) {
		end++
	}
	v, err := strconv.ParseFloat(text[:end], 64)
	if err != nil {
		return 0
	}
	return v
}
