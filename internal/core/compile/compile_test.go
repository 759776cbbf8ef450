package compile

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

var readPods = v1alpha1.AccessEntry{Rules: []v1alpha1.PolicyRule{rule("get", "", "pods")}}

func validity(notBefore, notAfter time.Duration) *v1alpha1.Validity {
	v := &v1alpha1.Validity{}
	if notBefore != 0 {
		v.NotBefore = &metav1.Time{Time: noon.Add(notBefore)}
	}
	if notAfter != 0 {
		v.NotAfter = &metav1.Time{Time: noon.Add(notAfter)}
	}
	return v
}

// changed is the grant with a change to its spec.
func changed(g Grant, change func(*v1alpha1.AccessGrantSpec)) Grant {
	change(g.Spec)
	return g
}

// TestResult: what becomes of one grant, and what is given by it where.
func TestResult(t *testing.T) {
	members := fleet.New([]fleet.Member{
		member("a", subject.Gateway, "env=prod"), member("b", subject.Gateway, "env=prod"), member("k", subject.Karmada),
		{Name: "asked", Delivery: fleet.ManifestWork, Paths: subject.Gateway, Labels: map[string]string{"env": "prod"}},
		{Name: "seen", Accepted: true, Paths: subject.Gateway, Labels: map[string]string{"env": "prod"}},
	})
	known := roles("pod-operator", podOperator, "metrics", []v1alpha1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}}}, "empty", []v1alpha1.PolicyRule(nil))
	placements := map[types.NamespacedName][]string{
		{Namespace: "t", Name: "p"}: {"b", "gone"}, {Namespace: "t", Name: "none"}: {}, {Namespace: "u", Name: "other"}: {"a"},
	}
	alice := to(user("alice"))
	using := func(kind v1alpha1.RoleKind, name string, namespaces ...v1alpha1.NamespaceName) v1alpha1.AccessEntry {
		return v1alpha1.AccessEntry{RoleRef: roleRef(kind, name), Namespaces: namespaces}
	}
	selector := func(s *metav1.LabelSelector) func(*v1alpha1.AccessGrantSpec) {
		return func(g *v1alpha1.AccessGrantSpec) { g.Clusters = v1alpha1.ClusterSelection{Selector: s} }
	}
	placement := func(name string) func(*v1alpha1.AccessGrantSpec) {
		return func(g *v1alpha1.AccessGrantSpec) {
			g.Clusters = v1alpha1.ClusterSelection{PlacementRef: &v1alpha1.PlacementReference{Name: name}}
		}
	}
	valid := func(v *v1alpha1.Validity) func(*v1alpha1.AccessGrantSpec) {
		return func(g *v1alpha1.AccessGrantSpec) { g.Validity = v }
	}
	hold := func(g Grant, clusters ...string) Grant {
		g.Held, g.HeldOn = true, clusters
		return g
	}
	plain := func() Grant { return grant("t/g", alice, on("a"), readPods) }

	cases := map[string]struct {
		reason     string
		grant      Grant
		phase      Phase
		clusters   []string
		rejections []Rejection
		// bindings on members, CLUSTER NAMESPACE ROLE.
		bindings []string
		next     time.Time
	}{
		"Plain": {
			reason: "Nothing is wrong and nothing ends.",
			grant:  plain(), phase: Active, clusters: []string{"a"}, bindings: []string{"a  rules"},
		},

		"Expired":        {reason: "A grant past notAfter compiles to nothing.", grant: changed(plain(), valid(validity(0, -time.Second))), phase: Expired},
		"ExpiredExactly": {reason: "At notAfter it has ended.", grant: changed(plain(), valid(&v1alpha1.Validity{NotAfter: &metav1.Time{Time: noon}})), phase: Expired},
		"Expiring": {
			reason: "A nanosecond before notAfter it holds, and says when to look again.",
			grant:  changed(plain(), valid(validity(0, 1))), phase: Active, clusters: []string{"a"}, bindings: []string{"a  rules"}, next: noon.Add(1),
		},
		"NotYet":       {reason: "Before notBefore it gives nothing, and says when to look again.", grant: changed(plain(), valid(validity(time.Hour, 2*time.Hour))), phase: NotYetActive, next: noon.Add(time.Hour)},
		"BegunExactly": {reason: "At notBefore it holds; what comes next is its end.", grant: changed(plain(), valid(&v1alpha1.Validity{NotBefore: &metav1.Time{Time: noon}, NotAfter: &metav1.Time{Time: noon.Add(time.Hour)}})), phase: Active, clusters: []string{"a"}, bindings: []string{"a  rules"}, next: noon.Add(time.Hour)},
		"BegunForever": {reason: "After notBefore nothing changes any more.", grant: changed(plain(), valid(validity(-time.Hour, 0))), phase: Active, clusters: []string{"a"}, bindings: []string{"a  rules"}},
		"EndsBeforeItBegins": {
			reason: "The API server refuses it; it never holds.",
			grant:  changed(plain(), valid(validity(time.Hour, -time.Hour))), phase: Expired,
		},

		"UnknownRole": {
			reason: "A role that is missing gives nothing; the rest of the grant holds.",
			grant:  grant("t/g", alice, on("a"), using("AccessRole", "missing"), readPods), phase: Active, clusters: []string{"a"}, bindings: []string{"a  rules"},
			rejections: []Rejection{{Reason: v1alpha1.FailureUnknownRole, Message: `access[0]: there is no AccessRole "missing"`}},
		},
		"SallyportsRole": {
			reason: "A role that Sallyport makes, such as the impersonator's, is not given by its name.",
			grant:  grant("t/g", alice, on("a"), using("ClusterRole", "sallyport:impersonator:sallyport-access"), readPods), phase: Active, clusters: []string{"a"}, bindings: []string{"a  rules"},
			rejections: []Rejection{{Reason: v1alpha1.FailureForbidden, Message: `access[0]: ClusterRole "sallyport:impersonator:sallyport-access" is made by Sallyport, and is not given to anybody by its name`}},
		},
		"OnlyUnknownRole": {
			reason: "If nothing is left, nothing is on any cluster.",
			grant:  grant("t/g", alice, on("a"), using("AccessRole", "missing")), phase: Active,
			rejections: []Rejection{{Reason: v1alpha1.FailureUnknownRole, Message: `access[0]: there is no AccessRole "missing"`}},
		},
		"EmptyRole": {
			reason: "A role without rules gives nothing.",
			grant:  grant("t/g", alice, on("a"), using("AccessRole", "empty")), phase: Active,
			rejections: []Rejection{{Reason: v1alpha1.FailureInvalidRole, Message: `access[0]: AccessRole "empty": there are no rules`}},
		},
		"KindOfRole": {
			reason: "Another kind of role gives nothing.",
			grant:  grant("t/g", alice, on("a"), using("Guardrail", "x")), phase: Active,
			rejections: []Rejection{{Reason: v1alpha1.FailureInvalidRole, Message: `access[0]: "Guardrail" is no kind of role`}},
		},
		"PathsInNamespace": {
			reason: "nonResourceURLs of an AccessRole in namespaces: the API server cannot see it, the member would refuse nothing and give nothing.",
			grant:  grant("t/g", alice, on("a"), using("AccessRole", "metrics", "web"), using("AccessRole", "pod-operator", "web")), phase: Active,
			clusters: []string{"a"}, bindings: []string{"a web accessrole:pod-operator"},
			rejections: []Rejection{{Reason: v1alpha1.FailureInvalidRole, Message: "access[0]: nonResourceURLs are cluster-wide and cannot be given in namespaces"}},
		},
		"PathsClusterWide": {
			reason: "Cluster-wide the same role is fine.",
			grant:  grant("t/g", alice, on("a"), using("AccessRole", "metrics")), phase: Active, clusters: []string{"a"}, bindings: []string{"a  accessrole:metrics"},
		},
		"RoleWithoutNamespace": {
			reason: "A Role is in a namespace.",
			grant:  grant("t/g", alice, on("a"), using("Role", "x")), phase: Active,
			rejections: []Rejection{{Reason: v1alpha1.FailureInvalidRole, Message: "access[0]: a Role exists in namespaces and none are named"}},
		},
		"EmptyNamespaces": {
			reason: "An empty list of namespaces is none, not all of them.",
			grant:  grant("t/g", alice, on("a"), v1alpha1.AccessEntry{Rules: readPods.Rules, Namespaces: []v1alpha1.NamespaceName{}}), phase: Active,
		},
		"StarNamespace": {
			reason: "A star is no namespace.",
			grant:  grant("t/g", alice, on("a"), using("AccessRole", "pod-operator", "web", "*")), phase: Active,
			rejections: []Rejection{{Reason: v1alpha1.FailureInvalidRole, Message: "access[0]: a namespace has no proper name"}},
		},
		"NamelessNamespace": {
			reason: "The empty namespace would be cluster-wide.",
			grant:  grant("t/g", alice, on("a"), using("AccessRole", "pod-operator", "")), phase: Active,
			rejections: []Rejection{{Reason: v1alpha1.FailureInvalidRole, Message: "access[0]: a namespace has no proper name"}},
		},

		"S7_Masters": {
			reason: "S7: the API server refuses it, and the compiler does not rely on that; other subjects keep theirs.",
			grant:  grant("t/g", to(group("system:masters"), user("alice")), on("a"), readPods), phase: Active, clusters: []string{"a"}, bindings: []string{"a  rules"},
			rejections: []Rejection{{Reason: v1alpha1.FailureForbidden, Message: `subject Group "system:masters" system:masters is never granted`}},
		},
		"S7_OnlyNodes": {
			reason: "S7: nobody is left.",
			grant:  grant("t/g", to(group("system:nodes")), on("a"), readPods), phase: Active,
			rejections: []Rejection{{Reason: v1alpha1.FailureForbidden, Message: `subject Group "system:nodes" system:nodes is never granted`}},
		},

		"UnknownCluster": {
			reason: "A cluster that is not in the fleet is said, and the rest holds.",
			grant:  grant("t/g", alice, on("a", "gone"), readPods), phase: Active, clusters: []string{"a"}, bindings: []string{"a  rules"},
			rejections: []Rejection{{Cluster: "gone", Reason: v1alpha1.FailureUnknownCluster, Message: "the cluster is not in the fleet"}},
		},
		"StarCluster": {
			reason: "A star is no cluster, and never gets into resourceNames.",
			grant:  grant("t/g", alice, on("*"), readPods), phase: Active,
			rejections: []Rejection{{Cluster: "*", Reason: v1alpha1.FailureUnknownCluster, Message: "the cluster is not in the fleet"}},
		},
		"NotAccepted": {
			reason: "A cluster that the hub has not let in is given nothing.",
			grant:  grant("t/g", alice, on("asked"), readPods), phase: Active,
			rejections: []Rejection{{Cluster: "asked", Reason: v1alpha1.FailureNotAccepted, Message: "the hub has not accepted the cluster"}},
		},
		"NoDelivery": {
			reason: "A cluster to which nothing can be delivered is given nothing, on the hub neither.",
			grant:  grant("t/g", alice, on("seen"), readPods), phase: Active,
			rejections: []Rejection{{Cluster: "seen", Reason: v1alpha1.FailureNoDelivery, Message: "no inventory says how to deliver to the cluster"}},
		},
		"Selector": {
			reason: "Members that match, are accepted and can be delivered to.",
			grant:  changed(plain(), selector(&metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}})), phase: Active,
			clusters: []string{"a", "b"}, bindings: []string{"a  rules", "b  rules"},
		},
		"EmptySelector": {reason: "An empty selector matches nothing here, rather than everything.", grant: changed(plain(), selector(&metav1.LabelSelector{})), phase: Active},
		"NoSelection":   {reason: "No selection at all matches nothing.", grant: changed(plain(), selector(nil)), phase: Active},
		"InvalidSelector": {
			reason: "A selector that cannot be read matches nothing and is said.",
			grant:  changed(plain(), selector(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "env", Operator: "Like"}}})), phase: Active,
			rejections: []Rejection{{Reason: v1alpha1.FailureInvalidSelector, Message: `clusters.selector: "Like" is not a valid label selector operator`}},
		},
		"Placement": {
			reason: "Decisions are followed; one on a cluster that is gone is said.",
			grant:  changed(plain(), placement("p")), phase: Active, clusters: []string{"b"}, bindings: []string{"b  rules"},
			rejections: []Rejection{{Cluster: "gone", Reason: v1alpha1.FailureUnknownCluster, Message: `Placement "p" decided on a cluster that is not in the fleet`}},
		},
		"PlacementOnNothing": {reason: "A Placement may decide on no cluster.", grant: changed(plain(), placement("none")), phase: Active},
		"S24_PlacementElsewhere": {
			reason:     "S24: a Placement of another namespace is not there.",
			grant:      changed(plain(), placement("other")),
			phase:      Active,
			rejections: []Rejection{{Reason: v1alpha1.FailureUnknownPlacement, Message: `there is no Placement "other" in namespace "t" that has decided`}},
		},
		"Union": {
			reason: "Names, selector and placement unite, each cluster once.",
			grant: changed(plain(), func(g *v1alpha1.AccessGrantSpec) {
				g.Clusters = v1alpha1.ClusterSelection{
					Names: []v1alpha1.ClusterName{"k", "a"}, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}}, PlacementRef: &v1alpha1.PlacementReference{Name: "p"},
				}
			}),
			phase: Active, clusters: []string{"a", "b", "k"}, bindings: []string{"a  rules", "b  rules", "k  rules"},
			rejections: []Rejection{{Cluster: "gone", Reason: v1alpha1.FailureUnknownCluster, Message: `Placement "p" decided on a cluster that is not in the fleet`}},
		},

		"Held": {
			reason: "A suspended grant stands where it stood, whatever it selects today.",
			grant:  hold(plain(), "b"), phase: Active, clusters: []string{"b"}, bindings: []string{"b  rules"},
		},
		"HeldNowhere": {reason: "A grant that was suspended before it stood anywhere gives nothing.", grant: hold(plain()), phase: Active},
		"HeldOnGone": {
			reason: "Nothing stands on a cluster that is gone.",
			grant:  hold(plain(), "b", "gone"), phase: Active, clusters: []string{"b"}, bindings: []string{"b  rules"},
			rejections: []Rejection{{Cluster: "gone", Reason: v1alpha1.FailureUnknownCluster, Message: "the cluster is not in the fleet any more"}},
		},
		"HeldExpired": {reason: "A validity that ends while the grant is suspended still ends the access.", grant: hold(changed(plain(), valid(validity(0, -1))), "b"), phase: Expired},

		"GroupOfMembersRole": {
			reason: "What a role of the member allows cannot be derived for people whom no grant names: said, and bound all the same.",
			grant:  grant("t/g", to(group("devs")), on("a", "k"), using("ClusterRole", "view")), phase: Active,
			clusters: []string{"a", "k"}, bindings: []string{"a  clusterrole:view", "k  clusterrole:view"},
			rejections: []Rejection{{Reason: v1alpha1.FailureUnknownRules, Message: `ClusterRole "view" exists on the members only, so through a proxy it serves those members of a group whom some grant names as a User; use an AccessRole to serve all`}},
		},
		"UserOfMembersRole": {
			reason: "A user who is named can be impersonated whatever the role allows.",
			grant:  grant("t/g", alice, on("k"), using("ClusterRole", "view")), phase: Active, clusters: []string{"k"}, bindings: []string{"k  clusterrole:view"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := Snapshot{Guardrails: unguarded, Grants: []Grant{tc.grant}, Roles: known, Fleet: members, Placements: placements, Now: noon}
			o := Grants(s)
			checkShape(t, s, o)
			got, _ := o.Result("t/g")
			want := Result{Grant: "t/g", Phase: tc.phase, Clusters: tc.clusters, Rejections: tc.rejections}
			want.Judgement.Verdict = guardrail.Allowed
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s\nResult (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.bindings, bindingsOf(o)); diff != "" {
				t.Errorf("%s\nbindings (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.next, o.Next); diff != "" {
				t.Errorf("%s\nNext (-want +got):\n%s", tc.reason, diff)
			}
			if len(tc.bindings) == 0 && len(o.Hub) > 0 {
				t.Errorf("%s\nThe hub opens a way to nothing: %s", tc.reason, o.Hub[0].JSON)
			}
		})
	}
}

