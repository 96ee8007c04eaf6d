package relational

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/sandbar-dev/sandbar/broker/state"
)

// ListSandboxes returns one page of live sandboxes.
func (s *Store) ListSandboxes(ctx context.Context, f state.Filter, p state.Page) ([]*state.Sandbox, string, error) {
	scope := filterScope(f)
	before, err := parseToken(p.Token, scope)
	if err != nil {
		return nil, "", err
	}
	query, args := listQuery(f, before, p.Size+1)
	rows, err := s.read.query(ctx, query, args...)
	if err != nil {
		return nil, "", fmt.Errorf("list sandboxes: %w", err)
	}
	out, more, err := collect(rows, p.Size)
	return out, token(more, scope), err
}

// listQuery walks the index of the first label if there is one, because it is
// in the order of the listing and holds nothing else; other conditions are
// checked row by row. CROSS JOIN keeps SQLite to that order; PostgreSQL chooses.
func listQuery(f state.Filter, before int64, limit int) (string, []any) {
	var q strings.Builder
	var args []any
	keys := slices.Sorted(maps.Keys(f.Labels))
	q.WriteString(`SELECT ` + sandboxColumns + ` FROM `)
	order := "s.seq"
	if len(keys) > 0 {
		q.WriteString(`sandbox_labels l CROSS JOIN sandboxes s WHERE s.seq = l.seq AND s.gone = 0 AND l.key = ? AND l.value = ?`)
		args = append(args, keys[0], f.Labels[keys[0]])
		order = "l.seq"
		keys = keys[1:]
	} else {
		q.WriteString(`sandboxes s WHERE s.gone = 0`)
	}
	q.WriteString(` AND ` + order + ` < ?`)
	args = append(args, before)
	for _, k := range keys {
		q.WriteString(` AND EXISTS (SELECT 1 FROM sandbox_labels x WHERE x.key = ? AND x.value = ? AND x.seq = s.seq)`)
		args = append(args, k, f.Labels[k])
	}
	if f.Tenant != "" {
		q.WriteString(` AND s.tenant = ?`)
		args = append(args, f.Tenant)
	}
	if f.Provider != "" {
		q.WriteString(` AND s.provider = ?`)
		args = append(args, f.Provider)
	}
	if len(f.Providers) > 0 {
		q.WriteString(` AND s.provider IN (?` + strings.Repeat(", ?", len(f.Providers)-1) + `)`)
		for _, name := range f.Providers {
			args = append(args, name)
		}
	}
	if len(f.States) > 0 {
		q.WriteString(` AND s.state IN (?` + strings.Repeat(", ?", len(f.States)-1) + `)`)
		for _, st := range f.States {
			args = append(args, int64(st))
		}
	}
	q.WriteString(` ORDER BY ` + order + ` DESC LIMIT ?`)
	return q.String(), append(args, limit)
}

// filterScope is a checksum that ties a token to the listing it came from.
func filterScope(f state.Filter) uint32 {
	h := fnv.New32a()
	for _, k := range slices.Sorted(maps.Keys(f.Labels)) {
		fmt.Fprintf(h, "%q=%q,", k, f.Labels[k])
	}
	states := slices.Clone(f.States)
	slices.Sort(states)
	fmt.Fprintf(h, "%q %v", f.Provider, slices.Compact(states))
	if f.Tenant != "" || len(f.Providers) > 0 {
		fmt.Fprintf(h, " %q %q", f.Tenant, slices.Sorted(slices.Values(f.Providers)))
	}
	return h.Sum32()
}

const tokenLength = 12

// token names the page below row seq, in hexadecimal digits as a cursor; there is
// none below 0.
func token(seq int64, scope uint32) string {
	if seq == 0 {
		return ""
	}
	b := make([]byte, 0, tokenLength)
	b = binary.BigEndian.AppendUint32(b, scope)
	b = binary.BigEndian.AppendUint64(b, uint64(seq))
	return hex.EncodeToString(b)
}

// parseToken returns the row number that the page stays below.
func parseToken(tok string, scope uint32) (int64, error) {
	if tok == "" {
		return math.MaxInt64, nil
	}
	b, err := hex.DecodeString(tok)
	if err != nil || len(b) != tokenLength || binary.BigEndian.Uint32(b) != scope {
		return 0, state.ErrBadToken
	}
	seq := binary.BigEndian.Uint64(b[4:])
	if seq > math.MaxInt64 {
		return 0, state.ErrBadToken
	}
	return int64(seq), nil
}
