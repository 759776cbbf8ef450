package compile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/rules"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// Standing is what hub and members hold of a grant.
type Standing struct {
	// Spec that was applied last.
	Spec *v1alpha1.AccessGrantSpec
	// On are the clusters on which something of it stands.
	On []string
	// Roles are the AccessRoles that were used, by name, as RoleDigest.
	Roles map[string]string
}

// RoleDigest tells two versions of an AccessRole's rules apart.
func RoleDigest(spec *v1alpha1.AccessRoleSpec) string {
	raw, err := json.Marshal(rules.Of(spec.Rules))
	if err != nil { // strings, and slices of them
		panic(fmt.Sprintf("cannot marshal rules: %v", err))
	}
	return longDigest(string(raw))
}

// judged is what guardrails make of a grant, with what it takes to judge it again.
type judged struct {
	judgement guardrail.Judgement
	answers   guardrail.Answers
	by        *guardrail.Set
	at        time.Time
	labels    map[string]string // of the namespace
}

// holds reports whether judging once more could not change anything.
func (j *judged) holds(s *Snapshot) bool {
	next := j.next()
	return j.by != nil && j.by == s.Guardrails && j.judgement.Verdict != guardrail.Undecided && (next.IsZero() || s.Now.Before(next)) && !s.Now.Before(j.at)
}

// retry is when what could not be judged is judged again, if nothing happens before.
const retry = 30 * time.Second

// next is when to judge again; zero for never.
func (j *judged) next() time.Time {
	next := j.judgement.Next
	if j.judgement.Verdict == guardrail.Undecided {
		next = earlier(next, j.at.Add(retry))
	}
	if renewal := j.at.Add(guardrail.Renewal); j.judgement.Timed && (next.IsZero() || renewal.Before(next)) {
		return renewal
	}
	return next
}

// judge a grant on what it would give if there were no other. An expired grant is
// not judged: it gives nothing, and no guardrail can take more.
func (c *Compiler) judge(g *Grant, e *expanded, s *Snapshot, before guardrail.Answers) judged {
	j := judged{by: s.Guardrails, at: s.Now, labels: s.Namespaces[g.Namespace]}
	if n := c.catalog.names(g.Spec); n > maxNames {
		j.judgement = guardrail.Judgement{Verdict: guardrail.Denied, Reasons: []guardrail.Reason{{
			Guardrail: SizeGuardrail, Enforcement: v1alpha1.EnforcementDeny, Field: "spec.access",
			Message: fmt.Sprintf("gives %d verbs, groups, resources, names and namespaces, and more than %d cannot be judged: divide the grant", n, maxNames),
		}}}
		return j
	}
	if s.Guardrails.Idle(s.Point) || e.result.Phase == Expired {
		j.judgement.Verdict = guardrail.Allowed
		return j
	}
	j.judgement, j.answers = s.Guardrails.JudgeAgain(s.Point, c.input(g, e, s), before)
	return j
}

// SizeGuardrail is the name by which the refusal of a grant goes that is too large.
const SizeGuardrail = "grant-size"

// maxNames bounds what one grant gives, so that every sound policy can judge every
// grant: one that cannot be judged would keep what it has when it is to be refused.
// Kubernetes' largest role, admin, has some three hundred.
const maxNames = 4096

// names counts what there is to look at in what a grant says, whether or not it can
// be given.
func (c *catalog) names(spec *v1alpha1.AccessGrantSpec) int {
	n := 0
	count := func(in []v1alpha1.PolicyRule) {
		for i := range in {
			p := &in[i]
			n += len(p.Verbs) + len(p.APIGroups) + len(p.Resources) + len(p.ResourceNames) + len(p.NonResourceURLs)
		}
	}
	for i := range spec.Access {
		e := &spec.Access[i]
		n += len(e.Namespaces)
		count(e.Rules)
		if ref := e.RoleRef; ref != nil && ref.Kind == v1alpha1.AccessRoleRef && c.specs[ref.Name] != nil {
			count(c.specs[ref.Name].Rules)
		}
	}
	return n
}

