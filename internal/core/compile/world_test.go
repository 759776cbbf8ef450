package compile

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// choices turns bytes into decisions, so that a fuzzer can steer what is made.
// Where there are no more bytes, every decision is the first and every question
// is answered with no.
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

// world is a snapshot in the making, with what is given to it in the order in
// which it is given.
type world struct {
	members    []fleet.Member
	grants     []Grant
	roles      map[string]*v1alpha1.AccessRoleSpec
	placements map[types.NamespacedName][]string
	now        time.Time
	policy     *guardrail.Set
	namespaces map[string]map[string]string
	stands     map[string]*Standing
}

func (w *world) snapshot() Snapshot {
	return Snapshot{
		Grants: w.grants, Roles: w.roles, Fleet: fleet.New(w.members), Placements: w.placements, Now: w.now,
		Guardrails: w.policy, Point: guardrail.Compile, Namespaces: w.namespaces,
		Standing: func(grant string) *Standing { return w.stands[grant] },
	}
}

// The vocabulary is small, so that things meet: names repeat across kinds, and
// some are what an API server would refuse.
var (
	noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

	worldClusters = []string{"a", "b", "c", "d", "local-cluster"}
	worldSubjects = []v1alpha1.Subject{
		{Kind: "User", Name: "alice"}, {Kind: "User", Name: "b ö<b>"}, {Kind: "User", Name: "system:masters"},
		{Kind: "Group", Name: "devs"}, {Kind: "Group", Name: "ops"},
		{Kind: "ServiceAccount", Namespace: "x", Name: "bot"}, {Kind: "ServiceAccount", Namespace: "y", Name: "bot"},
		{Kind: "ServiceAccount", Name: "bot"},
	}
	worldRoles      = []string{"x", "y", "x:0"}
	worldNamespaces = []v1alpha1.NamespaceName{"x", "y", "z"}
	worldRules      = []v1alpha1.PolicyRule{
		{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{""}, Resources: []string{"pods"}},
		{Verbs: []string{"list", "get"}, APIGroups: []string{"apps", ""}, Resources: []string{"pods/log", "pods"}},
		{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
		{Verbs: []string{"create"}, APIGroups: []string{""}, Resources: []string{"pods/exec"}, ResourceNames: []string{"web-0"}},
		{Verbs: []string{"bind", "escalate", "impersonate"}, APIGroups: []string{"rbac.authorization.k8s.io"}, Resources: []string{"clusterroles"}},
		{Verbs: []string{"get", "post"}, NonResourceURLs: []string{"/metrics", "/healthz/*"}},
		{Verbs: []string{"get"}},
	}
	worldKeys = []types.NamespacedName{
		{Namespace: "t1", Name: "g1"}, {Namespace: "t1", Name: "g2"}, {Namespace: "t2", Name: "g1"},
		{Namespace: "t2", Name: "g2"}, {Namespace: "t1", Name: "g3"}, {Namespace: "t3", Name: "g1"},
	}
	worldPlacements = []string{"p", "q"}
	worldSources    = []string{"", "GitSync s/s main@sha1:1", "GitSync s/s main@sha1:2"}
	worldInstants   = []time.Time{noon.Add(-time.Hour), noon, noon.Add(time.Hour), noon.Add(2 * time.Hour)}
)

func newWorld(c *choices) *world {
	w := &world{
		roles: map[string]*v1alpha1.AccessRoleSpec{}, placements: map[types.NamespacedName][]string{}, now: noon,
		policy: unguarded, namespaces: map[string]map[string]string{}, stands: map[string]*Standing{},
	}
	for range 1 + c.n(6) {
		w.members = append(w.members, someMember(c))
	}
	for _, name := range some(c, worldRoles) {
		w.roles[name] = someRole(c)
	}
	for _, k := range some(c, worldKeys) {
		w.grants = append(w.grants, someGrant(c, k))
	}
	for _, name := range some(c, worldPlacements) {
		w.placements[types.NamespacedName{Namespace: "t1", Name: name}] = append([]string{}, some(c, worldClusters)...)
	}
	if c.one(2) {
		w.judge(c)
	}
	return w
}

func someMember(c *choices) fleet.Member {
	m := fleet.Member{
		Name: pick(c, worldClusters), Accepted: !c.one(6),
		Delivery: pick(c, []fleet.Delivery{fleet.ManifestWork, fleet.KarmadaWork, fleet.Direct, fleet.None}),
		Paths:    pick(c, []subject.Path{subject.Gateway, subject.Gateway | subject.Karmada, subject.Karmada, subject.ClusterProxy, subject.Gateway | subject.Impersonated, everyPath}),
		Labels:   map[string]string{"env": pick(c, []string{"prod", "dev"})},
	}
	if c.one(3) {
		m.Claims = map[string]string{"pci": pick(c, []string{"yes", "no"})}
	}
	if m.Paths.Impersonates() && !c.one(6) {
		m.Impersonator = pick(c, []types.NamespacedName{karmadaImpersonator, {Namespace: "other", Name: "impersonator"}})
	}
	return m
}

func someRules(c *choices) []v1alpha1.PolicyRule {
	return deepCopies(some(c, worldRules), (*v1alpha1.PolicyRule).DeepCopy)
}

func someRole(c *choices) *v1alpha1.AccessRoleSpec {
	return &v1alpha1.AccessRoleSpec{Rules: someRules(c)}
}

func someGrant(c *choices, k types.NamespacedName) Grant {
	g := Grant{Namespace: k.Namespace, Name: k.Name, Source: pick(c, worldSources), Spec: &v1alpha1.AccessGrantSpec{Reason: "fuzz"}}
	g.Spec.Subjects = slices.Clone(some(c, worldSubjects))
	if c.one(3) {
		g.Spec.Subjects = append(g.Spec.Subjects, pick(c, worldSubjects))
	}
	for _, name := range some(c, append(slices.Clone(worldClusters), "missing")) {
		g.Spec.Clusters.Names = append(g.Spec.Clusters.Names, v1alpha1.ClusterName(name))
	}
	switch c.n(5) {
	case 1:
		g.Spec.Clusters.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"env": pick(c, []string{"prod", "dev", "none"})}}
	case 2:
		g.Spec.Clusters.Selector = pick(c, []*metav1.LabelSelector{{}, {MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "env", Operator: "Like"}}}})
	case 3:
		g.Spec.Clusters.PlacementRef = &v1alpha1.PlacementReference{Name: pick(c, worldPlacements)}
	}
	for range 1 + c.n(3) {
		g.Spec.Access = append(g.Spec.Access, someEntry(c))
	}
	if c.one(3) {
		g.Spec.Validity = &v1alpha1.Validity{}
		if c.one(2) {
			g.Spec.Validity.NotBefore = &metav1.Time{Time: pick(c, worldInstants)}
		}
		if c.one(2) {
			g.Spec.Validity.NotAfter = &metav1.Time{Time: pick(c, worldInstants)}
		}
	}
	if c.one(6) {
		g.Held, g.HeldOn = true, some(c, worldClusters)
	}
	return g
}

