package replay

import (
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
)

// timeline makes the index that was, or would have been, in force at an instant: grants
// begin and end, and so do exceptions. A log is nearly sorted by time, since replicas
// write it, so that the last two indexes serve nearly all of it.
type timeline struct {
	snapshot compile.Snapshot
	builder  *effective.Builder
	built    time.Time // at which the builder was last asked
	windows  [2]window // the last first
}

// window in which an index is that in force.
type window struct {
	from, until time.Time // until is zero for ever
	index       *effective.Index
}

func (w *window) has(at time.Time) bool {
	return w.index != nil && !at.Before(w.from) && (w.until.IsZero() || at.Before(w.until))
}

func (t *timeline) index(at time.Time) *effective.Index {
	for i := range t.windows {
		if t.windows[i].has(at) {
			return t.windows[i].index
		}
	}
	if t.builder == nil || at.Before(t.built) { // a builder only knows what comes next
		t.builder = &effective.Builder{}
	}
	s := t.snapshot
	s.Now = at
	ix := t.builder.Build(s)
	t.built = at
	t.windows = [2]window{{from: at, until: ix.Next(), index: ix}, t.windows[0]}
	return ix
}