// bindingsOf all members but those of impersonators, as CLUSTER NAMESPACE ROLE.
func bindingsOf(o Output) []string {
	var out []string
	for _, m := range o.Members {
		for _, w := range m.Works {
			for _, x := range w.Objects {
				if _, _, ok := bindingOf(x); ok && !ofImpersonator(x.Name) {
					name := strings.TrimPrefix(x.Name, namePrefix)
					if strings.HasPrefix(name, "rules:") {
						name = "rules"
					}
					out = append(out, fmt.Sprintf("%s %s %s", m.Name, x.Namespace, name))
				}
			}
		}
	}
	return out
}

// TestNextIsTheEarliest of all grants, whatever their order.
func TestNextIsTheEarliest(t *testing.T) {
	var grants []Grant
	for i, v := range []*v1alpha1.Validity{validity(0, 3*time.Hour), validity(time.Hour, 2*time.Hour), nil, validity(0, -time.Hour), validity(-time.Hour, 4*time.Hour)} {
		g := grant(fmt.Sprintf("t/g%d", i), to(user("alice")), on("m"), readPods)
		g.Spec.Validity = v
		grants = append(grants, g)
	}
	s := Snapshot{Guardrails: unguarded, Grants: grants, Fleet: oneMember(subject.Gateway), Now: noon}
	// The instants at which something changes, and those of the grants then active.
	want := map[time.Duration]time.Duration{0: time.Hour, time.Hour: 2 * time.Hour, 2 * time.Hour: 3 * time.Hour, 3 * time.Hour: 4 * time.Hour}
	for now, next := range want {
		s.Now = noon.Add(now)
		if got := Grants(s).Next; !got.Equal(noon.Add(next)) {
			t.Errorf("%s after noon the next change is %s after noon, not %s", now, got.Sub(noon), next)
		}
	}
	s.Now = noon.Add(4 * time.Hour)
	if got := Grants(s).Next; !got.IsZero() {
		t.Errorf("nothing changes any more, and the next change is at %s", got)
	}
}

