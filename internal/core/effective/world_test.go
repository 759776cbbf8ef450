package effective_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// choices turns bytes into decisions, so that a fuzzer can steer what is made. Where
// there are no more bytes, every decision is the first.
type choices struct{ data []byte }

func (c *choices) n(below int) int {
	if len(c.data) == 0 {
		return 0
	}
	b := c.data[0]
	c.data = c.data[1:]
	return int(b) % below
}

// one in so many is true.
func (c *choices) one(in int) bool { return c.n(in) == in-1 }

func pick[T any](c *choices, from []T) T { return from[c.n(len(from))] }

// some of at most eight.
func some[T any](c *choices, from []T) []T {
	bits := c.n(1 << len(from))
	var out []T
	for i, v := range from {
		if bits&(1<<i) != 0 {
			out = append(out, v)
		}
	}
	return out
}

// choicesOf a number: the same in every run.
func choicesOf(number uint64) *choices {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], number)
	data := make([]byte, 2048)
	_, _ = rand.NewChaCha8(seed).Read(data) // never fails
	return &choices{data}
}

// world is a snapshot in the making. Its vocabulary is small, so that things meet.
type world struct {
	members []fleet.Member
	grants  []compile.Grant
	roles   map[string]*v1alpha1.AccessRoleSpec
	policy  *guardrail.Set
	now     time.Time
}

func (w *world) snapshot() compile.Snapshot {
	return compile.Snapshot{Grants: w.grants, Roles: w.roles, Fleet: fleet.New(w.members), Now: w.now, Guardrails: w.policy, Point: guardrail.Compile}
}

func (w *world) index() *effective.Index {
	var b effective.Builder
	return b.Build(w.snapshot())
}

