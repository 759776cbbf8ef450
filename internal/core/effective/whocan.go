package effective

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// Query is what WhoCan is asked: which subjects may make such a request. Cluster "" is
// the whole fleet.
type Query struct {
	Cluster                                     string
	Verb                                        string
	ResourceRequest                             bool
	APIGroup, APIVersion, Resource, Subresource string
	Namespace, Name, Path                       string
	At                                          time.Time
}

// Holder is a subject that grants let do what was asked for, on the clusters where the
// decision on it is the same.
type Holder struct {
	Subject  subject.Subject
	Clusters []string // sorted
	Decision Decision
}

// WhoCan lists, sorted by subject and first cluster, every subject that a grant gives
// what is asked for, with what guardrails make of it. They judge a user without
// groups, a service account with those that Kubernetes gives it, and of a group a
// member without a name.
func (ix *Index) WhoCan(q *Query) []Holder {
	if ix == nil {
		return nil
	}
	cluster := -1
	if q.Cluster != "" {
		i, known := ix.fleet.Index(q.Cluster)
		if !known {
			return nil
		}
		cluster = i
	}
	// Subjects are independent of one another, and there are many.
	var found [searchers][]Holder
	var searches sync.WaitGroup
	for i := range found {
		searches.Go(func() {
			s := newSearch(ix, q, cluster)
			for kind := range ix.held {
				for shard := i; shard < len(ix.held[kind]); shard += len(found) {
					for name, h := range ix.held[kind][shard] {
						s.of(subjectOf(subject.Kind(kind), name), h)
					}
				}
			}
			slices.SortFunc(s.out, compareHolders)
			found[i] = s.out
		})
	}
	searches.Wait()
	return merged(found[:])
}

// searchers that look for holders at once.
const searchers = 8

func compareHolders(a, b Holder) int {
	return cmp.Or(subject.Compare(a.Subject, b.Subject), strings.Compare(a.Clusters[0], b.Clusters[0]))
}

// merged is one sorted list of several.
func merged(lists [][]Holder) []Holder {
	n := 0
	for _, l := range lists {
		n += len(l)
	}
	if n == 0 {
		return nil
	}
	out := make([]Holder, 0, n)
	for len(out) < n {
		least := -1
		for i, l := range lists {
			if len(l) > 0 && (least < 0 || compareHolders(l[0], lists[least][0]) < 0) {
				least = i
			}
		}
		out, lists[least] = append(out, lists[least][0]), lists[least][1:]
	}
	return out
}

// user that a subject is, as far as the subject tells.
func user(s subject.Subject) guardrail.User {
	switch s.Kind {
	case subject.User:
		return guardrail.User{Name: s.Name}
	case subject.ServiceAccount:
		return guardrail.User{Name: accountPrefix + s.Namespace + ":" + s.Name, Groups: s.ImpliedGroups()}
	}
	return guardrail.User{Groups: []string{s.Name}}
}

// search for holders, one subject after the other.
type search struct {
	ix        *Index
	q         Request
	cluster   int // -1 for all
	discovery int // the rule of everyone by which it is asked for; -1 for none
	// rules that were looked at, by their address: the first that gives what is asked for.
	rules map[*rbacv1.PolicyRule]int
	out   []Holder
	work  *work

	// What follows is of one subject: what gives what is asked for, and on each cluster
	// which of these. Most subjects have the same on many clusters.
	found    []Because
	own      int // of found, by what the subject holds itself
	on       [][]uint32
	clusters []int // that have any
}

func newSearch(ix *Index, q *Query, cluster int) *search {
	s := &search{ix: ix, cluster: cluster, on: make([][]uint32, ix.fleet.Len()), rules: map[*rbacv1.PolicyRule]int{}, q: Request{
		Verb: q.Verb, ResourceRequest: q.ResourceRequest, APIGroup: q.APIGroup, APIVersion: q.APIVersion, Resource: q.Resource,
		Subresource: q.Subresource, Namespace: q.Namespace, Name: q.Name, Path: q.Path, At: q.At,
	}}
	s.discovery = discovers(&s.q)
	return s
}

// of a subject, what it holds of that which is asked for.
func (s *search) of(sub subject.Subject, h *holdings) {
	s.gather(h, true)
	if len(s.clusters) == 0 {
		return
	}
	s.q.User, s.own = user(sub), len(s.found)
	if sub.Kind == subject.ServiceAccount {
		for _, g := range s.q.User.Groups {
			if h := s.ix.held.get(subject.Group, g); h != nil {
				s.gather(h, false)
			}
		}
	}
	slices.Sort(s.clusters)
	if len(s.found) == 1 { // as most
		s.decide(sub, s.clusters)
	} else {
		for _, clusters := range s.alike() {
			s.decide(sub, *clusters)
		}
	}
	for _, c := range s.clusters {
		s.on[c] = s.on[c][:0]
	}
	s.found, s.clusters = s.found[:0], s.clusters[:0]
}