func TestResultOfNobody(t *testing.T) {
	o := Grants(Snapshot{})
	if _, ok := o.Result("t/g"); ok || len(o.Hub)+len(o.Members)+len(o.Results) > 0 || !o.Next.IsZero() {
		t.Errorf("the empty snapshot compiles to %v", o)
	}
	if (Result{}).Phase == Active {
		t.Error("the zero Phase has to give nothing")
	}
}

// TestManyGrantsOneObject: there is a label for each of the first grants, and a
// label that says that there are more.
func TestManyGrantsOneObject(t *testing.T) {
	for _, n := range []int{MaxGrantLabels, MaxGrantLabels + 1} {
		s := Snapshot{Guardrails: unguarded, Fleet: oneMember(subject.Gateway), Now: noon}
		for i := range n {
			s.Grants = append(s.Grants, grant(fmt.Sprintf("tenant/g%04d", i), to(user("alice")), on("m"), readPods))
		}
		o := Grants(s)
		objects := slices.Concat(o.Hub, o.Members[0].Works[0].Objects)
		for _, x := range objects {
			labels, more := labelsOf(x), labelsOf(x)[v1alpha1.MoreGrantsLabel]
			if want := n > MaxGrantLabels; (more == "true") != want || len(x.Grants) != n {
				t.Errorf("%d grants: %s %s: more is %q, of %d grants", n, x.Kind, x.Name, more, len(x.Grants))
			}
			for _, g := range x.Grants[:MaxGrantLabels] {
				if labels[GrantLabel(g)] != "tenant" {
					t.Errorf("%d grants: %s %s does not name %s", n, x.Kind, x.Name, g)
				}
			}
			if a := x.Object.(metav1.Object).GetAnnotations()[v1alpha1.GrantsAnnotation]; len(a) > 2*maxAnnotation || !strings.HasSuffix(a, ",…") {
				t.Errorf("%d grants: the annotation has %d bytes and ends with %q", n, len(a), a[max(0, len(a)-8):])
			}
		}
	}
}

