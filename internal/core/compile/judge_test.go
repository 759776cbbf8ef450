package compile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// checks is a policy in Go.
type checks struct {
	of    func(*guardrail.Input) ([]guardrail.Violation, error)
	timed bool
}

func (c checks) Check(in *guardrail.Input) ([]guardrail.Violation, error) { return c.of(in) }
func (c checks) Timed() bool                                              { return c.timed }

// refuses where a condition holds, or cannot be evaluated there.
func refuses(name, message string, where func(*guardrail.Input) bool) *guardrail.Guardrail {
	return &guardrail.Guardrail{Name: name, Digest: message, Points: guardrail.GrantPoints, Exceptions: guardrail.Terms{Longest: time.Hour}, Check: checks{of: func(in *guardrail.Input) ([]guardrail.Violation, error) {
		if where(in) {
			return []guardrail.Violation{{Message: message}}, nil
		}
		return nil, nil
	}}}
}

func fails(name string, where func(*guardrail.Input) bool) *guardrail.Guardrail {
	return &guardrail.Guardrail{Name: name, Points: guardrail.GrantPoints, Check: checks{of: func(in *guardrail.Input) ([]guardrail.Violation, error) {
		if where(in) {
			return nil, errors.New("cannot tell")
		}
		return nil, nil
	}}}
}

func always(*guardrail.Input) bool { return true }

func policyOf(g ...*guardrail.Guardrail) *guardrail.Set {
	return guardrail.NewSet(g, nil, guardrail.Options{})
}

// worldGuardrails look at everything that there is to look at.
var worldGuardrails = []*guardrail.Guardrail{
	refuses("no-alice", "not alice", func(in *guardrail.Input) bool {
		return slices.ContainsFunc(in.Grant.Spec.Subjects, func(s v1alpha1.Subject) bool { return s.Name == "alice" })
	}),
	refuses("no-pci", "not on pci", func(in *guardrail.Input) bool {
		return slices.ContainsFunc(in.Clusters, func(c *guardrail.Cluster) bool { return c.Claims["pci"] == "yes" })
	}),
	refuses("no-tier-a", "not in tier a", func(in *guardrail.Input) bool { return in.Namespace.Labels["tier"] == "a" }),
	fails("no-idea-of-roles", func(in *guardrail.Input) bool {
		return slices.ContainsFunc(in.Access, func(a *guardrail.Access) bool { return !a.Known })
	}),
	fails("no-idea-of-x", func(in *guardrail.Input) bool { return in.Roles["x"] != nil && len(in.Roles["x"].Rules) > 1 }),
	refuses("dev-only", "dev only", func(in *guardrail.Input) bool {
		return slices.ContainsFunc(in.Clusters, func(c *guardrail.Cluster) bool { return c.Labels["env"] != "dev" })
	}),
}

// judge the world by some guardrails, with some exceptions.
func (w *world) judge(c *choices) {
	var excused []guardrail.Exception
	for _, k := range some(c, worldKeys) {
		from := pick(c, worldInstants)
		excused = append(excused, guardrail.Exception{
			Namespace: k.Namespace, Name: "e", Grant: k.Name, Guardrail: pick(c, worldGuardrails).Name, NotBefore: from, NotAfter: from.Add(time.Hour),
		})
	}
	w.policy = guardrail.NewSet(some(c, worldGuardrails), excused, guardrail.Options{RequireCeiling: c.one(10)})
}