// input is the document that guardrails judge a grant by.
func (c *Compiler) input(g *Grant, e *expanded, s *Snapshot) *guardrail.Input {
	in := &guardrail.Input{
		Version: guardrail.InputVersion, Now: s.Now.UTC(),
		Grant: &guardrail.Grant{
			Metadata: guardrail.Metadata{Namespace: g.Namespace, Name: g.Name, Labels: Committed(g.Labels), Annotations: Committed(g.Annotations)},
			Spec:     g.Spec,
		},
		Namespace: &guardrail.Namespace{Name: g.Namespace, Labels: s.Namespaces[g.Namespace]},
		Source:    g.Origin,
		Access:    accessOf(g.Spec.Access, e.entries),
	}
	for i := range g.Spec.Access {
		ref := g.Spec.Access[i].RoleRef
		if ref == nil || ref.Kind != v1alpha1.AccessRoleRef {
			continue
		}
		if spec, known := c.catalog.specs[ref.Name]; known {
			if in.Roles == nil {
				in.Roles = map[string]*guardrail.Role{}
			}
			in.Roles[ref.Name] = &guardrail.Role{Description: spec.Description, Rules: rules.Of(spec.Rules)}
		}
	}
	for _, i := range e.selected {
		in.Clusters = append(in.Clusters, c.cluster(i))
	}
	return in
}

// accessOf the entries that give something: roles are those of the entries, nil for
// one that gives nothing.
func accessOf(entries []v1alpha1.AccessEntry, roles []*role) []*guardrail.Access {
	var out []*guardrail.Access
	for i, r := range roles {
		if r == nil {
			continue
		}
		a := &guardrail.Access{
			Field: fmt.Sprintf("spec.access[%d]", i), ClusterWide: entries[i].Namespaces == nil,
			Namespaces: []string{}, Known: !r.opaque(), Rules: r.rules,
		}
		if a.Rules == nil {
			a.Rules = []rbacv1.PolicyRule{}
		}
		for _, ns := range entries[i].Namespaces {
			a.Namespaces = append(a.Namespaces, string(ns))
		}
		if ref := entries[i].RoleRef; ref != nil {
			a.Role = &guardrail.RoleRef{Kind: string(ref.Kind), Name: ref.Name}
		}
		out = append(out, a)
	}
	return out
}

// cluster of that index, as guardrails see it: the same for every grant.
func (c *Compiler) cluster(i int) *guardrail.Cluster {
	if c.clusters[i] == nil {
		m := &c.fleet.Members()[i]
		seen := &guardrail.Cluster{Name: m.Name, Labels: m.Labels, Claims: m.Claims}
		if seen.Labels == nil {
			seen.Labels = map[string]string{}
		}
		if seen.Claims == nil {
			seen.Claims = map[string]string{}
		}
		c.clusters[i] = seen
	}
	return c.clusters[i]
}

// notes begin the labels and annotations in which tools keep their notes.
var notes = []string{
	v1alpha1.GroupVersion.Group + "/", "kustomize.toolkit.fluxcd.io/", "helm.toolkit.fluxcd.io/", "reconcile.fluxcd.io/", "argocd.argoproj.io/",
}