var (
	worldClusters = []string{"a", "b", "c", "d", "unaccepted"}
	worldSubjects = []v1alpha1.Subject{
		{Kind: "User", Name: "alice"}, {Kind: "User", Name: "devs"}, {Kind: "Group", Name: "devs"}, {Kind: "Group", Name: "ops"},
		{Kind: "ServiceAccount", Namespace: "x", Name: "bot"}, {Kind: "ServiceAccount", Namespace: "y", Name: "bot"},
		{Kind: "Group", Name: "system:serviceaccounts:x"}, {Kind: "Group", Name: "system:masters"},
	}
	worldUsers = []guardrail.User{
		{Name: "alice"}, {Name: "alice", Groups: []string{"devs", "ops", "devs"}}, {Name: "bob", Groups: []string{"ops"}}, {Name: "devs"},
		{Name: "carol", Groups: []string{"alice", "system:masters"}},
		{Name: "system:serviceaccount:x:bot", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:x"}},
		{Name: "system:serviceaccount:y:bot", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:y"}},
		{Name: "system:serviceaccount:x:bot:"}, {Name: "system:serviceaccount:"}, {Name: ""}, {Name: "alice", Groups: []string{"devs", ""}},
	}
	worldNamespaces = []v1alpha1.NamespaceName{"x", "y", "z"}
	worldVerbs      = []string{"get", "list", "create", "post", "*"}
	worldGroups     = []string{"", "apps", "*", "authorization.k8s.io"}
	worldResources  = []string{"pods", "pods/exec", "*", "*/exec", "pods/*", "secrets", "selfsubjectaccessreviews"}
	worldNames      = []string{"web", "db"}
	worldPaths      = []string{"/metrics", "/metrics/*", "*", "/api", "/api/*", "/*"}
	worldInstants   = []time.Time{noon.Add(-time.Hour), noon, noon.Add(time.Hour)}
)

func newWorld(c *choices) *world {
	w := &world{roles: map[string]*v1alpha1.AccessRoleSpec{}, now: noon, policy: guardrail.NewSet(nil, nil, guardrail.Options{})}
	for _, name := range worldClusters {
		w.members = append(w.members, fleet.Member{
			Name: name, Accepted: name != "unaccepted", Delivery: fleet.Direct, Paths: subject.Gateway, Labels: map[string]string{"env": pick(c, []string{"prod", "dev"})},
		})
	}
	for _, name := range []string{"p", "q"} {
		w.roles[name] = &v1alpha1.AccessRoleSpec{Rules: someRules(c, true)}
	}
	n := c.n(8)
	if c.one(4) {
		n += 30 // so many that they are looked up by cluster
	}
	for i := range n {
		w.grants = append(w.grants, someGrant(c, i))
	}
	w.judge(c)
	return w
}

func someRules(c *choices, paths bool) []v1alpha1.PolicyRule {
	var out []v1alpha1.PolicyRule
	for range 1 + c.n(3) {
		r := v1alpha1.PolicyRule{Verbs: append(some(c, worldVerbs), pick(c, worldVerbs))}
		if paths && c.one(3) {
			r.NonResourceURLs = append(some(c, worldPaths), pick(c, worldPaths))
		} else {
			r.APIGroups = append(some(c, worldGroups), pick(c, worldGroups))
			r.Resources = append(some(c, worldResources), pick(c, worldResources))
			r.ResourceNames = some(c, worldNames)
		}
		out = append(out, r)
	}
	return out
}

func someGrant(c *choices, i int) compile.Grant {
	spec := &v1alpha1.AccessGrantSpec{Reason: "test", Subjects: append(some(c, worldSubjects), pick(c, worldSubjects))}
	for _, name := range append(some(c, worldClusters), pick(c, worldClusters)) {
		spec.Clusters.Names = append(spec.Clusters.Names, v1alpha1.ClusterName(name))
	}
	if c.one(4) {
		spec.Clusters.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"env": pick(c, []string{"prod", "dev"})}}
	}
	for range 1 + c.n(3) {
		e := v1alpha1.AccessEntry{}
		if c.one(2) {
			e.Namespaces = append(some(c, worldNamespaces), pick(c, worldNamespaces))
		}
		switch c.n(5) {
		case 0:
			e.RoleRef = &v1alpha1.RoleReference{Kind: pick(c, []v1alpha1.RoleKind{"ClusterRole", "Role"}), Name: "m"}
		case 1:
			e.RoleRef = &v1alpha1.RoleReference{Kind: "AccessRole", Name: pick(c, []string{"p", "q", "missing"})}
		default:
			e.Rules = someRules(c, e.Namespaces == nil)
		}
		spec.Access = append(spec.Access, e)
	}
	if c.one(3) {
		spec.Validity = &v1alpha1.Validity{NotAfter: &metav1.Time{Time: pick(c, worldInstants)}}
	}
	return compile.Grant{Namespace: pick(c, []string{"t", "t-1"}), Name: fmt.Sprint("g", i), Spec: spec, Source: pick(c, []string{"", "GitSync s/s main"})}
}

// edit the world in one way. What a snapshot was made of before stays as it was.
func (w *world) edit(c *choices) string {
	at := 0
	if len(w.grants) > 0 {
		at = c.n(len(w.grants))
	}
	switch kind := c.n(9); {
	case kind == 0:
		w.grants = append(slices.Clone(w.grants), someGrant(c, 100+c.n(50)))
		return "add"
	case kind == 1 && len(w.grants) > 0:
		w.grants = slices.Delete(slices.Clone(w.grants), at, at+1)
		return "remove"
	case kind < 4 && len(w.grants) > 0:
		w.grants = slices.Clone(w.grants)
		w.grants[at].Spec = someGrant(c, 0).Spec
		return "change"
	case kind == 4:
		w.now = pick(c, worldInstants)
		return "time"
	case kind == 5:
		w.roles = map[string]*v1alpha1.AccessRoleSpec{"p": w.roles["p"], "q": {Rules: someRules(c, true)}}
		return "role"
	case kind == 6:
		w.members = slices.Clone(w.members)
		w.members[c.n(len(w.members))].Labels = map[string]string{"env": "prod"}
		return "labels"
	case kind == 7:
		w.members = slices.Clone(w.members)
		i := c.n(len(w.members))
		w.members[i].Accepted = !w.members[i].Accepted
		return "accepted"
	}
	w.judge(c)
	return "guardrails"
}