func TestJudged(t *testing.T) {
	alice := to(user("alice"))
	pods, secrets := rule("get", "", "pods"), rule("get", "", "secrets")
	inline := func(rules ...v1alpha1.PolicyRule) v1alpha1.AccessEntry { return v1alpha1.AccessEntry{Rules: rules} }
	until := func(g Grant, at time.Time) Grant {
		g.Spec.Validity = &v1alpha1.Validity{NotAfter: &metav1.Time{Time: at}}
		return g
	}
	role := v1alpha1.AccessEntry{RoleRef: roleRef("AccessRole", "reader")}
	reader := roles("reader", []v1alpha1.PolicyRule{pods})

	tests := map[string]struct {
		reason   string
		policy   *guardrail.Set
		grant    Grant
		stands   *Standing
		roles    map[string]*v1alpha1.AccessRoleSpec
		clusters []string
		subjects []string // on the member a
		roleRefs int      // bindings on the member a
		next     time.Time
	}{
		"Allowed": {
			reason: "What passes is compiled as if there were no guardrail.",
			policy: policyOf(refuses("r", "no", func(*guardrail.Input) bool { return false })),
			grant:  grant("t/g", alice, on("a", "b"), inline(pods)), clusters: []string{"a", "b"}, subjects: []string{"User alice"}, roleRefs: 1,
		},
		"Denied": {
			reason: "A violation revokes: nothing is left, also of what stands.",
			policy: policyOf(refuses("r", "no", always)),
			grant:  grant("t/g", alice, on("a"), inline(pods)), stands: &Standing{Spec: grant("t/g", alice, on("a"), inline(pods)).Spec, On: []string{"a"}},
		},
		"TooLarge": {
			reason: "A grant that is too large to be judged by every policy is refused, also where there is no policy yet.",
			policy: unguarded,
			grant:  grant("t/g", alice, on("a"), inline(v1alpha1.PolicyRule{Verbs: manyVerbs(maxNames - 1), APIGroups: []string{""}, Resources: []string{"pods"}})),
		},
		"NotTooLarge": {
			reason:   "One that is not is.",
			policy:   unguarded,
			grant:    grant("t/g", alice, on("a"), inline(v1alpha1.PolicyRule{Verbs: manyVerbs(maxNames - 2), APIGroups: []string{""}, Resources: []string{"pods"}})),
			clusters: []string{"a"}, subjects: []string{"User alice"}, roleRefs: 1,
		},
		"NoPolicy": {
			reason: "S16: where the guardrails are not known, nothing new is given.",
			grant:  grant("t/g", alice, on("a"), inline(pods)),
		},
		"NoPolicyStanding": {
			reason: "S16: and what stands stays.",
			grant:  grant("t/g", alice, on("a", "b"), inline(pods)), stands: &Standing{Spec: grant("t/g", alice, on("a"), inline(pods)).Spec, On: []string{"a"}},
			clusters: []string{"a"}, subjects: []string{"User alice"}, roleRefs: 1,
		},
		"UndecidedNew": {
			reason: "What has never stood does not begin while it cannot be judged.",
			policy: policyOf(fails("f", always)),
			grant:  grant("t/g", alice, on("a"), inline(pods)),
		},
		"UndecidedWider": {
			reason:   "A subject, a rule and a cluster more wait; what stands stays.",
			policy:   policyOf(fails("f", always)),
			grant:    grant("t/g", to(user("alice"), user("bob")), on("a", "b"), inline(pods), inline(secrets)),
			stands:   &Standing{Spec: grant("t/g", alice, on("a"), inline(pods)).Spec, On: []string{"a"}},
			clusters: []string{"a"}, subjects: []string{"User alice"}, roleRefs: 1,
		},
		"UndecidedNarrower": {
			reason:   "What is taken away is taken away at once, also while nothing can be judged.",
			policy:   policyOf(fails("f", always)),
			grant:    grant("t/g", alice, on("a"), inline(pods)),
			stands:   &Standing{Spec: grant("t/g", to(user("alice"), user("bob")), on("a", "b"), inline(pods), inline(secrets)).Spec, On: []string{"a", "b"}},
			clusters: []string{"a"}, subjects: []string{"User alice"}, roleRefs: 1,
		},
		"UndecidedOther": {
			reason: "Other people with other rules have nothing in common with what stands.",
			policy: policyOf(fails("f", always)),
			grant:  grant("t/g", to(user("bob")), on("a"), inline(secrets)),
			stands: &Standing{Spec: grant("t/g", alice, on("a"), inline(pods)).Spec, On: []string{"a"}},
		},
		"UndecidedLonger": {
			reason:   "The end that stood stays the end.",
			policy:   policyOf(fails("f", always)),
			grant:    until(grant("t/g", alice, on("a"), inline(pods)), noon.Add(2*time.Hour)),
			stands:   &Standing{Spec: until(grant("t/g", alice, on("a"), inline(pods)), noon.Add(time.Hour)).Spec, On: []string{"a"}},
			clusters: []string{"a"}, subjects: []string{"User alice"}, roleRefs: 1, next: noon.Add(retry),
		},
		"UndecidedEndsSoon": {
			reason:   "Sooner than it is judged again, if that is when it ends.",
			policy:   policyOf(fails("f", always)),
			grant:    until(grant("t/g", alice, on("a"), inline(pods)), noon.Add(2*time.Hour)),
			stands:   &Standing{Spec: until(grant("t/g", alice, on("a"), inline(pods)), noon.Add(time.Second)).Spec, On: []string{"a"}},
			clusters: []string{"a"}, subjects: []string{"User alice"}, roleRefs: 1, next: noon.Add(time.Second),
		},
		"UndecidedEnded": {
			reason: "And at that end it ends.",
			policy: policyOf(fails("f", always)),
			grant:  grant("t/g", alice, on("a"), inline(pods)),
			stands: &Standing{Spec: until(grant("t/g", alice, on("a"), inline(pods)), noon).Spec, On: []string{"a"}},
		},
		"UndecidedRole": {
			reason: "A role that is what it was goes on being given.",
			policy: policyOf(fails("f", always)), roles: reader,
			grant:    grant("t/g", alice, on("a"), role),
			stands:   &Standing{Spec: grant("t/g", alice, on("a"), role).Spec, On: []string{"a"}, Roles: map[string]string{"reader": RoleDigest(reader["reader"])}},
			clusters: []string{"a"}, subjects: []string{"User alice"}, roleRefs: 1,
		},
		"UndecidedOtherRole": {
			reason: "A role that has changed is not given: it may have become wider.",
			policy: policyOf(fails("f", always)), roles: roles("reader", []v1alpha1.PolicyRule{secrets}),
			grant:  grant("t/g", alice, on("a"), role),
			stands: &Standing{Spec: grant("t/g", alice, on("a"), role).Spec, On: []string{"a"}, Roles: map[string]string{"reader": RoleDigest(reader["reader"])}},
		},
		"Excused": {
			reason: "An exception lets it through until it ends, and says when that is.",
			policy: guardrail.NewSet([]*guardrail.Guardrail{refuses("r", "no", always)},
				[]guardrail.Exception{{Namespace: "t", Name: "e", Guardrail: "r", Grant: "g", NotBefore: noon, NotAfter: noon.Add(time.Hour)}}, guardrail.Options{}),
			grant: grant("t/g", alice, on("a"), inline(pods)), clusters: []string{"a"}, subjects: []string{"User alice"}, roleRefs: 1, next: noon.Add(time.Hour),
		},
		"Timed": {
			reason: "What looks at the instant is judged again within a minute.",
			policy: policyOf(&guardrail.Guardrail{Name: "t", Points: guardrail.GrantPoints, Check: checks{timed: true, of: func(*guardrail.Input) ([]guardrail.Violation, error) { return nil, nil }}}),
			grant:  grant("t/g", alice, on("a"), inline(pods)), clusters: []string{"a"}, subjects: []string{"User alice"}, roleRefs: 1, next: noon.Add(guardrail.Renewal),
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			out := Grants(Snapshot{
				Grants: []Grant{tc.grant}, Roles: tc.roles, Now: noon, Guardrails: tc.policy, Point: guardrail.Compile,
				Fleet:    fleet.New([]fleet.Member{member("a", subject.Gateway), member("b", subject.Gateway)}),
				Standing: func(string) *Standing { return tc.stands },
			})
			if diff := cmp.Diff(tc.clusters, out.Results[0].Clusters); diff != "" {
				t.Errorf("%s\nclusters (-want +got):\n%s", tc.reason, diff)
			}
			var subjects []string
			bindings := 0
			for at, x := range placed(out) {
				if at.cluster == "a" && x.Kind == "ClusterRoleBinding" {
					bindings++
					names, _ := boundBy(x)
					subjects = append(subjects, names...)
				}
			}
			if diff := cmp.Diff(tc.subjects, subjects); diff != "" {
				t.Errorf("%s\nsubjects (-want +got):\n%s", tc.reason, diff)
			}
			if bindings != tc.roleRefs {
				t.Errorf("%s\n%d bindings, want %d", tc.reason, bindings, tc.roleRefs)
			}
			if tc.next.IsZero() && out.Results[0].Judgement.Verdict == guardrail.Undecided {
				tc.next = noon.Add(retry)
			}
			if !out.Next.Equal(tc.next) {
				t.Errorf("%s\nnext %v, want %v", tc.reason, out.Next, tc.next)
			}
		})
	}
}