func someEntry(c *choices) v1alpha1.AccessEntry {
	var e v1alpha1.AccessEntry
	if c.one(3) {
		e.Rules = someRules(c)
	} else {
		e.RoleRef = &v1alpha1.RoleReference{
			Kind: pick(c, []v1alpha1.RoleKind{v1alpha1.AccessRoleRef, v1alpha1.ClusterRoleRef, v1alpha1.RoleRef}),
			Name: pick(c, worldRoles),
		}
	}
	if !c.one(3) {
		e.Namespaces = append([]v1alpha1.NamespaceName{}, some(c, worldNamespaces)...)
	}
	return e
}

// edit the world in one way. Whatever a snapshot was made of before stays as it
// was, or is a map or slice that a careless caller uses again.
func (w *world) edit(c *choices) string {
	switch c.n(12) {
	case 9:
		if c.one(6) {
			w.policy = nil
			return "no guardrails are known"
		}
		w.judge(c)
		return "other guardrails"
	case 10:
		k := pick(c, worldKeys)
		g := someGrant(c, k)
		w.stands[g.Key()] = &Standing{Spec: g.Spec, On: some(c, worldClusters), Roles: map[string]string{}}
		for name, spec := range w.roles {
			w.stands[g.Key()].Roles[name] = RoleDigest(spec)
		}
		return "other standing of " + g.Key()
	case 11:
		w.namespaces[pick(c, worldKeys).Namespace] = map[string]string{"tier": pick(c, []string{"a", "b"})}
		return "labels of a namespace"
	case 0:
		k := pick(c, worldKeys)
		g := someGrant(c, k)
		for i := range w.grants {
			if w.grants[i].Key() == g.Key() {
				w.grants[i] = g
				return "change " + g.Key()
			}
		}
		at := c.n(len(w.grants) + 1)
		w.grants = slices.Insert(slices.Clone(w.grants), at, g)
		return "add " + g.Key()
	case 1:
		if len(w.grants) == 0 {
			return "nothing"
		}
		at := c.n(len(w.grants))
		key := w.grants[at].Key()
		w.grants = slices.Delete(slices.Clone(w.grants), at, at+1)
		return "remove " + key
	case 2:
		if len(w.grants) == 0 {
			return "nothing"
		}
		at := c.n(len(w.grants))
		changed := w.grants[at].Spec.DeepCopy()
		changed.Subjects = slices.Clone(some(c, worldSubjects))
		w.grants[at].Spec = changed
		return "other subjects for " + w.grants[at].Key()
	case 3:
		w.now = pick(c, worldInstants).Add(time.Duration(c.n(3)-1) * time.Nanosecond)
		return "time"
	case 4:
		w.roles[pick(c, worldRoles)] = someRole(c)
		return "role in the same map"
	case 5:
		w.roles = maps.Clone(w.roles)
		delete(w.roles, pick(c, worldRoles))
		return "role removed"
	case 6:
		w.placements[types.NamespacedName{Namespace: "t1", Name: pick(c, worldPlacements)}] = some(c, worldClusters)
		return "placement in the same map"
	case 7:
		for _, k := range slices.SortedFunc(maps.Keys(w.placements), func(a, b types.NamespacedName) int { return strings.Compare(a.Name, b.Name) }) {
			if len(w.placements[k]) > 0 {
				w.placements[k][0] = pick(c, worldClusters)
				return "placement in place"
			}
		}
		for i := range w.grants {
			if len(w.grants[i].HeldOn) > 0 {
				w.grants[i].HeldOn[0] = pick(c, worldClusters)
				return "held in place"
			}
		}
		return "nothing"
	default:
		w.members = slices.Clone(w.members)
		w.members[c.n(len(w.members))] = someMember(c)
		return "member"
	}
}