// alike are the clusters by what is found on them.
func (s *search) alike() map[string]*[]int {
	out := map[string]*[]int{}
	var key []byte
	for _, c := range s.clusters {
		key = key[:0]
		for _, i := range s.on[c] {
			key = binary.LittleEndian.AppendUint32(key, i)
		}
		list := out[string(key)]
		if list == nil {
			list = &[]int{}
			out[string(key)] = list
		}
		*list = append(*list, c)
	}
	return out
}

// gather what is held, also on clusters on which nothing has been gathered yet.
func (s *search) gather(h *holdings, anew bool) {
	give := func(e entry) {
		r, rule := e.role(), -1
		if r.Known {
			if rule = s.rule(r.Rules); rule < 0 {
				return
			}
		}
		s.give(e, Because{Grant: e.grant, Role: e.roles[e.access], Rule: rule}, anew)
	}
	s.each(h.scope(""), give)
	if s.q.ResourceRequest && s.q.Namespace != "" {
		s.each(h.scope(s.q.Namespace), give)
	}
	if s.discovery >= 0 {
		s.each(&h.all, func(e entry) {
			s.give(e, Because{Grant: e.grant, Role: Discovery, Rule: s.discovery}, anew)
		})
	}
}

// rule is giving, for rules of which there are many that are the same.
func (s *search) rule(all []rbacv1.PolicyRule) int {
	i, known := s.rules[&all[0]]
	if !known {
		i = giving(all, &s.q)
		s.rules[&all[0]] = i
	}
	return i
}

// each calls with what is held in a scope where it is asked about.
func (s *search) each(in *scope, f func(entry)) {
	switch {
	case in == nil:
	case s.cluster >= 0:
		in.each(s.cluster, s.q.At, f)
	default:
		for _, e := range in.held {
			if e.activeAt(s.q.At) {
				f(e)
			}
		}
	}
}

func (s *search) give(e entry, by Because, anew bool) {
	at := uint32(len(s.found))
	s.found = append(s.found, by)
	for _, c := range e.given.Clusters {
		if s.cluster >= 0 && c != s.cluster || !s.ix.fleet.Members()[c].Accepted {
			continue
		}
		if len(s.on[c]) == 0 {
			if !anew {
				continue
			}
			s.clusters = append(s.clusters, c)
		}
		s.on[c] = append(s.on[c], at)
	}
}

// decide for clusters on which the same is found.
func (s *search) decide(sub subject.Subject, clusters []int) {
	var all found
	for _, i := range s.on[clusters[0]] {
		all.because = append(all.because, s.found[i])
	}
	all.settle()
	if sub.Kind == subject.ServiceAccount && !slices.ContainsFunc(s.found[:s.own], func(b Because) bool { return all.has(b.Grant) }) {
		return // only its groups do
	}
	var decisions []Decision
	var on [][]int // with each
	for _, c := range clusters {
		s.q.Cluster = s.ix.fleet.Members()[c].Name
		d := s.judge(all, c)
		if s.ix.policy.Idle(guardrail.Request) {
			decisions, on = []Decision{d}, [][]int{clusters}
			break
		}
		i := slices.IndexFunc(decisions, func(o Decision) bool {
			return o.Verdict == d.Verdict && o.Until.Equal(d.Until) && slices.Equal(o.Reasons, d.Reasons)
		})
		if i < 0 {
			i, decisions, on = len(decisions), append(decisions, d), append(on, nil)
		}
		on[i] = append(on[i], c)
	}
	for i, d := range decisions {
		s.out = append(s.out, Holder{Subject: sub, Clusters: s.ix.names(on[i]), Decision: d})
	}
}

// judge what was found on a cluster.
func (s *search) judge(all found, cluster int) Decision {
	if s.work == nil {
		s.work = &work{}
	}
	s.work.found = all
	d := s.ix.decide(&s.q, cluster, true, s.work)
	if d.failed() {
		s.work = nil // as with Decide
	} else {
		s.work.in, s.work.grants = guardrail.Input{}, s.work.grants[:0]
	}
	return d
}

// settle what was found without knowing what else would be: discovery counts where no
// rule that is known gives it.
func (f *found) settle() {
	if slices.ContainsFunc(f.because, func(b Because) bool { return b.Rule >= 0 && b.Role != Discovery }) {
		f.because = slices.DeleteFunc(f.because, func(b Because) bool { return b.Role == Discovery })
	}
	f.known = slices.ContainsFunc(f.because, func(b Because) bool { return b.Rule >= 0 })
	f.sort()
}

func (f *found) has(g *Grant) bool {
	return slices.ContainsFunc(f.because, func(b Because) bool { return b.Grant == g })
}