// Committed are the labels or annotations of a grant that guardrails see: without
// the notes of tools, which are not in what was committed.
func Committed(in map[string]string) map[string]string {
	isNote := func(key, _ string) bool {
		return key == corev1.LastAppliedConfigAnnotation || key == v1alpha1.ManagedByLabel ||
			slices.ContainsFunc(notes, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
	}
	for k := range in {
		if isNote(k, "") {
			out := maps.Clone(in)
			maps.DeleteFunc(out, isNote)
			return out
		}
	}
	return in
}

// keepFromWidening leaves of a grant what stands of it already. What a grant gives
// is subjects × access × clusters, so that what two give in common is the product
// of what they have in common.
func (e *expanded) keepFromWidening(st *Standing, c *catalog, s *Snapshot) {
	if st == nil || st.Spec == nil {
		e.clusters = nil
		return
	}
	ignore := func(Rejection) {}
	stood, ends := phase(st.Spec.Validity, s.Now)
	if stood != Active {
		e.clusters = nil
		return
	}
	e.next = earlier(e.next, ends)
	subjects := expandSubjects(st.Spec.Subjects, ignore)
	gives, _, _ := expandAccess(st.Spec.Access, c, ignore)
	e.subjects = common(e.subjects, subjects, subject.Compare)
	e.gives = slices.DeleteFunc(common(e.gives, gives, compareGives), func(g give) bool {
		name, isAccessRole := strings.CutPrefix(g.role.id, accessRoleID)
		return isAccessRole && RoleDigest(c.specs[name]) != st.Roles[name]
	})
	e.verbs = verbsOf(e.gives)
	var on []int
	for _, name := range st.On {
		if i, ok := s.Fleet.Index(name); ok {
			on = append(on, i)
		}
	}
	slices.Sort(on)
	e.clusters = common(e.clusters, on, func(a, b int) int { return a - b })
	if len(e.subjects) == 0 || len(e.gives) == 0 {
		e.clusters = nil
	}
}

// common is what two sorted lists have in common.
func common[T any](a, b []T, compare func(a, b T) int) []T {
	var out []T
	for _, x := range a {
		if _, ok := slices.BinarySearchFunc(b, x, compare); ok {
			out = append(out, x)
		}
	}
	return out
}

// earlier of two instants, of which a zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Within is what of the standing spec another still says: what stands of a grant
// after it was changed while it could not be judged, so that what is taken away now
// does not come back unjudged.
func (st *Standing) Within(spec *v1alpha1.AccessGrantSpec) *v1alpha1.AccessGrantSpec {
	out := st.Spec.DeepCopy()
	out.Subjects = slices.DeleteFunc(out.Subjects, func(s v1alpha1.Subject) bool { return !slices.Contains(spec.Subjects, s) })
	var access []v1alpha1.AccessEntry
	for _, e := range out.Access {
		if e.Namespaces == nil {
			if gives(spec, &e) {
				access = append(access, e)
			}
			continue
		}
		e.Namespaces = slices.DeleteFunc(e.Namespaces, func(ns v1alpha1.NamespaceName) bool {
			in := e
			in.Namespaces = []v1alpha1.NamespaceName{ns}
			return !gives(spec, &in)
		})
		if len(e.Namespaces) > 0 {
			access = append(access, e)
		}
	}
	out.Access = access
	if v := spec.Validity; v != nil && v.NotAfter != nil {
		if out.Validity == nil {
			out.Validity = &v1alpha1.Validity{}
		}
		if out.Validity.NotAfter == nil || v.NotAfter.Before(out.Validity.NotAfter) {
			out.Validity.NotAfter = v.NotAfter.DeepCopy()
		}
	}
	return out
}

// Narrows reports whether a spec gives nothing that another does not give: no subject,
// role, namespace or cluster more, no earlier beginning and no later end. Where it
// would take more than a look at the two, it says no.
func Narrows(from, to *v1alpha1.AccessGrantSpec) bool {
	return !slices.ContainsFunc(to.Subjects, func(sub v1alpha1.Subject) bool { return !slices.Contains(from.Subjects, sub) }) &&
		!slices.ContainsFunc(to.Access, func(e v1alpha1.AccessEntry) bool { return !gives(from, &e) }) &&
		narrowsClusters(&from.Clusters, &to.Clusters) && narrowsValidity(from.Validity, to.Validity) && from.Suspend == to.Suspend
}

// gives reports whether a spec has an entry's role in each of its namespaces.
func gives(from *v1alpha1.AccessGrantSpec, e *v1alpha1.AccessEntry) bool {
	has := func(in func(o *v1alpha1.AccessEntry) bool) bool {
		return slices.ContainsFunc(from.Access, func(o v1alpha1.AccessEntry) bool { return sameRole(&o, e) && in(&o) })
	}
	if e.Namespaces == nil {
		return has(func(o *v1alpha1.AccessEntry) bool { return o.Namespaces == nil })
	}
	return !slices.ContainsFunc(e.Namespaces, func(ns v1alpha1.NamespaceName) bool {
		return !has(func(o *v1alpha1.AccessEntry) bool { return slices.Contains(o.Namespaces, ns) })
	})
}

func narrowsClusters(from, to *v1alpha1.ClusterSelection) bool {
	return !slices.ContainsFunc(to.Names, func(n v1alpha1.ClusterName) bool { return !slices.Contains(from.Names, n) }) &&
		(to.Selector == nil || equality.Semantic.DeepEqual(from.Selector, to.Selector)) &&
		(to.PlacementRef == nil || equality.Semantic.DeepEqual(from.PlacementRef, to.PlacementRef))
}

func narrowsValidity(from, to *v1alpha1.Validity) bool {
	if from == nil {
		return true
	}
	begins := from.NotBefore == nil || to != nil && to.NotBefore != nil && !to.NotBefore.Before(from.NotBefore)
	ends := from.NotAfter == nil || to != nil && to.NotAfter != nil && !from.NotAfter.Before(to.NotAfter)
	return begins && ends
}

// sameRole reports whether two entries give the same role or the same rules.
func sameRole(a, b *v1alpha1.AccessEntry) bool {
	if a.RoleRef != nil || b.RoleRef != nil {
		return a.RoleRef != nil && b.RoleRef != nil && *a.RoleRef == *b.RoleRef
	}
	return string(marshal(rules.Of(a.Rules))) == string(marshal(rules.Of(b.Rules)))
}