// shuffled is the same in another order.
func (w *world) shuffled(seed uint64) *world {
	rnd := rand.New(rand.NewPCG(seed, 1))
	out := *w
	out.grants, out.members = slices.Clone(w.grants), slices.Clone(w.members)
	rnd.Shuffle(len(out.grants), func(i, j int) { out.grants[i], out.grants[j] = out.grants[j], out.grants[i] })
	rnd.Shuffle(len(out.members), func(i, j int) { out.members[i], out.members[j] = out.members[j], out.members[i] })
	return &out
}

// check is a guardrail in Go.
type check struct {
	of    func(*guardrail.Input) ([]guardrail.Violation, error)
	timed bool
}

func (c check) Check(in *guardrail.Input) ([]guardrail.Violation, error) { return c.of(in) }
func (c check) Timed() bool                                              { return c.timed }

// refuses requests where it says so.
func refuses(name, message string, where func(in *guardrail.Input) bool) *guardrail.Guardrail {
	return &guardrail.Guardrail{Name: name, Digest: name, Points: 1 << guardrail.Request, Check: check{of: func(in *guardrail.Input) ([]guardrail.Violation, error) {
		if where(in) {
			return []guardrail.Violation{{Message: message}}, nil
		}
		return nil, nil
	}}}
}

var worldGuardrails = []*guardrail.Guardrail{
	refuses("no-exec", "no exec", func(in *guardrail.Input) bool { return in.Request.Subresource == "exec" }),
	refuses("no-prod", "not in prod", func(in *guardrail.Input) bool {
		return in.Request.Cluster.Labels["env"] == "prod" && in.Request.Verb == "create"
	}),
	refuses("two-grants", "one grant is not enough", func(in *guardrail.Input) bool { return in.Request.Resource == "secrets" && len(in.Grants) < 2 }),
	{Name: "no-idea", Digest: "no-idea", Points: 1 << guardrail.Request, Check: check{of: func(in *guardrail.Input) ([]guardrail.Violation, error) {
		if in.Request.Path == "/metrics" {
			return nil, fmt.Errorf("no idea")
		}
		return nil, nil
	}}},
}

// judge by some guardrails, with some exceptions.
func (w *world) judge(c *choices) {
	var excused []guardrail.Exception
	if c.one(3) {
		from := pick(c, worldInstants)
		excused = append(excused, guardrail.Exception{
			Namespace: "t", Name: "e", Grant: "g0", Guardrail: "no-exec", NotBefore: from, NotAfter: from.Add(time.Hour),
		})
	}
	w.policy = guardrail.NewSet(some(c, worldGuardrails), excused, guardrail.Options{})
}

// someRequest by somebody.
func someRequest(c *choices) *effective.Request {
	q := &effective.Request{
		User: pick(c, worldUsers), Cluster: pick(c, append(slices.Clone(worldClusters), "missing")), Verb: pick(c, worldVerbs[:4]), At: pick(c, worldInstants),
	}
	if c.one(4) {
		q.Path = pick(c, []string{"/metrics", "/metrics/x", "/metricsx", "/api", "/api/v1", "/", ""})
		q.Namespace = pick(c, []string{"", "x"}) // which means nothing there
		return q
	}
	q.ResourceRequest = true
	q.APIGroup, q.Resource = pick(c, []string{"", "apps", "apps.example.org", "authorization.k8s.io"}), pick(c, []string{"pods", "secrets", "selfsubjectaccessreviews"})
	q.Subresource, q.Namespace, q.Name = pick(c, []string{"", "exec", "*"}), pick(c, []string{"", "x", "y"}), pick(c, []string{"", "web"})
	return q
}

// fuzz makes a target of a property: a few hundred worlds in every run of the tests.
func fuzz(f *testing.F, worlds uint64, property func(t *testing.T, c *choices)) {
	f.Helper()
	f.Add([]byte{})
	for n := range worlds {
		f.Add(choicesOf(n).data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) <= 4096 {
			property(t, &choices{data})
		}
	})
}
