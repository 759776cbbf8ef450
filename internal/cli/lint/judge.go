package lint

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/cli/offline"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// judge is one run of the evaluator over what was read.
type judge struct {
	*offline.Repository
	now            time.Time
	requireCeiling bool
}

// all judges every grant.
func (j *judge) all() error {
	if err := j.Prepare(); err != nil {
		return err
	}
	for _, w := range j.Worlds() {
		j.judge(&w)
	}
	j.Sort()
	return nil
}

// judge a world.
func (j *judge) judge(w *offline.World) {
	s := j.Snapshot(w, j.now, guardrail.Plan, guardrail.Options{RequireCeiling: j.requireCeiling})
	exceptions, grants := map[string]*offline.Object{}, map[string]*offline.Object{} // by namespace/name
	for _, o := range w.Objects {
		if o.Kind == v1alpha1.GuardrailExceptionKind && !o.Invalid {
			exceptions[o.Namespace+"/"+o.Name] = o
		}
	}
	for _, o := range w.Grants {
		grants[o.Namespace+"/"+o.Name] = o
	}
	for _, r := range askAgain(s) {
		j.tellResult(grants[r.Grant], &r, exceptions)
	}
	for _, key := range slices.Sorted(maps.Keys(exceptions)) {
		j.checkException(exceptions[key], w, s.Guardrails)
	}
}

// askAgain compiles a snapshot. Who cannot be judged is judged again, by themselves: a
// deadline that was missed on a busy machine says nothing of the grant.
func askAgain(s compile.Snapshot) []compile.Result {
	out := compile.Judge(s)
	of := map[string]int{}
	for i := range out {
		of[out[i].Grant] = i
	}
	for range retries {
		s.Grants = slices.DeleteFunc(slices.Clone(s.Grants), func(g compile.Grant) bool {
			return !slices.ContainsFunc(out[of[g.Key()]].Judgement.Reasons, func(r guardrail.Reason) bool { return r.Failed })
		})
		if len(s.Grants) == 0 {
			break
		}
		for _, r := range compile.Judge(s) {
			out[of[r.Grant]] = r
		}
	}
	return out
}

const retries = 2

func (j *judge) tellResult(o *offline.Object, r *compile.Result, exceptions map[string]*offline.Object) {
	if r.Phase == compile.Expired {
		j.Tell(o.Finding(offline.Warning, "spec.validity.notAfter", "has expired, gives nothing and is not judged"))
	}
	for i := range r.Rejections {
		j.Tell(rejected(o, &r.Rejections[i]))
	}
	for i := range r.Judgement.Reasons {
		reason := &r.Judgement.Reasons[i]
		f := offline.Finding{Place: o.Place(reason.Field), Build: o.Build, Object: o.Label(), Field: reason.Field, Reason: reason}
		switch {
		case reason.Exception != "":
			f.Severity = offline.Note
			if e := exceptions[o.Namespace+"/"+reason.Exception]; e != nil {
				f.Until = " until " + e.Exception().NotAfter.UTC().Format(time.RFC3339)
			}
		case reason.Enforcement == v1alpha1.EnforcementAudit:
			f.Severity = offline.Note
		case reason.Enforcement == v1alpha1.EnforcementWarn:
			f.Severity = offline.Warning
		case reason.Failed:
			f.Severity = offline.Invalid
		}
		j.Tell(f)
	}
}

var fieldOfRejection = regexp.MustCompile(`^(access\[\d+\]|clusters\.selector): `)

// rejected is what the compiler does not take. What depends on the state of the hub
// is for it to say, and no fault of the repository.
func rejected(o *offline.Object, r *compile.Rejection) offline.Finding {
	s := offline.Invalid
	switch r.Reason {
	case v1alpha1.FailureUnknownPlacement, v1alpha1.FailureNotAccepted, v1alpha1.FailureNoDelivery, v1alpha1.FailureUnknownRules:
		s = offline.Warning
	}
	field, message := "", r.Message
	switch found := fieldOfRejection.FindStringSubmatch(r.Message); {
	case found != nil:
		field, message = "spec."+found[1], strings.TrimPrefix(r.Message, found[0])
	case r.Cluster != "":
		names := o.Typed.(*v1alpha1.AccessGrant).Spec.Clusters.Names
		field, message = "spec.clusters", fmt.Sprintf("cluster %q: %s", r.Cluster, r.Message)
		if i := slices.Index(names, v1alpha1.ClusterName(r.Cluster)); i >= 0 {
			field = fmt.Sprintf("spec.clusters.names[%d]", i)
		}
	case r.Reason == v1alpha1.FailureUnknownPlacement:
		field = "spec.clusters.placementRef"
		message += ": the clusters that it chooses are not judged, unless --fleet has its PlacementDecisions"
	case strings.HasPrefix(r.Message, "subject "):
		field = "spec.subjects"
	}
	return o.Finding(s, field, "%s", message)
}

// checkException says, in the words of admission, why one is not honoured.
func (j *judge) checkException(o *offline.Object, w *offline.World, set *guardrail.Set) {
	e := o.Exception()
	if !e.NotBefore.Before(e.NotAfter) {
		j.Tell(o.Finding(offline.Invalid, "spec.notAfter", "must be later than notBefore"))
		return
	}
	known := false
	for _, g := range set.Guardrails() {
		if g.Name != e.Guardrail {
			continue
		}
		known = true
		switch {
		case g.Exceptions.Longest <= 0:
			j.Tell(o.Finding(offline.Invalid, "spec.guardrail", "guardrail %q allows no exceptions", g.Name))
		case !g.Exceptions.Honour(&e):
			j.Tell(o.Finding(offline.Invalid, "spec.notAfter", "guardrail %q honours exceptions of at most %s from notBefore to notAfter, and this one is of %s",
				g.Name, g.Exceptions.Longest, e.NotAfter.Sub(e.NotBefore)))
		}
	}
	if !known {
		j.Tell(o.Finding(offline.Warning, "spec.guardrail", "there is no guardrail %q", e.Guardrail))
	}
	if !slices.ContainsFunc(w.Objects, func(g *offline.Object) bool {
		return g.Kind == v1alpha1.AccessGrantKind && g.Namespace == e.Namespace && g.Name == e.Grant
	}) {
		j.Tell(o.Finding(offline.Warning, "spec.grant", "there is no grant %q in namespace %q", e.Grant, e.Namespace))
	}
	if !j.now.Before(e.NotAfter) {
		j.Tell(o.Finding(offline.Warning, "spec.notAfter", "has expired: take it out"))
	}
}
