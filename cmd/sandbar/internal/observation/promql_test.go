package observation_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

// query is what an expression of PromQL names. It is taken apart by a tokenizer of
// the part of the language that the dashboard uses, and what that does not know is
// an error: Prometheus' own parser comes with all of Prometheus.
type query struct {
	// selectors have the labels that each metric is chosen by.
	selectors []selector
	// grouped are the labels of by, on and their like.
	grouped []string
}

type selector struct {
	metric string
	labels []string
}

var (
	tokenPattern = regexp.MustCompile(`^(?:\s+|"(?:[^"\\]|\\.)*"|\[[0-9a-z$_:]+\]|[0-9]+(?:\.[0-9]+)?|[a-zA-Z_:][a-zA-Z0-9_:]*|=~|!~|!=|==|<=|>=|[-+*/%<>=(){},])`)
	namePattern  = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	functions    = []string{"sum", "max", "min", "avg", "count", "rate", "increase", "histogram_quantile"}
	clauses      = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}
	operators    = []string{"=", "!=", "=~", "!~"}
)

type tokens struct {
	list []string
	at   int
}

func (t *tokens) peek() string {
	if t.at == len(t.list) {
		return ""
	}
	return t.list[t.at]
}

func (t *tokens) next() string {
	tok := t.peek()
	if tok != "" {
		t.at++
	}
	return tok
}

func tokenize(text string) (*tokens, error) {
	t := &tokens{}
	for rest := text; rest != ""; {
		tok := tokenPattern.FindString(rest)
		if tok == "" {
			return nil, fmt.Errorf("what is %q in %q?", rest, text)
		}
		if rest = rest[len(tok):]; strings.TrimSpace(tok) != "" {
			t.list = append(t.list, tok)
		}
	}
	return t, nil
}

func parseQuery(text string) (q query, err error) {
	t, err := tokenize(text)
	if err != nil {
		return q, err
	}
	depth := 0
	for tok := t.next(); tok != ""; tok = t.next() {
		switch {
		case tok == "(":
			depth++
		case tok == ")":
			depth--
		case slices.Contains(clauses, tok):
			labels, err := t.labels()
			if err != nil {
				return q, fmt.Errorf("%s in %q: %w", tok, text, err)
			}
			q.grouped = append(q.grouped, labels...)
		case slices.Contains(functions, tok):
			if next := t.peek(); next != "(" && !slices.Contains(clauses, next) {
				return q, fmt.Errorf("%s is followed by %q in %q", tok, next, text)
			}
		case namePattern.MatchString(tok):
			s, err := t.selector(tok)
			if err != nil {
				return q, fmt.Errorf("%s in %q: %w", tok, text, err)
			}
			q.selectors = append(q.selectors, s)
		case strings.HasPrefix(tok, "{"), strings.HasPrefix(tok, "\""):
			return q, fmt.Errorf("%s stands alone in %q", tok, text)
		}
		if depth < 0 {
			return q, fmt.Errorf("%q closes what is not open", text)
		}
	}
	if depth != 0 || len(q.selectors) == 0 {
		return q, fmt.Errorf("%q leaves %d open and names %d metrics", text, depth, len(q.selectors))
	}
	return q, nil
}

// labels reads (a, b), or ().
func (t *tokens) labels() (out []string, err error) {
	if tok := t.next(); tok != "(" {
		return nil, fmt.Errorf("want (, have %q", tok)
	}
	for {
		tok := t.next()
		switch {
		case tok == ")":
			return out, nil
		case namePattern.MatchString(tok):
			out = append(out, tok)
		case tok != ",":
			return nil, fmt.Errorf("want a label, have %q", tok)
		}
	}
}

