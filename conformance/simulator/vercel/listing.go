package vercel

import (
	"cmp"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// listSandboxes pages by when they were made, or by name [S]. A cursor is where the
// last page ended, so that what comes and goes meanwhile moves nothing [I].
func (s *Simulator) listSandboxes(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if len(q["tags"]) > 1 {
		return badRequest("Invalid request: only one tag can be filtered by") // [D]
	}
	byName, descending := q.Get("sortBy") == "name", q.Get("sortOrder") != "asc"
	key := func(sb *sandbox) string {
		const digits = 20
		if byName {
			return sb.name
		}
		text := strconv.FormatInt(sb.seq, 10)
		return strings.Repeat("0", digits-len(text)) + text
	}
	limit, after, err := paging(q.Get("limit"), q.Get("cursor"))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*sandbox
	for _, sb := range s.sandboxes {
		if strings.HasPrefix(sb.name, q.Get("namePrefix")) && tagged(sb, q.Get("tags")) && (q.Get("status") == "" || q.Get("status") == sb.session.status) {
			found = append(found, sb)
		}
	}
	slices.SortFunc(found, func(a, b *sandbox) int {
		if descending {
			a, b = b, a
		}
		return cmp.Compare(key(a), key(b))
	})
	if after != "" {
		found = slices.DeleteFunc(found, func(sb *sandbox) bool {
			c := cmp.Compare(key(sb), after)
			return c == 0 || (c < 0) != descending
		})
	}
	page := wirePagination{}
	if len(found) > limit {
		next := base64.RawURLEncoding.EncodeToString([]byte(key(found[limit-1])))
		found, page.Next = found[:limit], &next
	}
	page.Count = len(found)
	out := []wireSandbox{}
	for _, sb := range found {
		out = append(out, sb.wire())
	}
	answer(w, http.StatusOK, map[string]any{"sandboxes": out, "pagination": page})
	return nil
}

// listOf answers with all that a sandbox has of something, or that all have, newest
// first, in one page [I]. of says whose one is and when it was made.
func listOf[T, W any](w http.ResponseWriter, r *http.Request, what string, all map[string]T, wire func(T) W, of func(T) (string, time.Time)) {
	name := r.URL.Query().Get("name")
	var found []T
	for _, one := range all {
		if whose, _ := of(one); name == "" || whose == name {
			found = append(found, one)
		}
	}
	slices.SortFunc(found, func(a, b T) int {
		_, first := of(a)
		_, second := of(b)
		return second.Compare(first)
	})
	out := []W{}
	for _, one := range found {
		out = append(out, wire(one))
	}
	answer(w, http.StatusOK, map[string]any{what: out, "pagination": wirePagination{Count: len(out)}})
}

// paging reads a limit, of which 100 is the most [I], and a cursor.
func paging(limit, cursor string) (int, string, error) {
	const usual, most = 20, 100
	n := usual
	if limit != "" {
		var err error
		if n, err = strconv.Atoi(limit); err != nil || n < 1 || n > most {
			return 0, "", badRequest("Invalid request: `limit` should be between 1 and 100")
		}
	}
	after, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return 0, "", badRequest("Invalid request: `cursor` is invalid")
	}
	return n, string(after), nil
}

// tagged: a filter is key:value [S].
func tagged(sb *sandbox, filter string) bool {
	if filter == "" {
		return true
	}
	key, value, _ := strings.Cut(filter, ":")
	got, ok := sb.tags[key]
	return ok && got == value
}