// shuffled is the same world, told in another order. The entries of a grant keep
// theirs, since messages count them.
func (w *world) shuffled(rnd *rand.Rand) *world {
	out := &world{
		members: shuffle(rnd, w.members), grants: shuffle(rnd, w.grants), now: w.now,
		policy: w.policy, namespaces: w.namespaces, stands: w.stands,
		roles: map[string]*v1alpha1.AccessRoleSpec{}, placements: map[types.NamespacedName][]string{},
	}
	for i := range out.grants {
		g := &out.grants[i]
		g.HeldOn = shuffle(rnd, g.HeldOn)
		spec := g.Spec.DeepCopy()
		spec.Subjects = shuffle(rnd, spec.Subjects)
		spec.Clusters.Names = shuffle(rnd, spec.Clusters.Names)
		for j := range spec.Access {
			e := &spec.Access[j]
			e.Namespaces = shuffle(rnd, e.Namespaces)
			e.Rules = shuffledRules(rnd, e.Rules)
		}
		g.Spec = spec
	}
	for name, spec := range w.roles {
		out.roles[name] = &v1alpha1.AccessRoleSpec{Rules: shuffledRules(rnd, spec.Rules)}
	}
	for k, clusters := range w.placements {
		out.placements[k] = shuffle(rnd, clusters)
	}
	return out
}

