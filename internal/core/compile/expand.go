package compile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/rules"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// role is something that a binding on a member can refer to. Roles are interned:
// equal roles are one pointer within a Compiler.
type role struct {
	// id tells roles apart: kind and name, or kind and digest of inline rules.
	id string
	// ref is what bindings on the member refer to.
	ref rbacv1.RoleRef
	// binding is the name of the bindings to it.
	binding string
	// rules that are delivered with the role; nil for a role that exists on the
	// member, whose rules only the member knows.
	rules []rbacv1.PolicyRule
	// onBehalf is the size, as JSON, of the rules once more as an impersonator
	// needs them.
	onBehalf int
	hash     uint64
}

func (r *role) opaque() bool { return r.rules == nil }

func (r *role) hubVerbs() rules.Verbs {
	if r.opaque() {
		return rules.AllVerbs
	}
	return rules.HubVerbs(r.rules)
}

// maxRoleSize keeps a role, and the binding of a group together with what an
// impersonator needs on its behalf, below what fits into one work.
const maxRoleSize = 192 << 10

// marshal rules. Strings and slices of them always marshal.
func marshal(in []rbacv1.PolicyRule) []byte {
	raw, err := json.Marshal(in)
	if err != nil {
		panic(fmt.Sprintf("cannot marshal rules: %v", err))
	}
	return raw
}

// give is a role in a scope.
type give struct {
	role *role
	// namespace on the member; empty for cluster-wide.
	namespace string
}

func compareGives(a, b give) int {
	return cmp.Or(strings.Compare(a.role.id, b.role.id), strings.Compare(a.namespace, b.namespace))
}

// expanded is a grant by itself: what it would give if there were no other. It
// does not change, so that outputs can be compared by its address.
type expanded struct {
	key       string
	namespace string
	source    string
	result    Result
	subjects  []subject.Subject
	gives     []give
	verbs     rules.Verbs
	// clusters as indexes into the fleet, in order.
	clusters []int
	// selected are the clusters that it would give something on, were it active and
	// no guardrail against it, and entries the role of each entry, nil for one that
	// gives nothing.
	selected []int
	entries  []*role
	// next is when the phase changes; zero for never.
	next time.Time
}

// catalog resolves roles, each once.
type catalog struct {
	specs map[string]*v1alpha1.AccessRoleSpec
	roles map[string]*role
}

func newCatalog(specs map[string]*v1alpha1.AccessRoleSpec) *catalog {
	return &catalog{specs: maps.Clone(specs), roles: map[string]*role{}}
}

// resolve the role of an entry, or say why it cannot be used.
func (c *catalog) resolve(e *v1alpha1.AccessEntry) (*role, *Rejection) {
	if e.RoleRef == nil {
		return c.delivered("rules", "", e.Rules)
	}
	switch ref := e.RoleRef; ref.Kind {
	case v1alpha1.AccessRoleRef:
		spec, ok := c.specs[ref.Name]
		if !ok {
			return nil, &Rejection{Reason: v1alpha1.FailureUnknownRole, Message: fmt.Sprintf("there is no AccessRole %q", ref.Name)}
		}
		return c.delivered("accessrole", ref.Name, spec.Rules)
	case v1alpha1.ClusterRoleRef, v1alpha1.RoleRef:
		// Such as the impersonator's, which would let people be others.
		if strings.HasPrefix(ref.Name, namePrefix) {
			return nil, &Rejection{Reason: v1alpha1.FailureForbidden, Message: fmt.Sprintf("%s %q is made by Sallyport, and is not given to anybody by its name", ref.Kind, ref.Name)}
		}
		return c.existing(string(ref.Kind), ref.Name), nil
	default:
		return nil, &Rejection{Reason: v1alpha1.FailureInvalidRole, Message: fmt.Sprintf("%q is no kind of role", ref.Kind)}
	}
}

func (c *catalog) existing(kind, name string) *role {
	id := kind + "/" + name
	if r, ok := c.roles[id]; ok {
		return r
	}
	r := &role{
		id:      id,
		ref:     rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name},
		binding: objectName(strings.ToLower(kind), name),
	}
	r.hash = stableHash(id)
	c.roles[id] = r
	return r
}

// accessRoleID begins the id of an AccessRole.
const accessRoleID = "AccessRole/"

