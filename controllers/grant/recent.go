package grant

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// recent remembers writes until the cache shows them, so that a pass that follows
// at once neither repeats them nor takes what was for what is. It is an
// optimisation that heals itself: an entry goes as soon as the cache shows
// anything newer, and after a while in any case.
type recent struct {
	entries map[objectKey]recentWrite
}

// objectKey tells objects of several kinds apart.
type objectKey struct {
	kind string
	client.ObjectKey
}

type recentWrite struct {
	// before is the resource version that the write replaced; empty for a create.
	before string
	uid    types.UID
	// after is the object as written; nil where the write removed it.
	after client.Object
	until time.Time
}

const recentFor = 10 * time.Second

func (r *recent) note(key objectKey, before, after client.Object, now time.Time) {
	if r.entries == nil {
		r.entries = map[objectKey]recentWrite{}
	}
	w := recentWrite{after: after, until: now.Add(recentFor)}
	if before != nil {
		w.before, w.uid = before.GetResourceVersion(), before.GetUID()
	}
	// Several writes within the cache's lag: it may still show what the first of
	// them replaced.
	if prior, ok := r.entries[key]; ok && before != nil && prior.after != nil && prior.after.GetResourceVersion() == w.before {
		w.before, w.uid = prior.before, prior.uid
	}
	r.entries[key] = w
}

// over corrects what the cache shows of one kind.
func (r *recent) over(kind string, shown map[client.ObjectKey]client.Object, now time.Time) {
	for key, w := range r.entries {
		if key.kind != kind {
			continue
		}
		cached, ok := shown[key.ObjectKey]
		behind := !ok && w.before == "" || ok && w.before != "" && cached.GetUID() == w.uid && cached.GetResourceVersion() == w.before
		if !behind || now.After(w.until) {
			delete(r.entries, key)
			continue
		}
		if w.after == nil {
			delete(shown, key.ObjectKey)
		} else {
			shown[key.ObjectKey] = w.after
		}
	}
}
