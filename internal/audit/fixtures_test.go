package audit

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// passes is a check that objects to nothing.
type passes struct{}

func (passes) Check(*guardrail.Input) ([]guardrail.Violation, error) { return nil, nil }
func (passes) Timed() bool                                           { return false }

func inForce(name string, e v1alpha1.Enforcement) *guardrail.Guardrail {
	return &guardrail.Guardrail{Name: name, Enforcement: e, Check: passes{}}
}

func denies(name, message string) guardrail.Reason {
	return guardrail.Reason{Guardrail: name, Enforcement: v1alpha1.EnforcementDeny, Message: message, Field: "spec.access[0]"}
}

// judged is a grant with reasons in the order in which a Judgement has them.
func judged(namespace, name string, reasons ...guardrail.Reason) Grant {
	j := guardrail.Judgement{Verdict: guardrail.Allowed, Reasons: reasons}
	for i := range reasons {
		switch r := &reasons[i]; {
		case !r.Counts():
		case !r.Failed:
			j.Verdict = guardrail.Denied
		case j.Verdict == guardrail.Allowed:
			j.Verdict = guardrail.Undecided
		}
	}
	return Grant{Namespace: namespace, Name: name, UID: types.UID("uid-" + namespace + "-" + name), Revision: "main@sha1:abc", Judgement: j}
}

// fleetOf is an audit of grants in namespaces of 500 with that many violations each.
func fleetOf(grants, violations int) *Audit {
	a := &Audit{}
	for v := range violations {
		a.Guardrails = append(a.Guardrails, inForce(fmt.Sprintf("guardrail-%d", v), v1alpha1.EnforcementDeny))
	}
	for g := range grants {
		a.Grants = append(a.Grants, badGrant(g, violations))
	}
	return a
}

func badGrant(g, violations int) Grant {
	var reasons []guardrail.Reason
	for v := range violations {
		reasons = append(reasons, denies(fmt.Sprintf("guardrail-%d", v), fmt.Sprintf(`role "admin-%d" gives * on secrets in namespace "payments-%d"`, v, g)))
	}
	return judged(fmt.Sprintf("tenant-%03d", g/500), fmt.Sprintf("grant-%05d", g), reasons...)
}

func shuffled(a *Audit, seed uint64) *Audit {
	rng := rand.New(rand.NewPCG(seed, 1))
	b := &Audit{
		Grants:     append([]Grant(nil), a.Grants...),
		Guardrails: append([]*guardrail.Guardrail(nil), a.Guardrails...),
		Bundles:    append([]Bundle(nil), a.Bundles...),
	}
	rng.Shuffle(len(b.Grants), func(i, j int) { b.Grants[i], b.Grants[j] = b.Grants[j], b.Grants[i] })
	rng.Shuffle(len(b.Guardrails), func(i, j int) { b.Guardrails[i], b.Guardrails[j] = b.Guardrails[j], b.Guardrails[i] })
	rng.Shuffle(len(b.Bundles), func(i, j int) { b.Bundles[i], b.Bundles[j] = b.Bundles[j], b.Bundles[i] })
	return b
}

func long(s string) string { return strings.Repeat(s, 4096/len(s)) }
