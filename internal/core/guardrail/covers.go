package guardrail

import "slices"

// Covers reports whether a set refuses whatever another one does: it has each of the
// other's guardrails, and excuses nothing that the other does not. Where it would take
// more than a look at the two, it says no. A nil set covers every set, and is covered
// by no other.
func (s *Set) Covers(o *Set) bool {
	if s == nil || o == nil {
		return s == nil
	}
	has := make(map[[2]string]bool, len(s.all))
	for _, g := range s.all {
		has[[2]string{g.Name, g.Digest}] = true
	}
	for _, g := range o.all {
		if !has[[2]string{g.Name, g.Digest}] {
			return false
		}
	}
	for key, excused := range s.excused {
		if slices.ContainsFunc(excused, func(e Exception) bool { return !slices.Contains(o.excused[key], e) }) {
			return false
		}
	}
	return s.options.RequireCeiling || !o.options.RequireCeiling
}

// Together is a set that refuses whatever either of two does, and so covers both.
func Together(a, b *Set) *Set {
	if a == nil || b == nil {
		return nil
	}
	guardrails := slices.Clone(a.all)
	for _, g := range b.all {
		if !slices.ContainsFunc(a.all, func(o *Guardrail) bool { return o.Name == g.Name && o.Digest == g.Digest }) {
			guardrails = append(guardrails, g)
		}
	}
	var excused []Exception
	for key, of := range a.excused {
		for _, e := range of {
			if slices.Contains(b.excused[key], e) {
				excused = append(excused, e)
			}
		}
	}
	return NewSet(guardrails, excused, Options{RequireCeiling: a.options.RequireCeiling || b.options.RequireCeiling})
}
