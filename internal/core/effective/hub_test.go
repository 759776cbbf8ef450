package effective_test

import (
	"fmt"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// FuzzThroughHub: the hub is to let through exactly what the RBAC allows that the compiler
// makes for it.
func FuzzThroughHub(f *testing.F) {
	users := slices.DeleteFunc(slices.Clone(worldUsers), func(u guardrail.User) bool { return u.Name == "" || slices.Contains(u.Groups, "") })
	fuzz(f, 100, func(t *testing.T, c *choices) {
		w := newWorld(c)
		for i := range w.members {
			if c.one(2) {
				w.members[i].Paths |= subject.Karmada
			}
		}
		ix := w.index()
		var compiler compile.Compiler
		allows := hubRBAC(compiler.Grants(w.snapshot()).Hub)
		for _, u := range users {
			for _, group := range []string{"proxy.sallyport.dev", "cluster.karmada.io", "", "proxy.sallyport.dev.evil"} {
				for _, cluster := range append(slices.Clone(worldClusters), "missing", "*", "") {
					for _, verb := range []string{"get", "create", "update", "patch", "delete", "list", "watch", "deletecollection", "*", ""} {
						q := &effective.Request{User: u, Verb: verb, ResourceRequest: true, APIGroup: group, Resource: "clusters", Subresource: "proxy", Name: cluster, At: w.now}
						d := ix.ThroughHub(q)
						if got, want := d.Verdict == effective.Allowed, allows(q); got != want || got != (len(d.Because) > 0) {
							t.Fatalf("%s %q in %q by %+v: %s because of %d grants, RBAC allows it: %t", verb, cluster, group, u, d.Verdict, len(d.Because), want)
						}
					}
				}
			}
		}
	})
}

// hubRBAC is what the objects allow on clusters/proxy.
func hubRBAC(objects []*compile.Object) func(q *effective.Request) bool {
	roles := map[string][]rbacv1.PolicyRule{}
	var bindings []*rbacv1.ClusterRoleBinding
	for _, o := range objects {
		switch o := o.Object.(type) {
		case *rbacv1.ClusterRole:
			roles[o.Name] = o.Rules
		case *rbacv1.ClusterRoleBinding:
			bindings = append(bindings, o)
		}
	}
	binds := func(s rbacv1.Subject, u *guardrail.User) bool {
		switch s.Kind {
		case rbacv1.GroupKind:
			return slices.Contains(u.Groups, s.Name)
		case rbacv1.ServiceAccountKind:
			return u.Name == fmt.Sprintf("system:serviceaccount:%s:%s", s.Namespace, s.Name)
		}
		return u.Name == s.Name
	}
	return func(q *effective.Request) bool {
		for _, b := range bindings {
			if !slices.ContainsFunc(b.Subjects, func(s rbacv1.Subject) bool { return binds(s, &q.User) }) {
				continue
			}
			for _, r := range roles[b.RoleRef.Name] {
				if slices.Contains(r.Verbs, q.Verb) && slices.Contains(r.APIGroups, q.APIGroup) && slices.Contains(r.Resources, q.Resource+"/"+q.Subresource) &&
					slices.Contains(r.ResourceNames, q.Name) {
					return true
				}
			}
		}
		return false
	}
}

func TestThroughHubIsOneWay(t *testing.T) {
	c := choicesOf(1)
	w := newWorld(c)
	ix := w.index()
	var nothing *effective.Index
	for name, change := range map[string]func(q *effective.Request){
		"Path":        func(q *effective.Request) { q.ResourceRequest = false },
		"Clusters":    func(q *effective.Request) { q.Subresource = "" },
		"Status":      func(q *effective.Request) { q.Subresource = "status" },
		"Other":       func(q *effective.Request) { q.Resource = "clusterproxies" },
		"S6Nobody":    func(q *effective.Request) { q.User.Name = "" },
		"S6NoGroup":   func(q *effective.Request) { q.User.Groups = append(slices.Clone(q.User.Groups), "") },
		"S18OneWord":  func(q *effective.Request) { q.Resource, q.Subresource = "clusters/proxy", "" },
		"NotAccepted": func(q *effective.Request) { q.Name = "unaccepted" },
	} {
		for _, u := range worldUsers {
			for _, cluster := range worldClusters {
				q := &effective.Request{User: u, Verb: "get", ResourceRequest: true, APIGroup: "proxy.sallyport.dev", Resource: "clusters", Subresource: "proxy", Name: cluster, At: w.now}
				change(q)
				if d := ix.ThroughHub(q); d.Verdict != effective.NotGranted {
					t.Errorf("%s: %s to %s by %s", name, d.Verdict, cluster, u.Name)
				}
				if d := nothing.ThroughHub(q); d.Verdict != effective.Denied {
					t.Errorf("%s: %s where nothing is known", name, d.Verdict)
				}
			}
		}
	}
}

// FuzzDecideConnect: of a request that connects, no more is allowed than of what it does,
// and of all others what Decide says.
func FuzzDecideConnect(f *testing.F) {
	fuzz(f, 200, func(t *testing.T, c *choices) {
		ix := newWorld(c).index()
		for range 20 {
			q := someRequest(c)
			got, plain := ix.DecideConnect(q), ix.Decide(q)
			if !q.ResourceRequest || q.Verb != "get" || !slices.Contains([]string{"exec", "attach", "portforward"}, q.Subresource) {
				if got.Verdict != plain.Verdict || !got.Until.Equal(plain.Until) {
					t.Fatalf("%+v: %s until %s, want %s until %s", q, got.Verdict, got.Until, plain.Verdict, plain.Until)
				}
				continue
			}
			creates := *q
			creates.Verb = "create"
			does := ix.Decide(&creates)
			if want := min(plain.Verdict, does.Verdict); got.Verdict != want {
				t.Fatalf("%+v: %s, want %s", q, got.Verdict, want)
			}
			for _, d := range []effective.Decision{plain, does} {
				if plain.Verdict != effective.Denied && !d.Until.IsZero() && (got.Until.IsZero() || got.Until.After(d.Until)) {
					t.Fatalf("%+v: it holds until %s, and a part of it until %s", q, got.Until, d.Until)
				}
			}
		}
	})
}
