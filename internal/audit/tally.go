package audit

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	orv1 "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// tally is what one guardrail, or a bundle that is in trouble, makes of the fleet.
type tally struct {
	// of names the object: none for what Sallyport itself asks for.
	of          corev1.ObjectReference
	policy      string
	enforcement v1alpha1.Enforcement
	// err: it cannot be evaluated at all.
	err error
	// Grants that violate it, on which it failed, and that are excused from it.
	violated, failed, excused int
}

// tallies of all guardrails in force, of all others that had something to say, and
// of bundles in trouble, sorted by key.
func tallies(a *Audit) []*tally {
	of := map[string]*tally{}
	for _, g := range a.Guardrails {
		t := of[g.Name]
		if t == nil {
			t = &tally{of: guardrailRef(g.Name), policy: g.Name, enforcement: g.Enforcement}
			of[g.Name] = t
		}
		if g.Check == nil {
			t.err = cmp.Or(t.err, g.Err, errNoPolicy)
		}
	}
	for i := range a.Grants {
		reasons := a.Grants[i].Judgement.Reasons
		for j := range reasons {
			r := &reasons[j]
			// Reasons of one guardrail and one rank are side by side; a grant counts once.
			if j > 0 && reasons[j-1].Guardrail == r.Guardrail && resultOf(&reasons[j-1]) == resultOf(r) {
				continue
			}
			t := of[r.Guardrail]
			if t == nil {
				t = &tally{policy: r.Guardrail, enforcement: r.Enforcement}
				of[r.Guardrail] = t
			}
			switch resultOf(r) {
			case skip:
				t.excused++
			case bad:
				t.failed++
			default:
				t.violated++
			}
		}
	}
	out := slices.Collect(maps.Values(of))
	for _, b := range a.Bundles {
		if b.Err != nil {
			out = append(out, &tally{of: reference(v1alpha1.GuardrailBundleKind, b.Name), policy: b.Name, err: b.Err})
		}
	}
	slices.SortFunc(out, func(a, b *tally) int { return strings.Compare(a.key(), b.key()) })
	return out
}

var errNoPolicy = errors.New("there is no policy")

// guardrailRef is the object that a guardrail comes from: BUNDLE/NAME is of a
// bundle.
func guardrailRef(name string) corev1.ObjectReference {
	if bundle, _, ok := strings.Cut(name, "/"); ok {
		return reference(v1alpha1.GuardrailBundleKind, bundle)
	}
	return reference(v1alpha1.GuardrailKind, name)
}

func reference(kind, name string) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: kind, Name: name}
}

// bundle reports whether the tally is of a bundle as a whole.
func (t *tally) bundle() bool {
	return t.of.Kind == v1alpha1.GuardrailBundleKind && t.of.Name == t.policy
}

func (t *tally) key() string { return t.policy + " " + t.of.Kind }

// result is the worst of what there is to say.
func (t *tally) result() orv1.Result {
	switch {
	case t.err != nil:
		return bad
	case t.violated > 0 && t.enforcement == v1alpha1.EnforcementWarn:
		return warn
	case t.violated > 0:
		return fail
	case t.failed > 0:
		return bad
	}
	return pass
}

func (t *tally) message() string {
	switch {
	case t.err != nil && t.bundle():
		return "the bundle cannot be loaded: " + t.err.Error()
	case t.err != nil:
		return "the guardrail cannot be evaluated: " + t.err.Error()
	case t.violated+t.failed+t.excused == 0:
		return "no grant violates it"
	}
	var parts []string
	for _, p := range []struct {
		n         int
		one, many string
	}{
		{t.violated, "1 grant violates it", " grants violate it"},
		{t.failed, "1 grant cannot be judged by it", " grants cannot be judged by it"},
		{t.excused, "1 grant is excused from it", " grants are excused from it"},
	} {
		switch {
		case p.n == 1:
			parts = append(parts, p.one)
		case p.n > 1:
			parts = append(parts, decimal(p.n)+p.many)
		}
	}
	return strings.Join(parts, ", ")
}

func (t *tally) count(s *orv1.ReportSummary) { add(s, t.result()) }

func (t *tally) weigh() (results, bytes int) {
	return 1, overhead + bound(t.policy, maxName) + len(t.of.Name) + bound(t.message(), maxMessage)
}

func (t *tally) appendDigest(to []byte) []byte {
	to = appendStrings(to, t.of.Kind, t.policy, string(t.enforcement), t.message())
	return appendInts(to, t.violated, t.failed, t.excused)
}

func (t *tally) appendResults(to []orv1.ReportResult) []orv1.ReportResult {
	result := t.result()
	r := orv1.ReportResult{
		Policy: plain(t.policy, maxName), Category: category, Source: source,
		Result: result, Severity: severityOf(result, t.enforcement), Scored: result == fail,
		Description: plain(t.message(), maxMessage),
	}
	if !t.bundle() {
		r.Properties = properties(
			enforcementProperty, enforcementOf(t.enforcement),
			violatedProperty, decimal(t.violated), failedProperty, decimal(t.failed), excusedProperty, decimal(t.excused),
		)
	}
	if t.of.Name != "" {
		r.Subjects = []corev1.ObjectReference{t.of}
	}
	return append(to, r)
}

func decimal(n int) string { return strconv.Itoa(n) }