// TestPartsHoldEverySubjectOnce, and carry the grants that name them only.
func TestPartsHoldEverySubjectOnce(t *testing.T) {
	s := Snapshot{Guardrails: unguarded, Fleet: oneMember(everyPath), Now: noon}
	for i := range 12 {
		s.Grants = append(s.Grants, grant(fmt.Sprintf("t/g%d", i), people("User", 100, fmt.Sprintf("-%d", i)), on("m"), readPods))
	}
	s.Grants = append(s.Grants, grant("t/one", to(user("alone")), on("m"), readPods))
	o := Grants(s)
	checkShape(t, s, o)
	seen, parts := map[string]int{}, 0
	for _, w := range o.Members[0].Works {
		for _, x := range w.Objects {
			_, subjects, ok := bindingOf(x)
			if !ok || ofImpersonator(x.Name) {
				continue
			}
			parts++
			alone := false
			for _, sub := range subjects {
				seen[sub.Name]++
				alone = alone || sub.Name == "alone"
			}
			if len(subjects) > maxSubjects {
				t.Errorf("%s has %d subjects", x.Name, len(subjects))
			}
			if _, names := labelsOf(x)[GrantLabel("t/one")]; names != alone {
				t.Errorf("%s names t/one: %t, and has its subject: %t", x.Name, names, alone)
			}
		}
	}
	if parts < 2 || len(seen) != 1201 {
		t.Errorf("%d parts bind %d subjects, not 1201", parts, len(seen))
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s is bound %d times", name, n)
		}
	}
}

