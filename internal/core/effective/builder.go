package effective

import (
	"maps"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// Builder makes successive indexes, each time only what a change can reach. The zero
// Builder is ready for use, by one goroutine at a time.
type Builder struct {
	effects compile.Effects
	number  uint64
	// given by the grants of the last index, in order, and how it is held.
	given []*compile.Given
	held  []*holding
	last  *table
	// fleet of the last index, and its clusters.
	fleet    *fleet.Fleet
	clusters []*guardrail.Cluster
}

// Build an index of a snapshot. Its Point is to be guardrail.Compile.
func (b *Builder) Build(s compile.Snapshot) *Index {
	given, next := b.effects.Of(s)
	b.number++
	b.update(given)
	if b.clusters == nil || b.fleet != s.Fleet {
		b.fleet, b.clusters = s.Fleet, make([]*guardrail.Cluster, s.Fleet.Len())
		for i := range b.clusters {
			b.clusters[i] = b.effects.Cluster(i)
		}
	}
	ix := &Index{number: b.number, policy: s.Guardrails, fleet: s.Fleet, next: next, held: b.last, clusters: b.clusters}
	if s.Guardrails != nil {
		ix.digest = s.Guardrails.Digest()
	}
	return ix
}

// update what subjects hold.
func (b *Builder) update(given []*compile.Given) {
	c := changes{gone: map[*holding]bool{}, come: map[subject.Subject][]*holding{}}
	held := make([]*holding, len(given))
	names := roleNames{}
	i := 0 // in what was given before
	for j, g := range given {
		for i < len(b.given) && b.given[i] != g && compile.CompareGiven(b.given[i], g) <= 0 {
			c.goes(b.held[i])
			i++
		}
		if i < len(b.given) && b.given[i] == g {
			held[j] = b.held[i]
			i++
			continue
		}
		held[j] = newHolding(g, names)
		c.comes(held[j])
	}
	for ; i < len(b.given); i++ {
		c.goes(b.held[i])
	}
	b.given, b.held = given, held

	if b.last == nil {
		b.last = &table{}
	}
	if len(c.come) > 0 {
		b.last = b.last.after(&c)
	}
}

// after changes, another table.
func (t *table) after(c *changes) *table {
	out := *t
	var copied [len(t)][len(t[0])]bool
	for sub, come := range c.come {
		name := nameIn(sub)
		i := shardOf(name)
		shard := &out[sub.Kind][i]
		if !copied[sub.Kind][i] {
			copied[sub.Kind][i] = true
			if *shard = maps.Clone(*shard); *shard == nil {
				*shard = map[string]*holdings{}
			}
		}
		if h := (*shard)[name].after(c.gone, come); h != nil {
			(*shard)[name] = h
		} else {
			delete(*shard, name)
		}
	}
	return &out
}

// changes of what is held.
type changes struct {
	gone map[*holding]bool
	// come has every subject that a change reaches, also one to which nothing comes.
	come map[subject.Subject][]*holding
}

func (c *changes) comes(h *holding) {
	if h.gives() {
		for _, sub := range h.given.Subjects {
			c.come[sub] = append(c.come[sub], h)
		}
	}
}

func (c *changes) goes(h *holding) {
	c.gone[h] = true
	if h.gives() {
		for _, sub := range h.given.Subjects {
			reach(c.come, sub)
		}
	}
}

// reach makes sure that there is such a key.
func reach[K comparable, V any](m map[K][]V, k K) {
	if _, ok := m[k]; !ok {
		m[k] = nil
	}
}
