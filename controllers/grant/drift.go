package grant

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"

	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/internal/distribute"
)

// versions are the resource versions that a member reported of the objects of a
// work, at one generation of the work.
type versions struct {
	uid        string
	generation int64
	objects    map[string]string
}

// drifted notices that somebody changed an object on a member: the work agent
// reports its resource version, and here it is not what it was, though the work
// is. The agent itself would look again only after minutes. What is returned
// tells this change from others; it is empty where there is none.
//
// The first report of a generation is the baseline. It is kept in memory only:
// after a restart the agent's own resync covers what went unseen.
func (r *Reconciler) drifted(key carrierKey, live client.Object) string {
	w, ok := live.(*workv1.ManifestWork)
	if !ok {
		return ""
	}
	if r.versions == nil {
		r.versions = map[carrierKey]versions{}
	}
	reported, current := distribute.Versions(w)
	if !current {
		delete(r.versions, key)
		return ""
	}
	before, known := r.versions[key]
	r.versions[key] = versions{string(w.UID), w.Generation, reported}
	if !known || before.uid != string(w.UID) || before.generation != w.Generation {
		return ""
	}
	for object, version := range reported {
		if was, ok := before.objects[object]; ok && was != version {
			return digestOf(reported)
		}
	}
	return ""
}

func digestOf(m map[string]string) string {
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(m)) {
		h.Write([]byte(k + "=" + m[k] + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil)[:10])
}