// TestPartsHaveNamesOfTheirOwn: whoever names a role like a part of another
// binding gets another name.
func TestPartsHaveNamesOfTheirOwn(t *testing.T) {
	bind := func(key string, n int, role string) Grant {
		return grant(key, people("User", n, ""), on("m"), v1alpha1.AccessEntry{RoleRef: roleRef("ClusterRole", role)})
	}
	s := Snapshot{Guardrails: unguarded, Fleet: oneMember(subject.Gateway), Now: noon, Grants: []Grant{bind("t/many", 2*maxSubjects, "view")}}
	for i, x := range Grants(s).Members[0].Works[0].Objects {
		part, _ := strings.CutPrefix(x.Name, "sallyport:clusterrole:view")
		for j, role := range []string{"view" + part, "view:" + strings.TrimLeft(part, "~"), "view." + strings.TrimLeft(part, "~")} {
			s.Grants = append(s.Grants, bind(fmt.Sprintf("t/like-%d-%d", i, j), 1, role))
		}
	}
	if len(s.Grants) < 4 {
		t.Fatal("the binding is in one piece, which shows nothing")
	}
	checkShape(t, s, Grants(s))
}

// TestNamesOfObjects: what is no plain name becomes a digest, and nothing that is
// one can look like it.
func TestNamesOfObjects(t *testing.T) {
	cases := map[string]struct{ reason, in, want string }{
		"Plain":   {reason: "Names that can be read are kept.", in: "alice@example.org", want: "sallyport:hub:user:alice@example.org"},
		"Slash":   {reason: "A name in a path cannot have it.", in: "oidc/alice", want: "sallyport:hub:user:~" + longDigest("oidc/alice")},
		"Percent": {reason: "A name in a path cannot have it.", in: "a%2fb", want: "sallyport:hub:user:~" + longDigest("a%2fb")},
		"Space":   {reason: "Hard to type.", in: "Alice Smith", want: "sallyport:hub:user:~" + longDigest("Alice Smith")},
		"Umlaut":  {reason: "Looks alike are not told apart by eye.", in: "älice", want: "sallyport:hub:user:~" + longDigest("älice")},
		"Tilde":   {reason: "Only digests begin with it.", in: "~" + longDigest("x"), want: "sallyport:hub:user:~" + longDigest("~"+longDigest("x"))},
		"Long":    {reason: "Long names are hard to read.", in: strings.Repeat("a", 129), want: "sallyport:hub:user:~" + longDigest(strings.Repeat("a", 129))},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := hubName(subject.Subject{Kind: subject.User, Name: tc.in}); got != tc.want {
				t.Errorf("%s %q becomes %q, not %q", tc.reason, tc.in, got, tc.want)
			}
		})
	}
}

