package relational

import (
	"strconv"
	"strings"
)

// Dialect is how one database differs from the other.
type Dialect struct {
	// Bind writes the arguments of a query as the database reads them. Nil: it reads
	// them as they are.
	Bind func(query string) string
	// Refused returns the table and the column whose unique index refused a change,
	// or nothing if err says something else.
	Refused func(err error) (table, column string)
	// Again reports whether a transaction failed because of another one only, and
	// would succeed if it were repeated. Nil: that does not happen.
	Again func(err error) bool
	// ForUpdate is put at the end of a query to lock the rows it reads. Empty: a
	// transaction that writes is alone.
	ForUpdate string
	// Settled is the condition on txid under which no transaction is under way that
	// could still store an event before one. Empty: transactions that write come one
	// after the other.
	Settled string
	// ForShare is put at the end of a query to keep the rows it reads from being
	// deleted until the transaction ends. Empty: a transaction that writes is alone.
	ForShare string
}

func (d Dialect) bind(query string) string {
	if d.Bind == nil {
		return query
	}
	return d.Bind(query)
}

func (d Dialect) refused(err error, table, column string) bool {
	if err == nil {
		return false
	}
	t, c := d.Refused(err)
	return t == table && c == column
}

// Numbered is a Bind for databases that write arguments as $1, $2: a bare ?
// becomes the next number, ?3 the third.
func Numbered(query string) string {
	var out strings.Builder
	out.Grow(len(query) + 2*strings.Count(query, "?"))
	next := 1
	for i := range len(query) {
		if query[i] != '?' {
			out.WriteByte(query[i])
			continue
		}
		out.WriteByte('$')
		if i+1 == len(query) || query[i+1] < '0' || query[i+1] > '9' {
			out.WriteString(strconv.Itoa(next))
			next++
		}
	}
	return out.String()
}