func manyVerbs(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("v%d", i)
	}
	return out
}

func TestNarrows(t *testing.T) {
	pods, secrets := rule("get", "", "pods"), rule("get", "", "secrets")
	base := func(change ...func(*v1alpha1.AccessGrantSpec)) *v1alpha1.AccessGrantSpec {
		g := grant("t/g", to(user("alice"), user("bob")), on("a", "b"),
			v1alpha1.AccessEntry{Rules: []v1alpha1.PolicyRule{pods}, Namespaces: in("x", "y")}, v1alpha1.AccessEntry{Rules: []v1alpha1.PolicyRule{secrets}})
		g.Spec.Validity = &v1alpha1.Validity{NotBefore: &metav1.Time{Time: noon}, NotAfter: &metav1.Time{Time: noon.Add(time.Hour)}}
		for _, c := range change {
			c(g.Spec)
		}
		return g.Spec
	}
	tests := map[string]struct {
		change func(*v1alpha1.AccessGrantSpec)
		want   bool
	}{
		"Same":             {func(*v1alpha1.AccessGrantSpec) {}, true},
		"Reason":           {func(s *v1alpha1.AccessGrantSpec) { s.Reason = "other" }, true},
		"FewerSubjects":    {func(s *v1alpha1.AccessGrantSpec) { s.Subjects = s.Subjects[:1] }, true},
		"AnotherSubject":   {func(s *v1alpha1.AccessGrantSpec) { s.Subjects[0].Name = "mallory" }, false},
		"FewerEntries":     {func(s *v1alpha1.AccessGrantSpec) { s.Access = s.Access[:1] }, true},
		"FewerNamespaces":  {func(s *v1alpha1.AccessGrantSpec) { s.Access[0].Namespaces = in("x") }, true},
		"AnotherNamespace": {func(s *v1alpha1.AccessGrantSpec) { s.Access[0].Namespaces = in("x", "z") }, false},
		"ClusterWide":      {func(s *v1alpha1.AccessGrantSpec) { s.Access[0].Namespaces = nil }, false},
		"IntoNamespaces":   {func(s *v1alpha1.AccessGrantSpec) { s.Access[1].Namespaces = in("x") }, false}, // narrower; it takes more than a look
		"OneForAnother": {func(s *v1alpha1.AccessGrantSpec) {
			s.Access = []v1alpha1.AccessEntry{{Rules: []v1alpha1.PolicyRule{pods}, Namespaces: in("x")}, {Rules: []v1alpha1.PolicyRule{secrets}, Namespaces: in("z")}}
		}, false},
		"Repeated": {func(s *v1alpha1.AccessGrantSpec) {
			s.Access = []v1alpha1.AccessEntry{{Rules: []v1alpha1.PolicyRule{pods}, Namespaces: in("x")}, {Rules: []v1alpha1.PolicyRule{pods}, Namespaces: in("y")}}
		}, true},
		"Resumed":          {func(s *v1alpha1.AccessGrantSpec) { s.Suspend = true }, false},
		"OtherRules":       {func(s *v1alpha1.AccessGrantSpec) { s.Access[0].Rules = []v1alpha1.PolicyRule{secrets} }, false},
		"FewerClusters":    {func(s *v1alpha1.AccessGrantSpec) { s.Clusters.Names = s.Clusters.Names[:1] }, true},
		"AnotherCluster":   {func(s *v1alpha1.AccessGrantSpec) { s.Clusters.Names = []v1alpha1.ClusterName{"c"} }, false},
		"Selector":         {func(s *v1alpha1.AccessGrantSpec) { s.Clusters.Selector = &metav1.LabelSelector{} }, false},
		"Placement":        {func(s *v1alpha1.AccessGrantSpec) { s.Clusters.PlacementRef = &v1alpha1.PlacementReference{Name: "p"} }, false},
		"EarlierEnd":       {func(s *v1alpha1.AccessGrantSpec) { s.Validity.NotAfter = &metav1.Time{Time: noon.Add(time.Minute)} }, true},
		"LaterEnd":         {func(s *v1alpha1.AccessGrantSpec) { s.Validity.NotAfter = &metav1.Time{Time: noon.Add(2 * time.Hour)} }, false},
		"NoEnd":            {func(s *v1alpha1.AccessGrantSpec) { s.Validity.NotAfter = nil }, false},
		"EarlierBeginning": {func(s *v1alpha1.AccessGrantSpec) { s.Validity.NotBefore = &metav1.Time{Time: noon.Add(-time.Hour)} }, false},
		"NoValidity":       {func(s *v1alpha1.AccessGrantSpec) { s.Validity = nil }, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Narrows(base(), base(tc.change)); got != tc.want {
				t.Errorf("Narrows is %t, want %t", got, tc.want)
			}
		})
	}
}