func shuffledRules(rnd *rand.Rand, in []v1alpha1.PolicyRule) []v1alpha1.PolicyRule {
	out := shuffle(rnd, in)
	for i := range out {
		r := &out[i]
		r.Verbs, r.APIGroups, r.Resources = shuffle(rnd, r.Verbs), shuffle(rnd, r.APIGroups), shuffle(rnd, r.Resources)
		r.ResourceNames, r.NonResourceURLs = shuffle(rnd, r.ResourceNames), shuffle(rnd, r.NonResourceURLs)
	}
	return out
}

// shuffle a copy. Nil stays nil, which means something to a grant.
func shuffle[T any](rnd *rand.Rand, in []T) []T {
	out := slices.Clone(in)
	rnd.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func deepCopies[T any](in []T, deepCopy func(*T) *T) []T {
	var out []T
	for i := range in {
		out = append(out, *deepCopy(&in[i]))
	}
	return out
}

// frozen is a deep copy of everything that a snapshot reaches.
type frozen struct {
	Grants     []Grant
	Roles      map[string]*v1alpha1.AccessRoleSpec
	Members    []fleet.Member
	Placements map[types.NamespacedName][]string
	Now        time.Time
}

func freeze(s Snapshot) frozen {
	f := frozen{Now: s.Now, Roles: map[string]*v1alpha1.AccessRoleSpec{}, Placements: map[types.NamespacedName][]string{}}
	for _, g := range s.Grants {
		g.Spec, g.HeldOn = g.Spec.DeepCopy(), slices.Clone(g.HeldOn)
		f.Grants = append(f.Grants, g)
	}
	for name, spec := range s.Roles {
		f.Roles[name] = spec.DeepCopy()
	}
	for _, m := range s.Fleet.Members() {
		m.Labels, m.Claims, m.Taints = maps.Clone(m.Labels), maps.Clone(m.Claims), slices.Clone(m.Taints)
		f.Members = append(f.Members, m)
	}
	for k, v := range s.Placements {
		f.Placements[k] = slices.Clone(v)
	}
	return f
}

// bytesOf an output: everything that there is to be seen of it.
func bytesOf(o Output) string {
	var b strings.Builder
	object := func(x *Object) {
		fmt.Fprintf(&b, "  %s %s/%s %s %q %q\n", x.Kind, x.Namespace, x.Name, x.JSON, x.Grants, x.Sources)
	}
	b.WriteString("hub\n")
	for _, x := range o.Hub {
		object(x)
	}
	for _, m := range o.Members {
		for _, w := range m.Works {
			fmt.Fprintf(&b, "member %s work %s %q %q\n", m.Name, w.Name, w.Grants, w.Sources)
			for _, x := range w.Objects {
				object(x)
			}
		}
	}
	for _, r := range o.Results {
		fmt.Fprintf(&b, "%+v\n", r)
	}
	fmt.Fprintf(&b, "next %s\n", o.Next)
	return b.String()
}

// differences are the first few lines that only one of two outputs has; empty if
// they are equal.
func differences(want, got string) string {
	if want == got {
		return ""
	}
	wanted, gotten := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out []string
	only := func(sign string, in, notIn []string) {
		for _, line := range in {
			if !slices.Contains(notIn, line) && len(out) < 6 {
				out = append(out, sign+line)
			}
		}
	}
	only("-", wanted, gotten)
	only("+", gotten, wanted)
	if len(out) == 0 {
		return "the same lines in another order"
	}
	return strings.Join(out, "\n")
}
