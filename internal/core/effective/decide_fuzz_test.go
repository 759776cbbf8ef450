package effective_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/rules"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// FuzzDecide: the decision is that of a scan over all that is given.
func FuzzDecide(f *testing.F) {
	fuzz(f, 300, func(t *testing.T, c *choices) {
		w := newWorld(c)
		ix := w.index()
		for range 20 {
			q := someRequest(c)
			if diff := cmp.Diff(scan(w, q), told(ix.Decide(q))); diff != "" {
				t.Fatalf("%+v (-scan +Index):\n%s", q, diff)
			}
		}
	})
}

// TestManyGrantsOfOne: a subject with more grants, in more namespaces and on more
// clusters than are looked through has what a scan finds, also after changes.
func TestManyGrantsOfOne(t *testing.T) {
	c := choicesOf(11)
	w := newWorld(c)
	w.members, w.grants = nil, nil
	var clusters []v1alpha1.ClusterName
	for i := range 100 {
		m := fleet.Member{Name: fmt.Sprintf("m%02d", i), Accepted: true, Delivery: fleet.Direct, Paths: subject.Gateway}
		w.members, clusters = append(w.members, m), append(clusters, v1alpha1.ClusterName(m.Name))
	}
	some := func(i int) compile.Grant {
		from := c.n(len(clusters))
		on := clusters[from:min(len(clusters), from+1+(1+i%3)*c.n(40))]
		return grantTo(fmt.Sprintf("t/g%d", i), on, []v1alpha1.Subject{devs},
			give(pick(c, []string{"x", "", "y"}), []string{"get"}, "", "pods"), give(fmt.Sprint("ns-", i), []string{"get"}, "", "pods"))
	}
	for i := range 80 {
		w.grants = append(w.grants, some(i))
	}
	var b effective.Builder
	for range 10 {
		ix := b.Build(w.snapshot())
		for range 100 {
			q := ask("get", "pods", onCluster(string(pick(c, clusters))), within(pick(c, []string{"x", "y", "ns-3", "ns-70", ""})))
			if diff := cmp.Diff(scan(w, q), told(ix.Decide(q))); diff != "" {
				t.Fatalf("%+v (-scan +Index):\n%s", q, diff)
			}
		}
		w.grants = slices.Clone(w.grants)
		i := c.n(len(w.grants))
		w.grants[i] = some(i)
		w.grants = slices.Delete(w.grants, 3, 5)
	}
}

// answer is a Decision in words.
type answer struct {
	Verdict effective.Verdict
	Reasons []string
	Because []string
	Until   time.Time
}

func told(d effective.Decision) answer {
	a := answer{Verdict: d.Verdict, Until: d.Until}
	for i := range d.Reasons {
		a.Reasons = append(a.Reasons, d.Reasons[i].String()+d.Reasons[i].Exception)
	}
	for _, b := range d.Because {
		known := "known"
		if b.Rule < 0 {
			known = "of the member"
		}
		a.Because = append(a.Because, b.Grant.Key()+" "+known)
	}
	return a
}

// scan decides as a person would who has all day.
func scan(w *world, q *effective.Request) answer {
	var e compile.Effects
	s := w.snapshot()
	all, _ := e.Of(s)
	if q.User.Name == "" || slices.Contains(q.User.Groups, "") {
		return answer{Reasons: []string{`guardrail "identity": the user has no name, or a group without one`}}
	}
	in := &guardrail.Input{Version: guardrail.InputVersion, Now: q.At, Request: &guardrail.RequestInfo{
		User: q.User, Verb: q.Verb, ResourceRequest: q.ResourceRequest, APIGroup: q.APIGroup, Resource: q.Resource, Subresource: q.Subresource,
		Namespace: q.Namespace, Name: q.Name, Path: q.Path, Cluster: &guardrail.Cluster{Name: q.Cluster},
	}}
	i, known := s.Fleet.Index(q.Cluster)
	if known {
		in.Request.Cluster.Labels = s.Fleet.Members()[i].Labels
	}
	explicit, discovering := false, ruleGives(rules.Everyone(), q)
	var a answer
	var on, given []*compile.Given
	may := map[*compile.Given]bool{} // true where the rules are known
	for _, g := range all {
		if !known || !slices.Contains(g.Clusters, i) || !g.Ends.IsZero() && !q.At.Before(g.Ends) || !slices.ContainsFunc(g.Subjects, func(s subject.Subject) bool { return is(s, &q.User) }) {
			continue
		}
		on = append(on, g)
		for _, r := range g.Access {
			if r.Namespace != "" && (!q.ResourceRequest || r.Namespace != q.Namespace) {
				continue
			}
			if !r.Known {
				may[g] = may[g] || false
			} else if ruleGives(r.Rules, q) {
				may[g], explicit = true, true
			}
		}
	}
	for _, g := range on {
		if _, gives := may[g]; gives || discovering && !explicit {
			given = append(given, g)
		}
	}
	sure := false
	for _, g := range given {
		line := g.Key() + " of the member"
		if may[g] || discovering && !explicit {
			line, sure = g.Key()+" known", true
		}
		a.Because = append(a.Because, line)
		if !g.Ends.IsZero() && (a.Until.IsZero() || g.Ends.Before(a.Until)) {
			a.Until = g.Ends
		}
		in.Grants = append(in.Grants, &guardrail.GrantInfo{Namespace: g.Namespace, Name: g.Name})
	}
	j := w.policy.Judge(guardrail.Request, in)
	for i := range j.Reasons {
		a.Reasons = append(a.Reasons, j.Reasons[i].String()+j.Reasons[i].Exception)
	}
	if !j.Next.IsZero() && (a.Until.IsZero() || j.Next.Before(a.Until)) {
		a.Until = j.Next
	}
	switch {
	case j.Verdict != guardrail.Allowed:
		a.Verdict = effective.Denied
	case len(given) == 0:
		a.Verdict = effective.NotGranted
	case sure:
		a.Verdict = effective.Allowed
	default:
		a.Verdict = effective.OnMember
	}
	return a
}

