package render

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// Table writes rows under a header, aligned by column. Cells with control
// characters are quoted, so that no name can move the cursor or fake a row.
func Table(w io.Writer, header []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		cells := slices.Clone(row)
		for i, c := range cells {
			cells[i] = Cell(c)
		}
		if _, err := fmt.Fprintln(tw, strings.Join(cells, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// leastText is the narrowest a wrapped column gets, however wide the others are.
const leastText = 30

// Wrapped is Table with the last column broken at spaces, so that no line is wider
// than width if the other columns leave room for it.
func Wrapped(w io.Writer, width int, header []string, rows [][]string) error {
	last := len(header) - 1
	left := width
	for col := range last {
		widest := utf8.RuneCountInString(Cell(header[col]))
		for _, row := range rows {
			widest = max(widest, utf8.RuneCountInString(Cell(row[col])))
		}
		left -= widest + 2
	}
	var out [][]string
	for _, row := range rows {
		for i, line := range wrap(Cell(row[last]), max(left, leastText)) {
			next := make([]string, len(row))
			for col := range next {
				next[col] = " " // the line above has it
			}
			if i == 0 {
				copy(next, row)
			}
			next[last] = line
			out = append(out, next)
		}
	}
	return Table(w, header, out)
}

// wrap breaks text into lines of at most width characters, within a word only if
// it is longer than that.
func wrap(text string, width int) []string {
	var lines []string
	line, used := "", 0
	for word := range strings.SplitSeq(text, " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case line == "":
		case used+1+n <= width:
			line, used = line+" "+word, used+1+n
			continue
		default:
			lines = append(lines, line)
		}
		for n > width {
			runes := []rune(word)
			lines = append(lines, string(runes[:width]))
			word, n = string(runes[width:]), n-width
		}
		line, used = word, n
	}
	return append(lines, line)
}

// Cell returns text that is safe on a terminal, and "-" for nothing.
func Cell(s string) string {
	if s == "" {
		return "-"
	}
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
		return strconv.Quote(s)
	}
	return s
}

// Ago says how long before now a time was, in one unit.
func Ago(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	d := now.Sub(t.AsTime())
	if d < 0 {
		return "in " + Span(-d)
	}
	return Span(d) + " ago"
}

// Until says how long after now a time is.
func Until(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return "never"
	}
	d := t.AsTime().Sub(now)
	if d <= 0 {
		return "due"
	}
	return "in " + Span(d)
}

// Span rounds a duration down to its largest unit, two units under an hour.
func Span(d time.Duration) string {
	switch {
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + "s"
	case d < time.Hour:
		m, s := int(d/time.Minute), int(d%time.Minute/time.Second)
		if s == 0 {
			return fmt.Sprintf("%dm", m)
		}
		return fmt.Sprintf("%dm%ds", m, s)
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	default:
		return strconv.Itoa(int(d/(24*time.Hour))) + "d"
	}
}

// Enum returns an enum value as people read it: without prefix, in small
// letters.
func Enum(value fmt.Stringer, prefix string) string {
	s := strings.ToLower(strings.TrimPrefix(value.String(), prefix))
	if s == "unspecified" {
		return ""
	}
	return strings.ReplaceAll(s, "_", "-")
}

// Pairs writes a map as k=v,k=v in order of keys.
func Pairs(m map[string]string) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		keys[i] = k + "=" + m[k]
	}
	return strings.Join(keys, ",")
}

// Argv writes a command so that a POSIX shell would read it back the same.
func Argv(argv []string) string {
	out := make([]string, len(argv))
	for i, a := range argv {
		out[i] = quoteWord(a)
	}
	return strings.Join(out, " ")
}

func quoteWord(a string) string {
	plain := func(r rune) bool {
		return r < 128 && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("@%+=:,./-_", r))
	}
	if a != "" && strings.IndexFunc(a, func(r rune) bool { return !plain(r) }) < 0 {
		return a
	}
	return "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
}

// Bytes writes a size with a binary unit.
func Bytes(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return strconv.FormatInt(n, 10) + "B"
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0") + units[i:i+1] + "iB"
}
