package rbac

import (
	"math/rand/v2"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// worlds is how many random worlds the properties look at.
const worlds = 60

func objectsOn(o compile.Output, name string) []*compile.Object {
	var out []*compile.Object
	for _, m := range o.Members {
		if m.Name == name {
			for _, w := range m.Works {
				out = append(out, w.Objects...)
			}
		}
	}
	return out
}

// TestMembersAllowExactlyTheGrants asks every member, for everybody, about every
// request of the grid (S17, S18).
func TestMembersAllowExactlyTheGrants(t *testing.T) {
	grid := requests()
	answers := map[bool]int{}
	for n := range uint64(worlds) {
		w := newWorld(rand.New(rand.NewPCG(n, 1)))
		o := w.compiled()
		for _, m := range members {
			var held cluster
			held.apply(t, objectsOn(o, m.Name))
			a := memberHolds(&held).authorizer()
			gives := w.gives(m)
			for _, i := range identities {
				for _, seen := range onMember(i, m) {
					who := seen.info()
					for _, r := range grid {
						want := allowed(gives, seen, r)
						got := allows(t, a, who, r)
						if got != want {
							t.Fatalf("world %d, member %s, %s %q: %s: allowed %t, the grants say %t", n, m.Name, seen.name, seen.groups, asked(r), got, want)
						}
						answers[got]++
					}
				}
			}
		}
	}
	t.Logf("%d requests are allowed and %d are not, as the grants say", answers[true], answers[false])
	if answers[true] < answers[false]/100 {
		t.Error("hardly anything is allowed: the worlds show nothing")
	}
}

// onMember is how a member may meet somebody: a service account of the hub by its
// plain name, and with the prefix of cluster-proxy. A name by which no path of the
// member presents it stands for somebody else, who is in the same groups.
func onMember(i identity, m fleet.Member) []identity {
	if i.serviceAccount.Name == "" {
		return []identity{i}
	}
	plain, prefixed := i, i
	prefixed.name = "cluster:hub:" + i.name
	if m.Paths&(subject.Gateway|subject.Karmada) == 0 {
		plain.serviceAccount.Name = ""
	}
	if !m.Paths.Has(subject.ClusterProxy) {
		prefixed.serviceAccount.Name = ""
	}
	return []identity{plain, prefixed}
}

// The verbs that a request to clusters/NAME/proxy can have, by the verbs of the
// requests to the member that it can carry.
var carries = map[string]struct{ resource, path []string }{
	"get":    {resource: []string{"get", "list", "watch"}, path: []string{"get", "head"}},
	"create": {resource: []string{"create"}, path: []string{"post"}},
	"update": {resource: []string{"update"}, path: []string{"put"}},
	"patch":  {resource: []string{"patch"}, path: []string{"patch"}},
	"delete": {resource: []string{"delete", "deletecollection"}, path: []string{"delete"}},
}

// wayIn is whether the grants let somebody send a request with the verb to the
// proxy of a member.
func wayIn(gives []give, i identity, verb string) bool {
	carried, ok := carries[verb]
	return ok && slices.ContainsFunc(gives, func(g give) bool {
		if !g.to(i) {
			return false
		}
		if g.ofMember { // the hub does not know, and lets the member decide
			return true
		}
		return slices.ContainsFunc(g.rules, func(r rbacv1.PolicyRule) bool {
			of := carried.resource
			if len(r.NonResourceURLs) > 0 {
				of = carried.path
			}
			return slices.ContainsFunc(r.Verbs, func(v string) bool { return v == "*" || slices.Contains(of, v) })
		})
	})
}

// besideProxy is the proxy of a member and, on one of them, what is next to it.
func besideProxy(m fleet.Member) [][2]string {
	if m.Name != "karmada" {
		return [][2]string{{"clusters", "proxy"}}
	}
	return [][2]string{{"clusters", "proxy"}, {"clusters", ""}, {"clusters", "status"}, {"secrets", ""}}
}

// TestHubAllowsExactlyTheGrants asks the hub, for everybody, about every verb on
// the proxy of every member, by either API, and about what is beside it.
func TestHubAllowsExactlyTheGrants(t *testing.T) {
	answers := map[bool]int{}
	for n := range uint64(2 * worlds) {
		w := newWorld(rand.New(rand.NewPCG(n, 2)))
		var held cluster
		held.apply(t, w.compiled().Hub)
		a := held.authorizer()
		for _, i := range identities {
			for _, verb := range []string{"get", "create", "update", "patch", "delete", "list", "watch", "deletecollection", "impersonate", "*"} {
				for _, group := range []string{"proxy.sallyport.dev", "cluster.karmada.io", "proxy.sallyport.dev.example.org", "", "*"} {
					for _, m := range append(slices.Clone(members), fleet.Member{Name: "missing"}, fleet.Member{Name: "*"}, fleet.Member{Name: ""}) {
						for _, res := range besideProxy(m) {
							ours := group == "proxy.sallyport.dev" || group == "cluster.karmada.io" && m.Paths.Has(subject.Karmada)
							want := ours && res == [2]string{"clusters", "proxy"} && wayIn(w.gives(m), i, verb)
							r := resource(verb, group, res[0], res[1], "", m.Name)
							if got := allows(t, a, i.info(), r); got != want {
								t.Fatalf("world %d, %s %q: %s: allowed %t, the grants say %t", n, i.name, i.groups, asked(r), got, want)
							}
							answers[want]++
						}
					}
				}
			}
		}
	}
	t.Logf("%d requests are allowed and %d are not, as the grants say", answers[true], answers[false])
	if answers[true] < answers[false]/500 {
		t.Error("hardly anything is allowed: the worlds show nothing")
	}
}
