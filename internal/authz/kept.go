package authz

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

const (
	// mostKept is how many judgements are kept, and largestKept of what size a review is.
	mostKept    = 8192
	largestKept = 4 << 10
	// marks of reviews that have been asked once.
	marks = 8192
)

// seed of marks, so that nobody can choose reviews that have the same.
var seed = maphash.MakeSeed()

// judged is a review with what was decided on it.
type judged struct {
	version  version
	request  effective.Request
	decision effective.Decision
	verdict  verdict
	// layer that decided, where the decision does not tell.
	layer string
	// quiet: there was nothing to decide.
	quiet bool
}

// kept remembers what was judged by one index: programs ask the same over and over, and an
// API server must not remember it, since it does not learn when access ends. Here that is
// known: what is kept ends with the index, or at the instant from which the decision may
// be another. So no answer is ever another than without it (S14).
type kept struct{ of atomic.Pointer[generation] }

// generation of what was judged by one index, by cluster and review.
type generation struct {
	index *effective.Index
	mu    sync.RWMutex
	all   map[string]*judged
	// asked are marks of what has been asked, each at its place.
	asked [marks]atomic.Uint64
}

// again reports whether a key has been asked before. Of what has not, nothing but a mark is
// kept: who asks a lot that is new would else pay for keeping it.
func (g *generation) again(key string) bool {
	mark := maphash.String(seed, key)
	return g.asked[mark%marks].Swap(mark) == mark
}

// key of a review about a cluster: no name of a cluster has a zero in it.
func key(cluster string) string { return cluster + "\x00" }

// look for what was judged of a key by an index, as of now.
func (k *kept) look(ix *effective.Index, key []byte, at time.Time) *judged {
	g := k.of.Load()
	if g == nil || g.index != ix {
		return nil
	}
	g.mu.RLock()
	j := g.all[string(key)]
	g.mu.RUnlock()
	if j == nil || at.Before(j.request.At) || !j.decision.Until.IsZero() && !at.Before(j.decision.Until) {
		return nil
	}
	return j
}

// keep what was judged by an index the second time, unless that may be another any moment:
// where a guardrail looks at the instant, or could not be evaluated.
func (k *kept) keep(ix *effective.Index, key string, j *judged) {
	until := j.decision.Until
	if len(key) > largestKept || !until.IsZero() && until.Sub(j.request.At) <= guardrail.Renewal ||
		slices.ContainsFunc(j.decision.Reasons, func(r guardrail.Reason) bool { return r.Failed }) {
		return
	}
	g := k.of.Load()
	if g == nil || g.index != ix {
		if g != nil && g.index.Number() > ix.Number() {
			return // it was judged while another index came
		}
		g = &generation{index: ix, all: map[string]*judged{}}
		k.of.Store(g)
	}
	if !g.again(key) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.all) >= mostKept {
		clear(g.all) // who asks a lot that is new gains nothing by what is old
	}
	g.all[key] = j
}