// FuzzJudge: judging alone comes to what compiling comes to.
func FuzzJudge(f *testing.F) {
	fuzz(f, 100, func(t *testing.T, c *choices) {
		w := newWorld(c)
		w.judge(c)
		if diff := cmp.Diff(Grants(w.snapshot()).Results, Judge(w.snapshot())); diff != "" {
			t.Fatalf("judging alone differs (-Grants +Judge):\n%s", diff)
		}
	})
}

// FuzzUndecidedNeverWidens: S16. Whatever stands and whatever is asked for, while
// nothing can be judged nobody has on any cluster what they did not have.
func FuzzUndecidedNeverWidens(f *testing.F) {
	fuzz(f, 200, func(t *testing.T, c *choices) {
		w := newWorld(c)
		w.policy = unguarded
		stood := Grants(w.snapshot())
		had := given(stood)
		for i := range w.grants {
			g := &w.grants[i]
			st := &Standing{Spec: g.Spec, Roles: map[string]string{}}
			if r, ok := stood.Result(g.Key()); ok {
				st.On = r.Clusters
			}
			for name, spec := range w.roles {
				st.Roles[name] = RoleDigest(spec)
			}
			w.stands[g.Key()] = st
		}
		for range 4 {
			w.edit(c)
		}
		w.policy = policyOf(fails("f", always))
		for g := range given(Grants(w.snapshot())) {
			wide := g
			wide.namespace = ""
			if !had[g] && !had[wide] {
				t.Fatalf("%+v is new", g)
			}
		}
	})
}

