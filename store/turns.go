package store

import (
	"context"
	"sync"

	"github.com/exeat-dev/exeat/policy"
)

// turns lets one at a time work on a grant, in order of arrival. It keeps
// nothing of grants that nobody works on.
type turns struct {
	mu sync.Mutex
	by map[policy.GrantID]*turn
}

type turn struct {
	free chan struct{} // holds one while somebody works
	n    int           // who works or waits
}

// enter waits for a turn; leave must be called.
func (t *turns) enter(ctx context.Context, id policy.GrantID) (leave func(), err error) {
	at := t.join(id)
	select {
	case at.free <- struct{}{}:
		return func() { <-at.free; t.part(id, at) }, nil
	case <-ctx.Done():
		t.part(id, at)
		return nil, ctx.Err()
	}
}

func (t *turns) join(id policy.GrantID) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = make(map[policy.GrantID]*turn)
	}
	at := t.by[id]
	if at == nil {
		at = &turn{free: make(chan struct{}, 1)}
		t.by[id] = at
	}
	at.n++
	return at
}

func (t *turns) part(id policy.GrantID, at *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at.n--; at.n == 0 {
		delete(t.by, id)
	}
}
