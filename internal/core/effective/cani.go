package effective

import (
	"cmp"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/rules"
)

// Permission is what a user may do on clusters by one role in one scope, as guardrails
// have it.
type Permission struct {
	Clusters []string // sorted
	// ScopedRole that grants give. What whoever has a grant on a cluster may do there
	// goes by the Name discovery, without a Kind.
	compile.ScopedRole
	Grants []*Grant // sorted by namespace and name
	// Refused are those of the requests which the rules spell out that guardrails refuse,
	// on each of the clusters: sorted. Each is judged in the namespace of the role, with
	// the name of an object where the rule has names, else without one.
	Refused []Refusal
	// Unsure: guardrails judge requests on these clusters, and may refuse others. The
	// rules have a star in the place of groups, resources or paths, are the member's, or
	// say more than is judged for a list.
	Unsure bool
}

// Refusal is a request that a rule gives and guardrails refuse.
type Refusal struct {
	Verb string
	// APIGroup, Resource, such as pods/exec, and Name; empty for a path.
	APIGroup, Resource, Name string
	Path                     string
	// Reasons that count: sorted.
	Reasons []guardrail.Reason
}

// most requests of a role on a cluster that are judged for a list.
const most = 1024

// CanI lists what grants give a user: on one cluster, or on the whole fleet where
// cluster is "". It is sorted by kind and name of the role, by namespace and by the
// first cluster.
func (ix *Index) CanI(u *guardrail.User, cluster string, at time.Time) []Permission {
	l := &list{ix: ix, user: u, at: at}
	for i, held := range ix.holds(u, at) {
		if len(held) > 0 && (cluster == "" || ix.fleet.Members()[i].Name == cluster) {
			l.on(i, held)
		}
	}
	out := make([]Permission, len(l.out))
	for i := range l.out {
		out[i] = l.out[i].Permission
		out[i].Clusters = ix.names(l.out[i].on)
	}
	slices.SortStableFunc(out, func(a, b Permission) int {
		return cmp.Or(
			strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name), strings.Compare(a.Namespace, b.Namespace),
			slices.CompareFunc(a.Rules, b.Rules, rules.Compare), strings.Compare(a.Clusters[0], b.Clusters[0]),
		)
	})
	return out
}

// list of permissions in the making.
type list struct {
	ix   *Index
	user *guardrail.User
	at   time.Time
	out  []listed
	by   map[scopedKey][]int // which of out have that role
	// answers on the cluster that the list is at.
	answers map[asked][]guardrail.Reason
}

type listed struct {
	Permission
	on []int
}

// scopedKey tells roles in scopes apart. Rules of one address are the same, and within
// one index no others are, but for those of roles of other names.
type scopedKey struct {
	kind, name, namespace string
	rules                 *rbacv1.PolicyRule
}

func keyOf(r *compile.ScopedRole) scopedKey {
	k := scopedKey{kind: r.Kind, name: r.Name, namespace: r.Namespace}
	if len(r.Rules) > 0 {
		k.rules = &r.Rules[0]
	}
	return k
}

// on a cluster, what is held.
func (l *list) on(cluster int, held []*holding) {
	l.answers = map[asked][]guardrail.Reason{}
	found := map[scopedKey]*Permission{}
	var order []*Permission
	add := func(r *compile.ScopedRole, g *Grant) {
		key := keyOf(r)
		p := found[key]
		if p == nil {
			p = &Permission{ScopedRole: *r}
			found[key] = p
			order = append(order, p)
		}
		p.Grants = append(p.Grants, g)
	}
	for _, h := range held {
		for i := range h.given.Access {
			add(&h.given.Access[i], h.grant)
		}
		add(&discoveryRole, h.grant)
	}
	for _, p := range order {
		l.judge(cluster, p)
		l.merge(cluster, p)
	}
}

var discoveryRole = compile.ScopedRole{Name: Discovery, Known: true, Rules: everyone}

