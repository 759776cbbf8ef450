package admission

import (
	"context"
	"sync"
)

const (
	// atOnce is how many requests of a kind of work are judged at the same time. Others
	// wait.
	atOnce = 8
	// atOnceInNamespace is how many of them may be for grants of one namespace.
	atOnceInNamespace = 2
)

// turns bound the work that is done at the same time. Whoever writes policies does
// not wait for those who write grants, nor the tenant of one namespace for that of
// another.
type turns struct {
	policies, access turn

	mu         sync.Mutex
	namespaces map[string]*tenant // those for which there are requests
}

func newTurns() *turns {
	return &turns{policies: make(turn, atOnce), access: make(turn, atOnce), namespaces: map[string]*tenant{}}
}

// tenant is a namespace's share of the turns.
type tenant struct {
	turn     turn
	requests int // that have or await one
}

// grant takes a turn for a grant of the namespace, that of the namespace first:
// what waits for another of the same tenant keeps nothing from others. It reports
// whether there was one in time; the turn is to be given back with leave.
func (t *turns) grant(ctx context.Context, namespace string) (leave func(), ok bool) {
	own := t.enter(namespace)
	if !own.turn.take(ctx) {
		t.exit(namespace)
		return nil, false
	}
	if !t.access.take(ctx) {
		own.turn.leave()
		t.exit(namespace)
		return nil, false
	}
	return func() {
		t.access.leave()
		own.turn.leave()
		t.exit(namespace)
	}, true
}

func (t *turns) enter(namespace string) *tenant {
	t.mu.Lock()
	defer t.mu.Unlock()
	own := t.namespaces[namespace]
	if own == nil {
		own = &tenant{turn: make(turn, atOnceInNamespace)}
		t.namespaces[namespace] = own
	}
	own.requests++
	return own
}

func (t *turns) exit(namespace string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if own := t.namespaces[namespace]; own.requests > 1 {
		own.requests--
		return
	}
	delete(t.namespaces, namespace)
}

// turn is one of so many.
type turn chan struct{}

// take one, and report whether there was one in time.
func (t turn) take(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case t <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t turn) leave() { <-t }