// delivered is a role whose rules travel with the grant: an AccessRole by its
// name, or inline rules by their content.
func (c *catalog) delivered(prefix, name string, in []v1alpha1.PolicyRule) (*role, *Rejection) {
	id := accessRoleID + name
	if name != "" {
		if r, ok := c.roles[id]; ok {
			return r, nil
		}
	}
	what := "the rules"
	if name != "" {
		what = fmt.Sprintf("AccessRole %q", name)
	}
	if len(in) == 0 {
		return nil, &Rejection{Reason: v1alpha1.FailureInvalidRole, Message: what + ": there are no rules"}
	}
	if p := rules.Problem(in); p != "" {
		return nil, &Rejection{Reason: v1alpha1.FailureInvalidRole, Message: what + ": " + p}
	}
	canonical := rules.Of(in)
	raw, onBehalf := marshal(canonical), marshal(rules.OnBehalf(canonical))
	if size := max(len(raw), len(onBehalf)); size > maxRoleSize {
		return nil, &Rejection{Reason: v1alpha1.FailureInvalidRole, Message: fmt.Sprintf("%s: %d bytes of rules are more than the %d that can be delivered", what, size, maxRoleSize)}
	}
	if name == "" {
		name = longDigest(string(raw))
		id = "Rules/" + name
		if r, ok := c.roles[id]; ok {
			return r, nil
		}
	}
	full := objectName(prefix, name)
	r := &role{
		id:       id,
		ref:      rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: full},
		binding:  full,
		rules:    canonical,
		onBehalf: len(onBehalf),
		hash:     stableHash(id),
	}
	c.roles[id] = r
	return r, nil
}

// expand says what a grant would give if it were alone and nobody judged it.
func expand(g *Grant, c *catalog, s *Snapshot) *expanded {
	e := &expanded{key: g.Key(), namespace: g.Namespace, source: g.Source}
	e.result.Grant = e.key
	reject := func(r Rejection) { e.result.Rejections = append(e.result.Rejections, r) }

	e.result.Phase, e.next = phase(g.Spec.Validity, s.Now)
	e.subjects = expandSubjects(g.Spec.Subjects, reject)
	e.gives, e.verbs, e.entries = expandAccess(g.Spec.Access, c, reject)
	e.selected = selectClusters(g, s, reject)
	nothing := g.Held && len(g.HeldOn) == 0
	if e.result.Phase == Active && len(e.subjects) > 0 && len(e.gives) > 0 && !nothing {
		e.clusters = e.selected
		rejectUnderivable(e, s.Fleet, reject)
	}
	slices.SortFunc(e.result.Rejections, compareRejections)
	e.result.Rejections = slices.Compact(e.result.Rejections)
	return e
}

// phase at an instant, and the instant at which it ends by itself.
func phase(v *v1alpha1.Validity, now time.Time) (Phase, time.Time) {
	if v == nil {
		return Active, time.Time{}
	}
	if v.NotAfter != nil && !now.Before(v.NotAfter.Time) {
		return Expired, time.Time{}
	}
	if v.NotBefore != nil && now.Before(v.NotBefore.Time) {
		return NotYetActive, v.NotBefore.Time
	}
	if v.NotAfter != nil {
		return Active, v.NotAfter.Time
	}
	return Active, time.Time{}
}

func expandSubjects(in []v1alpha1.Subject, reject func(Rejection)) []subject.Subject {
	out := make([]subject.Subject, 0, len(in))
	for _, s := range in {
		sub := subject.Of(s)
		if why := sub.Refusal(); why != "" {
			reject(Rejection{Reason: v1alpha1.FailureForbidden, Message: fmt.Sprintf("subject %s %q %s", s.Kind, s.Name, why)})
			continue
		}
		out = append(out, sub)
	}
	slices.SortFunc(out, subject.Compare)
	return slices.Compact(out)
}

func expandAccess(in []v1alpha1.AccessEntry, c *catalog, reject func(Rejection)) ([]give, rules.Verbs, []*role) {
	var out []give
	entries := make([]*role, len(in))
	for i := range in {
		entry := &in[i]
		r, rejection := c.resolve(entry)
		if rejection == nil {
			rejection = scopeProblem(entry, r)
		}
		if rejection != nil {
			rejection.Message = fmt.Sprintf("access[%d]: %s", i, rejection.Message)
			reject(*rejection)
			continue
		}
		entries[i] = r
		// Absent namespaces mean cluster-wide. An empty list, which the API server
		// refuses, means none.
		if entry.Namespaces == nil {
			out = append(out, give{role: r})
		}
		for _, ns := range entry.Namespaces {
			out = append(out, give{role: r, namespace: string(ns)})
		}
	}
	slices.SortFunc(out, compareGives)
	out = slices.CompactFunc(out, func(a, b give) bool { return compareGives(a, b) == 0 })
	return out, verbsOf(out), entries
}

