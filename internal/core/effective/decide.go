package effective

import (
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/rules"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// Decide on a request: guardrails first, then grants.
func (ix *Index) Decide(q *Request) Decision {
	if ix == nil {
		return refusedBy("snapshot", "what is granted is not known yet")
	}
	d := Decision{Snapshot: ix.number, Policy: ix.digest}
	if q.User.Name == "" || slices.Contains(q.User.Groups, "") {
		d.Reasons = refusedBy("identity", "the user has no name, or a group without one").Reasons
		return d
	}
	i, known := ix.fleet.Index(q.Cluster)
	onMember, w := true, &work{}
	if known {
		d.Because, onMember = ix.because(w.because[:0], q, i)
	}
	for _, b := range d.Because {
		if b.Grant.NotAfter != nil {
			d.Until = earlier(d.Until, *b.Grant.NotAfter)
		}
	}
	switch {
	case !ix.judge(q, i, known, w, &d):
		d.Verdict = Denied
	case len(d.Because) == 0:
		d.Verdict = NotGranted
	case onMember:
		d.Verdict = OnMember
	default:
		d.Verdict = Allowed
	}
	return d
}

// refusedBy is a refusal that no guardrail of the hub's is behind.
func refusedBy(what, message string) Decision {
	return Decision{Reasons: []guardrail.Reason{{Guardrail: what, Enforcement: v1alpha1.EnforcementDeny, Message: message, Failed: true}}}
}

// work is what a decision is made in: one allocation for all of it. It is not used
// again, since the decision has a part of it, and a policy that missed its deadline may
// still be looking at the rest.
type work struct {
	in      guardrail.Input
	request guardrail.RequestInfo
	grants  [4]*guardrail.GrantInfo
	because [4]Because
}

// judge reports whether guardrails let a request through.
func (ix *Index) judge(q *Request, cluster int, known bool, w *work, d *Decision) bool {
	if ix.policy.Idle(guardrail.Request) {
		return true
	}
	w.in = guardrail.Input{Version: guardrail.InputVersion, Now: q.At.UTC(), Request: &w.request, Grants: w.grants[:0]}
	w.request = guardrail.RequestInfo{
		User: q.User, Verb: q.Verb, ResourceRequest: q.ResourceRequest,
		APIGroup: q.APIGroup, APIVersion: q.APIVersion, Resource: q.Resource, Subresource: q.Subresource,
		Namespace: q.Namespace, Name: q.Name, Path: q.Path,
	}
	if known {
		w.request.Cluster = ix.clusters[cluster]
	} else { // of which there are neither labels nor claims
		w.request.Cluster = &guardrail.Cluster{Name: q.Cluster, Labels: map[string]string{}, Claims: map[string]string{}}
	}
	for i := range d.Because {
		w.in.Grants = append(w.in.Grants, &d.Because[i].Grant.GrantInfo)
	}
	j := ix.policy.Judge(guardrail.Request, &w.in)
	d.Reasons = j.Reasons
	d.Until = earlier(d.Until, j.Next)
	if j.Timed {
		d.Until = earlier(d.Until, q.At.Add(guardrail.Renewal))
	}
	return j.Verdict == guardrail.Allowed
}

// because are the grants that give what is asked for on a cluster, sorted by key, each
// once, and whether only the member knows of all of them.
func (ix *Index) because(out []Because, q *Request, cluster int) ([]Because, bool) {
	if !ix.fleet.Members()[cluster].Accepted {
		return nil, true
	}
	onMember := true
	look := func(h *holdings) {
		if h == nil {
			return
		}
		out, onMember = h.in[""].find(out, onMember, q, cluster)
		if q.Namespace != "" {
			out, onMember = h.in[q.Namespace].find(out, onMember, q, cluster)
		}
	}
	ix.each(&q.User, look)
	if len(out) == 0 && discovers(q) {
		ix.each(&q.User, func(h *holdings) {
			if h == nil {
				return
			}
			for _, g := range h.all {
				if g.clusters.has(cluster) && g.activeAt(q.At) {
					out, onMember = append(out, Because{Grant: g.grant, Role: "discovery"}), false
				}
			}
		})
	}
	if len(out) > 1 {
		slices.SortStableFunc(out, compareBecause)
		out = slices.CompactFunc(out, func(a, b Because) bool { return a.Grant == b.Grant })
	}
	return out, onMember
}

// compareBecause by grant; of one grant, what is known before what is not.
func compareBecause(a, b Because) int {
	if a.Grant == b.Grant {
		return boolOrder(a.Rule < 0) - boolOrder(b.Rule < 0)
	}
	if c := strings.Compare(a.Grant.Namespace, b.Grant.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.Grant.Name, b.Grant.Name)
}

func boolOrder(b bool) int {
	if b {
		return 1
	}
	return 0
}

// each calls with what the user, the service account that the user is, and each group
// hold; nil for one that holds nothing.
func (ix *Index) each(u *guardrail.User, f func(*holdings)) {
	f(ix.held.get(subject.Subject{Kind: subject.User, Name: u.Name}))
	if account, ok := accountOf(u.Name); ok {
		f(ix.held.get(account))
	}
	for _, g := range u.Groups {
		f(ix.held.get(subject.Subject{Kind: subject.Group, Name: g}))
	}
}

// accountOf a user name.
func accountOf(name string) (subject.Subject, bool) {
	rest, ok := strings.CutPrefix(name, "system:serviceaccount:")
	if !ok {
		return subject.Subject{}, false
	}
	namespace, account, ok := strings.Cut(rest, ":")
	return subject.Subject{Kind: subject.ServiceAccount, Namespace: namespace, Name: account}, ok
}

// find what of a scope gives the request.
func (s *scope) find(to []Because, onMember bool, q *Request, cluster int) ([]Because, bool) {
	held := s.at(cluster)
	for i := range held {
		h := &held[i]
		if !h.clusters.has(cluster) || !h.activeAt(q.At) {
			continue
		}
		if !h.known {
			to = append(to, Because{Grant: h.grant, Role: h.role, Rule: -1})
			continue
		}
		if r := slices.IndexFunc(h.rules, func(p rbacv1.PolicyRule) bool { return allows(&p, q) }); r >= 0 {
			to, onMember = append(to, Because{Grant: h.grant, Role: h.role, Rule: r}), false
		}
	}
	return to, onMember
}

// everyone is what Kubernetes gives everybody who is authenticated.
var everyone = rules.Everyone()

// discovers reports whether a request is one of those without which clients do not
// work.
func discovers(q *Request) bool {
	return slices.ContainsFunc(everyone, func(p rbacv1.PolicyRule) bool { return allows(&p, q) })
}

// earlier of two instants, of which a zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