// merge with what is the same on other clusters.
func (l *list) merge(cluster int, p *Permission) {
	key := keyOf(&p.ScopedRole)
	for _, i := range l.by[key] {
		o := &l.out[i]
		if o.Unsure == p.Unsure && slices.Equal(o.Grants, p.Grants) && slices.EqualFunc(o.Refused, p.Refused, sameRefusal) {
			o.on = append(o.on, cluster)
			return
		}
	}
	if l.by == nil {
		l.by = map[scopedKey][]int{}
	}
	l.by[key] = append(l.by[key], len(l.out))
	l.out = append(l.out, listed{*p, []int{cluster}})
}

func sameRefusal(a, b Refusal) bool {
	return compareRefusals(a, b) == 0 && slices.Equal(a.Reasons, b.Reasons)
}

func compareRefusals(a, b Refusal) int {
	return cmp.Or(
		strings.Compare(a.APIGroup, b.APIGroup), strings.Compare(a.Resource, b.Resource), strings.Compare(a.Path, b.Path),
		strings.Compare(a.Name, b.Name), strings.Compare(a.Verb, b.Verb),
	)
}

// judge the requests that a permission spells out.
func (l *list) judge(cluster int, p *Permission) {
	if l.ix.policy.Idle(guardrail.Request) {
		return
	}
	p.Unsure = !p.Known
	budget := most
	for i := range p.Rules {
		p.Unsure = spell(&p.Rules[i], func(r Refusal) bool {
			if budget--; budget < 0 {
				return false
			}
			if r.Reasons = l.refused(cluster, p.Namespace, &r); r.Reasons != nil {
				p.Refused = append(p.Refused, r)
			}
			return true
		}) || p.Unsure
	}
	slices.SortFunc(p.Refused, compareRefusals)
	p.Refused = slices.CompactFunc(p.Refused, sameRefusal)
}

// asked is a request on the cluster that the list is at.
type asked struct{ verb, group, resource, name, path, namespace string }

// refused is why guardrails refuse a request; nil where they do not. Roles have much in
// common, and each request is judged once.
func (l *list) refused(cluster int, namespace string, r *Refusal) []guardrail.Reason {
	key := asked{r.Verb, r.APIGroup, r.Resource, r.Name, r.Path, namespace}
	reasons, known := l.answers[key]
	if !known {
		reasons = l.decide(cluster, namespace, r)
		l.answers[key] = reasons
	}
	return reasons
}

func (l *list) decide(cluster int, namespace string, r *Refusal) []guardrail.Reason {
	q := &Request{
		User: *l.user, Cluster: l.ix.fleet.Members()[cluster].Name, Verb: r.Verb, ResourceRequest: r.Path == "",
		APIGroup: r.APIGroup, Name: r.Name, Path: r.Path, Namespace: namespace, At: l.at,
	}
	q.Resource, q.Subresource, _ = strings.Cut(r.Resource, "/")
	d := l.ix.Decide(q)
	if d.Verdict != Denied {
		return nil
	}
	return slices.DeleteFunc(d.Reasons, func(r guardrail.Reason) bool { return !r.Counts() })
}

// spell calls with each request that a rule names, until it is told to stop. It
// reports whether the rule gives others.
func spell(r *rbacv1.PolicyRule, f func(Refusal) bool) (others bool) {
	verbs := rules.Spelled(r)
	names := r.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	for _, verb := range verbs {
		for _, path := range r.NonResourceURLs {
			if strings.HasSuffix(path, "*") {
				others = true
			} else if !f(Refusal{Verb: verb, Path: path}) {
				return true
			}
		}
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				if group == rbacv1.APIGroupAll || strings.HasPrefix(resource, rbacv1.ResourceAll) {
					others = true
					continue
				}
				for _, name := range names {
					if !f(Refusal{Verb: verb, APIGroup: group, Resource: resource, Name: name}) {
						return true
					}
				}
			}
		}
	}
	return others
}