// verbsOf are the verbs that the hub has to allow.
func verbsOf(gives []give) rules.Verbs {
	var verbs rules.Verbs
	for i, g := range gives {
		if i == 0 || gives[i-1].role != g.role {
			verbs |= g.role.hubVerbs()
		}
	}
	return verbs
}

func scopeProblem(e *v1alpha1.AccessEntry, r *role) *Rejection {
	switch {
	case e.Namespaces != nil && rules.NonResource(r.rules):
		return &Rejection{Reason: v1alpha1.FailureInvalidRole, Message: "nonResourceURLs are cluster-wide and cannot be given in namespaces"}
	case e.Namespaces == nil && r.ref.Kind == "Role":
		return &Rejection{Reason: v1alpha1.FailureInvalidRole, Message: "a Role exists in namespaces and none are named"}
	case slices.Contains(e.Namespaces, "") || slices.Contains(e.Namespaces, "*"):
		return &Rejection{Reason: v1alpha1.FailureInvalidRole, Message: "a namespace has no proper name"}
	}
	return nil
}

// selectClusters unites what the grant names, matches and places. What it
// returns is sorted.
func selectClusters(g *Grant, s *Snapshot, reject func(Rejection)) []int {
	var out []int
	byName := func(name, missing string) {
		i, ok := s.Fleet.Index(name)
		if !ok {
			reject(Rejection{Cluster: name, Reason: v1alpha1.FailureUnknownCluster, Message: missing})
			return
		}
		switch m := s.Fleet.Members()[i]; {
		case !m.Accepted:
			reject(Rejection{Cluster: name, Reason: v1alpha1.FailureNotAccepted, Message: "the hub has not accepted the cluster"})
		case m.Delivery == fleet.None:
			reject(Rejection{Cluster: name, Reason: v1alpha1.FailureNoDelivery, Message: "no inventory says how to deliver to the cluster"})
		default:
			out = append(out, i)
		}
	}
	if len(g.HeldOn) > 0 {
		for _, name := range g.HeldOn {
			byName(name, "the cluster is not in the fleet any more")
		}
	} else {
		for _, name := range g.Spec.Clusters.Names {
			byName(string(name), "the cluster is not in the fleet")
		}
		out = matchSelector(out, g, s, reject)
		if ref := g.Spec.Clusters.PlacementRef; ref != nil {
			decided := s.decided(g)
			if decided == nil {
				reject(Rejection{Reason: v1alpha1.FailureUnknownPlacement, Message: fmt.Sprintf("there is no Placement %q in namespace %q that has decided", ref.Name, g.Namespace)})
			}
			for _, name := range decided {
				byName(name, fmt.Sprintf("Placement %q decided on a cluster that is not in the fleet", ref.Name))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func matchSelector(out []int, g *Grant, s *Snapshot, reject func(Rejection)) []int {
	sel := g.Spec.Clusters.Selector
	// An empty selector, which the API server refuses, matches nothing here
	// rather than everything.
	if sel == nil || len(sel.MatchLabels)+len(sel.MatchExpressions) == 0 {
		return out
	}
	parsed, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil {
		reject(Rejection{Reason: v1alpha1.FailureInvalidSelector, Message: "clusters.selector: " + err.Error()})
		return out
	}
	for _, i := range s.Fleet.Matching(nil, parsed) {
		if s.Fleet.Members()[i].Delivery != fleet.None {
			out = append(out, i)
		}
	}
	return out
}

// rejectUnderivable reports groups that are given a role whose rules only the
// member knows, on members where people are impersonated: what the impersonator
// would need on behalf of people whom no grant names cannot be derived, and is not
// guessed.
func rejectUnderivable(e *expanded, f *fleet.Fleet, reject func(Rejection)) {
	group := slices.IndexFunc(e.subjects, func(s subject.Subject) bool { return s.Kind == subject.Group })
	if group < 0 || !slices.ContainsFunc(e.clusters, func(i int) bool { return f.Members()[i].Paths.Impersonates() }) {
		return
	}
	for _, g := range e.gives {
		if g.role.opaque() {
			reject(Rejection{Reason: v1alpha1.FailureUnknownRules, Message: fmt.Sprintf(
				"%s %q exists on the members only, so through a proxy it serves those members of a group whom some grant names as a User; use an AccessRole to serve all",
				g.role.ref.Kind, g.role.ref.Name)})
		}
	}
}

// Digest is 20 hexadecimal digits of SHA-256: short enough for a label, and long
// enough that no two texts have the same by chance.
func Digest(s string) string { return longDigest(s)[:20] }

// longDigest is 40 hexadecimal digits of SHA-256: long enough that nobody can make
// two texts with the same. Where one text may not stand for another, 20 are too
// few: whoever writes both needs only some 2^40 attempts.
func longDigest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:20])
}