// gift is one right of one subject in one place.
type gift struct{ cluster, subject, namespace, right string }

// given is everything that people have by an output on members, impersonators
// left out.
func given(o Output) map[gift]bool {
	out := map[gift]bool{}
	for _, m := range o.Members {
		delivered := map[string][]string{}
		for _, w := range m.Works {
			for _, x := range w.Objects {
				if role, ok := x.Object.(*rbacv1.ClusterRole); ok {
					for i := range role.Rules {
						delivered[role.Name] = append(delivered[role.Name], string(marshal(role.Rules[i:i+1])))
					}
				}
			}
		}
		for _, w := range m.Works {
			for _, x := range w.Objects {
				if ofImpersonator(x.Name) {
					continue
				}
				subjects, ref := boundBy(x)
				rights, ok := delivered[ref.Name]
				if !ok {
					rights = []string{ref.Kind + "/" + ref.Name}
				}
				for _, s := range subjects {
					for _, right := range rights {
						out[gift{m.Name, s, x.Namespace, right}] = true
					}
				}
			}
		}
	}
	return out
}

// boundBy are the subjects of a binding by the names that the hub has for them,
// and its role.
func boundBy(x *Object) (names []string, ref rbacv1.RoleRef) {
	var subjects []rbacv1.Subject
	switch b := x.Object.(type) {
	case *rbacv1.ClusterRoleBinding:
		subjects, ref = b.Subjects, b.RoleRef
	case *rbacv1.RoleBinding:
		subjects, ref = b.Subjects, b.RoleRef
	}
	for _, s := range subjects {
		name := s.Kind + " " + strings.TrimPrefix(s.Name, "cluster:hub:")
		if s.Kind == rbacv1.ServiceAccountKind {
			name = "User system:serviceaccount:" + s.Namespace + ":" + s.Name
		}
		names = append(names, name)
	}
	return names, ref
}
