package effective

import (
	"maps"
	"slices"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// Builder makes successive indexes, each time only what a change can reach. The zero
// Builder is ready for use, by one goroutine at a time.
type Builder struct {
	effects compile.Effects
	number  uint64
	// held of the last index, by key of the grant; those that give something.
	held map[string]*holding
	last shards
}

// Build an index of a snapshot. Its Point is to be guardrail.Compile.
func (b *Builder) Build(s compile.Snapshot) *Index {
	given, next := b.effects.Of(s)
	b.number++
	b.update(given)
	ix := &Index{
		number: b.number, policy: s.Guardrails, fleet: s.Fleet, next: next, held: b.last,
		clusters: make([]*guardrail.Cluster, s.Fleet.Len()),
	}
	if s.Guardrails != nil {
		ix.digest = s.Guardrails.Digest()
	}
	for i := range ix.clusters {
		ix.clusters[i] = b.effects.Cluster(i)
	}
	return ix
}

// update what subjects hold.
func (b *Builder) update(given []*compile.Given) {
	before := b.held
	b.held = make(map[string]*holding, len(given))
	// before and after of the subjects that a change reaches.
	type change struct{ gone, come []*holding }
	reached := map[subject.Subject]*change{}
	reach := func(h *holding, add func(c *change)) {
		for _, sub := range h.given.Subjects {
			c := reached[sub]
			if c == nil {
				c = &change{}
				reached[sub] = c
			}
			add(c)
		}
	}
	for _, g := range given {
		if len(g.Clusters) == 0 {
			continue
		}
		key := g.Key()
		old := before[key]
		if old != nil && old.given == g {
			b.held[key] = old
			continue
		}
		h := newHolding(g)
		b.held[key] = h
		reach(h, func(c *change) { c.come = append(c.come, h) })
	}
	for key, old := range before {
		if b.held[key] != old {
			reach(old, func(c *change) { c.gone = append(c.gone, old) })
		}
	}
	copied := [256]bool{}
	for sub, c := range reached {
		i := shardOf(sub)
		if !copied[i] {
			copied[i] = true
			if b.last[i] = maps.Clone(b.last[i]); b.last[i] == nil {
				b.last[i] = map[subject.Subject]*holdings{}
			}
		}
		var all []*holding
		if h := b.last[i][sub]; h != nil {
			all = h.all
		}
		for _, h := range c.gone {
			all = without(all, h)
		}
		if len(all) == 0 {
			slices.SortFunc(c.come, compareHoldings)
			all = c.come
		} else {
			for _, h := range c.come {
				all = with(all, h)
			}
		}
		if len(all) == 0 {
			delete(b.last[i], sub)
		} else {
			b.last[i][sub] = newHoldings(all)
		}
	}
}