// is reports whether a subject is the user, or a group of the user's.
func is(s subject.Subject, u *guardrail.User) bool {
	switch s.Kind {
	case subject.User:
		return s.Name == u.Name
	case subject.Group:
		return slices.Contains(u.Groups, s.Name)
	}
	return u.Name == fmt.Sprintf("system:serviceaccount:%s:%s", s.Namespace, s.Name)
}

// ruleGives spells Kubernetes' documentation of rules.
func ruleGives(all []rbacv1.PolicyRule, q *effective.Request) bool {
	return slices.ContainsFunc(all, func(r rbacv1.PolicyRule) bool {
		if !slices.Contains(r.Verbs, q.Verb) && !slices.Contains(r.Verbs, "*") {
			return false
		}
		if !q.ResourceRequest {
			return slices.ContainsFunc(r.NonResourceURLs, func(url string) bool {
				prefix, star := strings.CutSuffix(url, "*")
				return url == q.Path || star && strings.HasPrefix(q.Path, prefix)
			})
		}
		resource := q.Resource
		if q.Subresource != "" {
			resource += "/" + q.Subresource
		}
		return (slices.Contains(r.APIGroups, q.APIGroup) || slices.Contains(r.APIGroups, "*")) &&
			(slices.Contains(r.Resources, resource) || slices.Contains(r.Resources, "*") || q.Subresource != "" && slices.Contains(r.Resources, "*/"+q.Subresource)) &&
			(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, q.Name))
	})
}

// FuzzBuilder: whatever the steps and the order, a Builder makes the index that a
// fresh one makes; the index before decides as it did; and the snapshot stays as it
// was.
func FuzzBuilder(f *testing.F) {
	fuzz(f, 40, func(t *testing.T, c *choices) {
		w := newWorld(c)
		var b effective.Builder
		last := b.Build(w.snapshot())
		lastSeen := everything(last)
		story := []string{"begin"}
		for step := 0; step < 10 && len(c.data) > 0; step++ {
			story = append(story, w.edit(c))
			frozen := freeze(w)
			now := b.Build(w.shuffled(uint64(step)).snapshot())
			if diff := cmp.Diff(frozen, freeze(w)); diff != "" {
				t.Fatalf("after %q the snapshot was changed (-before +after):\n%s", story, diff)
			}
			seen := everything(now)
			if diff := cmp.Diff(everything(w.index()), seen); diff != "" {
				t.Fatalf("after %q the Builder differs from a fresh one (-fresh +kept):\n%s", story, diff)
			}
			if diff := cmp.Diff(lastSeen, everything(last)); diff != "" {
				t.Fatalf("after %q the index before decides otherwise (-before +after):\n%s", story, diff)
			}
			if now.Number() <= last.Number() || now.Policy() != w.policy {
				t.Fatalf("after %q the index has number %d and the one before %d, or other guardrails", story, now.Number(), last.Number())
			}
			last, lastSeen = now, seen
		}
	})
}

// everything that an index has to say.
func everything(ix *effective.Index) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for i := range worldUsers {
		u := &worldUsers[i]
		for _, r := range ix.Reaches(u, noon) {
			say("%q reaches %s %s %q", u, r.Cluster, keys(r.Grants), ix.Groups(u, r.Cluster, noon))
		}
	}
	for _, p := range ix.CanI(&worldUsers[1], "a", noon) {
		say("may %q %v %s %v %t", p.Clusters, p.ScopedRole, keys(p.Grants), p.Refused, p.Unsure)
	}
	c := choicesOf(7)
	for range 30 {
		q := someRequest(c)
		say("%+v %v", q, told(ix.Decide(q)))
		for _, h := range ix.WhoCan(query(q)) {
			say("%+v %s %q %v", query(q), h.Subject, h.Clusters, told(h.Decision))
		}
	}
	return out
}

func keys(grants []*effective.Grant) (out []string) {
	for _, g := range grants {
		out = append(out, g.Key())
	}
	return out
}

func query(q *effective.Request) *effective.Query {
	return &effective.Query{
		Cluster: q.Cluster, Verb: q.Verb, ResourceRequest: q.ResourceRequest, APIGroup: q.APIGroup, Resource: q.Resource, Subresource: q.Subresource,
		Namespace: q.Namespace, Name: q.Name, Path: q.Path, At: q.At,
	}
}

// freeze is a deep copy in words.
func freeze(w *world) string {
	raw, err := json.Marshal([]any{w.grants, w.roles, w.members, w.now})
	if err != nil {
		panic(err)
	}
	return string(raw)
}