// selector reads {a="b", c=~"d"}, if it is there.
func (t *tokens) selector(metric string) (selector, error) {
	s := selector{metric: metric}
	if t.peek() != "{" {
		if t.peek() == "(" {
			return s, fmt.Errorf("it is no function that is known here")
		}
		return s, nil
	}
	t.next()
	for {
		tok := t.next()
		switch {
		case tok == "}":
			return s, nil
		case tok == ",":
		case namePattern.MatchString(tok):
			op, value := t.next(), t.next()
			if !slices.Contains(operators, op) || !strings.HasPrefix(value, "\"") {
				return s, fmt.Errorf("want %s=\"…\", have %s%s", tok, op, value)
			}
			s.labels = append(s.labels, tok)
		default:
			return s, fmt.Errorf("want a label, have %q", tok)
		}
	}
}

// scraped are labels that Prometheus puts on what it scrapes.
var scraped = []string{"instance", "job"}

// wrong says what a query names that is not in what was scraped.
func (q query) wrong(families map[string]*dto.MetricFamily) (out []string) {
	known := map[string]bool{}
	for _, l := range scraped {
		known[l] = true
	}
	for _, s := range q.selectors {
		has, ok := labelsOf(families, s.metric)
		if !ok {
			out = append(out, "there is no metric "+s.metric)
			continue
		}
		for l := range has {
			known[l] = true
		}
		for _, l := range s.labels {
			if !has[l] && !slices.Contains(scraped, l) {
				out = append(out, s.metric+" has no label "+l)
			}
		}
	}
	for _, l := range q.grouped {
		if !known[l] {
			out = append(out, "nothing has the label "+l)
		}
	}
	return out
}

// labelsOf returns the labels that the series of a metric have; false if there is
// no such metric.
func labelsOf(families map[string]*dto.MetricFamily, metric string) (map[string]bool, bool) {
	labels := map[string]bool{}
	family := families[metric]
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(metric, suffix); ok && families[base].GetType() == dto.MetricType_HISTOGRAM && families[base] != nil {
			family = families[base]
			if suffix == "_bucket" {
				labels["le"] = true
			}
		}
	}
	if family == nil || family.GetType() == dto.MetricType_HISTOGRAM && family.GetName() == metric {
		return nil, false
	}
	for _, m := range family.GetMetric() {
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = true
		}
	}
	return labels, true
}

// TestQueriesAreTakenApart: what cannot be understood is not passed over.
func TestQueriesAreTakenApart(t *testing.T) {
	name := func(s string) *string { return &s }
	families := map[string]*dto.MetricFamily{
		"c_total": {Name: name("c_total"), Type: dto.MetricType_COUNTER.Enum(), Metric: []*dto.Metric{{Label: []*dto.LabelPair{{Name: name("a")}}}}},
		"h":       {Name: name("h"), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{Label: []*dto.LabelPair{{Name: name("b")}}}}},
	}
	for text, want := range map[string]string{
		`sum by (a, instance) (rate(c_total{a=~"x|y}", job="j"}[$__rate_interval]))`: "",
		`histogram_quantile(0.95, sum by (le, b) (rate(h_bucket{b!="x"}[5m])))`:      "",
		`h_sum / h_count * 100`:                       "",
		`c_total * on (a) group_left () max(c_total)`: "",
		`d_total`:                     "there is no metric d_total",
		`c_total{b="x"}`:              "c_total has no label b",
		`sum by (b) (c_total)`:        "nothing has the label b",
		`h`:                           "there is no metric h",
		`c_total_bucket`:              "there is no metric c_total_bucket",
		`sum by (le) (h_count)`:       "nothing has the label le",
		`h_count{le="1"}`:             "h_count has no label le",
		`sum(c_total`:                 "leaves 1 open",
		`c_total)`:                    "closes what is not open",
		`label_replace(c_total, "x")`: "no function that is known here",
		`sum`:                         "followed by",
		`1 + 2`:                       "names 0 metrics",
		`c_total{a="x" b}`:            "want b=",
		`c_total @ 3`:                 "what is",
		`sum by a (c_total)`:          "want (",
		`{a="x"}`:                     "stands alone",
	} {
		q, err := parseQuery(text)
		said := q.wrong(families)
		if err != nil {
			said = []string{err.Error()}
		}
		if got := strings.Join(said, "; "); got != want && (want == "" || !strings.Contains(got, want)) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
