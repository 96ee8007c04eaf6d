package broker

import (
	"slices"
	"sync"
)

// idQueue is a set of names in order of arrival. The zero value is ready.
type idQueue struct {
	mu  sync.Mutex
	ids []string
}

// push adds id unless it is there.
func (q *idQueue) push(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !slices.Contains(q.ids, id) {
		q.ids = append(q.ids, id)
	}
}

// length returns how many there are.
func (q *idQueue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.ids)
}

// take removes and returns all.
func (q *idQueue) take() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	ids := q.ids
	q.ids = nil
	return ids
}
