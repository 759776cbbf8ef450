package guardrail

import "time"

// Exception excuses one grant from one guardrail for a time.
type Exception struct {
	// Namespace of the exception, and of the grant that it excuses.
	Namespace, Name string
	Guardrail       string
	// Grant by name, in the namespace of the exception.
	Grant               string
	NotBefore, NotAfter time.Time
}

// Terms on which a guardrail honours exceptions. The zero Terms honour none.
type Terms struct {
	// Longest time from an exception's beginning to its end; 0 for no exceptions.
	Longest time.Duration
}

// Honour reports whether an exception is one that the terms allow. It is
// independent of the instant: an exception that is too long never counts, not even
// at its end.
func (t Terms) Honour(e *Exception) bool {
	length := e.NotAfter.Sub(e.NotBefore)
	return length > 0 && length <= t.Longest
}

// exceptionKey is what an exception is about.
type exceptionKey struct{ guardrail, namespace, grant string }

// exceptions by what they are about.
type exceptions map[exceptionKey][]Exception

// excuse is the name of the first exception in force that excuses a grant from a
// guardrail, "" if there is none, and when that may change. Each exception counts
// by itself: two that are too weak do not make one that is not.
func (x exceptions) excuse(g *Guardrail, namespace, grant string, now time.Time) (name string, next time.Time) {
	for _, e := range x[exceptionKey{g.Name, namespace, grant}] {
		if !g.Exceptions.Honour(&e) {
			continue
		}
		switch {
		case now.Before(e.NotBefore):
			next = earlier(next, e.NotBefore)
		case now.Before(e.NotAfter):
			next = earlier(next, e.NotAfter)
			if name == "" {
				name = e.Name
			}
		}
	}
	return name, next
}

// earlier of two instants, of which a zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
