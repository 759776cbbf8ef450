package grant

import (
	"maps"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/internal/distribute"
)

// standingOf reads a carrier, once per version of it.
func (r *Reconciler) standingOf(key carrierKey, carrier distribute.Carrier, o client.Object) standing {
	if r.standings == nil {
		r.standings = map[carrierKey]standing{}
	}
	if s, ok := r.standings[key]; ok && s.object.GetUID() == o.GetUID() && s.object.GetResourceVersion() == o.GetResourceVersion() && s.object == o {
		return s
	}
	s := standing{o, carrier.Standing(o)}
	r.standings[key] = s
	return s
}

// forget what was remembered of carriers that are gone.
func (r *Reconciler) forget(seen *observation) {
	gone := func(key carrierKey) bool { return seen.carriers[key.Delivery][key.ObjectKey].object == nil }
	maps.DeleteFunc(r.standings, func(k carrierKey, _ standing) bool { return gone(k) })
	maps.DeleteFunc(r.carried, func(k carrierKey, _ carried) bool { return gone(k) })
	maps.DeleteFunc(r.versions, func(k carrierKey, _ versions) bool { return gone(k) })
	maps.DeleteFunc(r.confirmed, func(k carrierKey, _ confirmed) bool { return gone(k) })
}

// byGrant finds what stands for a grant.
type byGrant struct {
	labelled map[string][]*distribute.Standing
	// unlabelled have more grants than labels.
	unlabelled []*distribute.Standing
	hub        map[string]bool
	hubMore    bool
}

func indexStandings(seen *observation) byGrant {
	ix := byGrant{labelled: map[string][]*distribute.Standing{}, hub: map[string]bool{}}
	for _, carriers := range seen.carriers {
		for _, s := range carriers {
			known := &s.Standing
			if known.Grants.More() || known.Residual.More() {
				ix.unlabelled = append(ix.unlabelled, known)
				continue
			}
			add := func(label string) { ix.labelled[label] = append(ix.labelled[label], known) }
			known.Grants.Each(add)
			known.Residual.Each(add)
		}
	}
	for _, objects := range seen.hub {
		for _, o := range objects {
			l := distribute.LabelsOf(o.GetLabels())
			ix.hubMore = ix.hubMore || l.More()
			l.Each(func(label string) { ix.hub[label] = true })
		}
	}
	return ix
}

// of the grant with that label, what may stand for it on members.
func (ix *byGrant) of(label string) []*distribute.Standing {
	if len(ix.unlabelled) == 0 {
		return ix.labelled[label]
	}
	return slices.Concat(ix.labelled[label], ix.unlabelled)
}

// onHub reports whether the hub may still let the grant's subjects in because of
// it.
func (ix *byGrant) onHub(label string) bool { return ix.hubMore || ix.hub[label] }