// TestHubRulesCover what is handed on, and have names nowhere: they are what the
// controller holds, not what it gives.
func TestHubRulesCover(t *testing.T) {
	want := []string{"create", "delete", "get", "patch", "update"}
	for _, r := range HubRules() {
		if diff := cmp.Diff(want, r.Verbs); diff != "" {
			t.Errorf("verbs (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{karmadaGroup, gatewayGroup}, r.APIGroups); diff != "" {
			t.Errorf("groups (-want +got):\n%s", diff)
		}
	}
}

// TestExtraKeys: the gateway's impersonator may present what it is to tell of people's
// extra, and Karmada's, which tells nothing, may not. A change of it reaches what stands.
func TestExtraKeys(t *testing.T) {
	extras := func(out Output) []string {
		var found []string
		for _, x := range out.Members[0].Works[0].Objects {
			for _, r := range rulesOf(x) {
				for _, resource := range r.Resources {
					if key, ok := strings.CutPrefix(resource, "userextras/"); ok && !strings.HasPrefix(key, "authentication.kubernetes.io/") {
						found = append(found, strings.Join(r.Verbs, ",")+" "+key)
					}
				}
			}
		}
		return found
	}
	snapshot := func(by subject.Path, keys ...string) Snapshot {
		m := member("m", by)
		m.ExtraKeys = keys
		return Snapshot{Guardrails: unguarded, Fleet: fleet.New([]fleet.Member{m}), Now: noon, Grants: []Grant{grant("t/g", to(user("alice"), group("devs")), on("m"), readPods)}}
	}
	var c Compiler
	for _, step := range []struct {
		reason string
		s      Snapshot
		want   []string
	}{
		{"None is named.", snapshot(subject.Gateway | subject.Impersonated), nil},
		{"One is.", snapshot(subject.Gateway|subject.Impersonated, "scopes"), []string{"impersonate scopes", "impersonate:user-info scopes"}},
		{"It is not any more.", snapshot(subject.Gateway | subject.Impersonated), nil},
		{"Karmada tells nothing.", snapshot(subject.Karmada, "scopes"), nil},
	} {
		out := c.Grants(step.s)
		if diff := cmp.Diff(step.want, extras(out)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.reason, diff)
		}
		if diff := cmp.Diff(extras(Grants(step.s)), extras(out)); diff != "" {
			t.Errorf("%s From nothing (-want +got):\n%s", step.reason, diff)
		}
	}
}

// TestNoImpersonatorNoRights: where nobody says who impersonates, nobody may.
func TestNoImpersonatorNoRights(t *testing.T) {
	m := member("m", subject.Karmada)
	m.Impersonator = types.NamespacedName{}
	s := Snapshot{Guardrails: unguarded, Fleet: fleet.New([]fleet.Member{m}), Now: noon, Grants: []Grant{grant("t/g", to(user("alice"), group("devs")), on("m"), readPods)}}
	for _, x := range Grants(s).Members[0].Works[0].Objects {
		if ofImpersonator(x.Name) {
			t.Errorf("there is %s %s", x.Kind, x.Name)
		}
	}
}
