package effective

import (
	"cmp"
	"slices"
	"strings"
	"sync"
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
	if q.User.Name == "" || slices.Contains(q.User.Groups, "") {
		d := refusedBy("identity", "the user has no name, or a group without one")
		d.Snapshot, d.Policy = ix.number, ix.digest
		return d
	}
	w := works.Get().(*work)
	cluster, known := ix.fleet.Index(q.Cluster)
	if known {
		ix.find(&w.found, q, cluster)
	}
	d := ix.decide(q, cluster, known, w)
	d.Because = slices.Clone(d.Because)
	w.release(&d)
	return d
}

// refusedBy is a refusal that no guardrail of the hub's is behind.
func refusedBy(what, message string) Decision {
	return Decision{Reasons: []guardrail.Reason{{Guardrail: what, Enforcement: v1alpha1.EnforcementDeny, Message: message, Failed: true}}}
}

// work is what a decision is made in.
type work struct {
	found   found
	in      guardrail.Input
	request guardrail.RequestInfo
	grants  []*guardrail.GrantInfo
}

// works that are done, for others: a decision costs less than what it would allocate.
var works = sync.Pool{New: func() any { return &work{} }}

// plenty is how many grants a work may have room for that is kept.
const plenty = 256

// release what a decision was made in, unless a policy that missed its deadline may
// still be looking at it.
func (w *work) release(d *Decision) {
	if cap(w.found.because) > plenty || d.failed() {
		return
	}
	clear(w.found.because)
	clear(w.grants)
	*w = work{found: found{because: w.found.because[:0]}, grants: w.grants[:0]}
	works.Put(w)
}

// failed: a policy could not be evaluated.
func (d *Decision) failed() bool {
	return slices.ContainsFunc(d.Reasons, func(r guardrail.Reason) bool { return r.Failed })
}

// decide on a request by the grants that have been found for it.
func (ix *Index) decide(q *Request, cluster int, known bool, w *work) Decision {
	w.found.sort()
	d := Decision{Because: w.found.because, Snapshot: ix.number, Policy: ix.digest}
	for i := range d.Because {
		if ends := d.Because[i].Grant.NotAfter; ends != nil {
			d.Until = earlier(d.Until, *ends)
		}
	}
	switch {
	case !ix.judge(q, cluster, known, w, &d):
		d.Verdict = Denied
	case len(d.Because) == 0:
		d.Verdict = NotGranted
	case w.found.known:
		d.Verdict = Allowed
	default:
		d.Verdict = OnMember
	}
	return d
}

// judge reports whether guardrails let a request through.
func (ix *Index) judge(q *Request, cluster int, known bool, w *work, d *Decision) bool {
	if ix.policy.Idle(guardrail.Request) {
		return true
	}
	for i := range d.Because {
		w.grants = append(w.grants, &d.Because[i].Grant.GrantInfo)
	}
	w.in = guardrail.Input{Version: guardrail.InputVersion, Now: q.At.UTC(), Request: &w.request, Grants: w.grants}
	w.request = guardrail.RequestInfo{
		User: q.User, Verb: q.Verb, ResourceRequest: q.ResourceRequest,
		APIGroup: q.APIGroup, APIVersion: q.APIVersion, Resource: q.Resource, Subresource: q.Subresource,
		Namespace: q.Namespace, Name: q.Name, Path: q.Path,
	}
	if known {
		w.request.Cluster = ix.clusters[cluster]
	} else { // what labels it has nobody knows
		w.request.Cluster = &guardrail.Cluster{Name: q.Cluster, Claims: map[string]string{}}
	}
	j := ix.policy.Judge(guardrail.Request, &w.in)
	d.Reasons = j.Reasons
	d.Until = earlier(d.Until, j.Next)
	if j.Timed {
		d.Until = earlier(d.Until, q.At.Add(guardrail.Renewal))
	}
	return j.Verdict == guardrail.Allowed
}

// found is what gives a request.
type found struct {
	because []Because
	// known: of one of them at least the rules are known.
	known bool
}

// find the grants that give a user what is asked for on a cluster.
func (ix *Index) find(f *found, q *Request, cluster int) {
	if !ix.fleet.Members()[cluster].Accepted {
		return
	}
	ix.each(&q.User, func(h *holdings) { f.look(h, q, cluster) })
	if rule := discovers(q); rule >= 0 && !f.known {
		ix.each(&q.User, func(h *holdings) { f.discover(h, q, cluster, rule) })
	}
}

// look at what is held in the scope of a request.
func (f *found) look(h *holdings, q *Request, cluster int) {
	look := func(e entry) {
		r := e.role()
		if !r.Known {
			f.because = append(f.because, Because{Grant: e.grant, Role: e.roles[e.access], Rule: -1})
			return
		}
		if i := giving(r.Rules, q); i >= 0 {
			f.because, f.known = append(f.because, Because{Grant: e.grant, Role: e.roles[e.access], Rule: i}), true
		}
	}
	h.scope("").each(cluster, q.At, look)
	if q.ResourceRequest && q.Namespace != "" {
		h.scope(q.Namespace).each(cluster, q.At, look)
	}
}

// discover is look for what whoever holds anything on a cluster may do there.
func (f *found) discover(h *holdings, q *Request, cluster, rule int) {
	h.all.each(cluster, q.At, func(e entry) {
		f.because, f.known = append(f.because, Because{Grant: e.grant, Role: Discovery, Rule: rule}), true
	})
}

// sort by grant, each once.
func (f *found) sort() {
	slices.SortFunc(f.because, compareBecause)
	f.because = slices.CompactFunc(f.because, func(a, b Because) bool { return a.Grant == b.Grant })
}

// compareBecause by grant; of one grant, what is known before what is not.
func compareBecause(a, b Because) int {
	if a.Grant != b.Grant {
		return cmp.Or(strings.Compare(a.Grant.Namespace, b.Grant.Namespace), strings.Compare(a.Grant.Name, b.Grant.Name))
	}
	if (a.Rule < 0) != (b.Rule < 0) {
		return b.Rule - a.Rule
	}
	return cmp.Or(strings.Compare(a.Role, b.Role), a.Rule-b.Rule)
}

// each calls with what the user, the service account that the user is, and each group
// hold.
func (ix *Index) each(u *guardrail.User, f func(*holdings)) {
	if h := ix.held.get(subject.User, u.Name); h != nil {
		f(h)
	}
	if account, ok := strings.CutPrefix(u.Name, accountPrefix); ok {
		if h := ix.held.get(subject.ServiceAccount, account); h != nil {
			f(h)
		}
	}
	for _, g := range u.Groups {
		if h := ix.held.get(subject.Group, g); h != nil {
			f(h)
		}
	}
}

const accountPrefix = "system:serviceaccount:"

// Discovery is the role by which everyone on a cluster may do what is not for a grant to say.
const Discovery = "discovery"

// everyone is what Kubernetes gives everybody who is authenticated.
var everyone = rules.Everyone()

// discovers is the rule of everyone by which a request is one of those without which
// clients do not work; -1 if it is none.
func discovers(q *Request) int { return giving(everyone, q) }

// giving is the first of the rules that gives a request; -1 if none does.
func giving(all []rbacv1.PolicyRule, q *Request) int {
	for i := range all {
		if allows(&all[i], q) {
			return i
		}
	}
	return -1
}

// earlier of two instants, of which a zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
