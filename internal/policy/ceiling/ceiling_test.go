package ceiling

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/rules"
)

var t0 = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

const rbacGroup = "rbac.authorization.k8s.io"

// rule of verbs, group and resources, each divided by commas.
func rule(verbs, group, resources string, names ...string) v1alpha1.PolicyRule {
	return v1alpha1.PolicyRule{Verbs: strings.Split(verbs, ","), APIGroups: []string{group}, Resources: strings.Split(resources, ","), ResourceNames: names}
}

func paths(verbs string, urls ...string) v1alpha1.PolicyRule {
	return v1alpha1.PolicyRule{Verbs: strings.Split(verbs, ","), NonResourceURLs: urls}
}

func all(r ...v1alpha1.PolicyRule) []v1alpha1.PolicyRule { return r }

// inputOf a grant of rules, in a namespace.
func inputOf(given ...v1alpha1.PolicyRule) *guardrail.Input {
	return &guardrail.Input{
		Version: guardrail.InputVersion, Now: t0,
		Grant: &guardrail.Grant{
			Metadata: guardrail.Metadata{Namespace: "payments", Name: "oncall"},
			Spec:     &v1alpha1.AccessGrantSpec{Subjects: []v1alpha1.Subject{{Kind: v1alpha1.UserSubject, Name: "alice"}}},
		},
		Namespace: &guardrail.Namespace{Name: "payments"},
		Access:    []*guardrail.Access{{Field: "spec.access[0]", Known: true, Namespaces: []string{"payments"}, Rules: rules.Of(given)}},
		Clusters:  []*guardrail.Cluster{{Name: "prod-eu-1", Labels: map[string]string{"env": "prod"}}},
	}
}

func compiled(t testing.TB, c *v1alpha1.Ceiling) guardrail.Check {
	t.Helper()
	check, errs := Compile(field.NewPath("spec", "ceiling"), c)
	if len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	return check
}

// objectionsTo are the violations as FIELD: MESSAGE.
func objectionsTo(t testing.TB, c *v1alpha1.Ceiling, in *guardrail.Input) (out []string) {
	t.Helper()
	violations, err := compiled(t, c).Check(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range violations {
		out = append(out, v.Field+": "+v.Message)
	}
	return out
}

// TestRules: S19, S17, S18. What a ceiling does not name is refused.
func TestRules(t *testing.T) {
	const more = `spec.access[0]: gives more than the ceiling of namespace "payments": `
	var readers []v1alpha1.PolicyRule
	for i := range 7 {
		readers = append(readers, rule("get,list", "apps", fmt.Sprintf("kind%d", i)))
	}
	starNaming := all(
		rule("*", "*", "*"),
		rule("bind,escalate", rbacGroup, "roles,clusterroles"),
		rule("impersonate", "", "users,groups,serviceaccounts"),
		rule("impersonate", "authentication.k8s.io", "*"),
	)
	tests := map[string]struct {
		reason         string
		ceiling, given []v1alpha1.PolicyRule
		want           []string
	}{
		"Nothing":      {"An empty ceiling lets nothing pass.", nil, all(rule("get", "", "pods")), []string{more + "get pods (core group)"}},
		"Same":         {"A grant may reach its ceiling.", all(rule("get,list", "", "pods")), all(rule("list,get", "", "pods")), nil},
		"Less":         {"And stay below it.", all(rule("get,list", "", "pods,services")), all(rule("get", "", "pods")), nil},
		"SeveralRules": {"Rules of the ceiling add up.", all(rule("get", "", "pods"), rule("list", "", "pods")), all(rule("get,list", "", "pods")), nil},
		"MoreVerbs": {"Only what is above the ceiling is told.", all(rule("get", "", "pods,secrets")),
			all(rule("get,list,watch", "", "pods,secrets")), []string{more + "list, watch pods, secrets (core group)"}},
		"Secret":     {"The example of the manual.", all(rule("*", "", "pods")), all(rule("get", "", "secrets")), []string{more + "get secrets (core group)"}},
		"OtherGroup": {"A group that looks alike is another.", all(rule("get", "apps", "deployments")), all(rule("get", "apps.example.com", "deployments")), []string{more + "get deployments (apps.example.com)"}},
		"Subresource": {"pods does not give pods/exec.", all(rule("*", "", "pods")),
			all(rule("create", "", "pods/exec")), []string{more + "create pods/exec (core group)"}},
		"EverySubresource": {"*/scale gives each scale.", all(rule("get", "apps", "*/scale")), all(rule("get", "apps", "deployments/scale")), nil},
		"Names":            {"Some objects are less than all.", all(rule("get", "", "secrets")), all(rule("get", "", "secrets", "a")), nil},
		"OtherNames":       {"One object is not another.", all(rule("get", "", "secrets", "a")), all(rule("get", "", "secrets", "a", "b")), []string{more + `get secrets "b" (core group)`}},
		"NoNames":          {"All objects are more than some.", all(rule("get", "", "secrets", "a")), all(rule("get", "", "secrets")), []string{more + "get secrets (core group)"}},
		"Paths":            {"A path below a star.", all(paths("get", "/metrics/*")), all(paths("get", "/metrics/cadvisor")), nil},
		"OtherPath":        {"A path that is not.", all(paths("get", "/metrics/*"), rule("*", "*", "*")), all(paths("get,post", "/metrics/cadvisor", "/logs")), []string{more + "get, post /logs; post /metrics/cadvisor"}},
		"OtherVerbs": {"What is alike is told together, in a stable order.", nil, all(rule("get", "apps", "b,a"), rule("list", "apps", "c"), rule("get", "", "a"), rule("get", "", "b", "y", "x")),
			[]string{more + `get a (core group); get a, b (apps); get b "x", "y" (core group); list c (apps)`}},
		"Bounded": {"A message names some and counts the rest.", nil, readers,
			[]string{more + "get, list kind0, kind1, kind2, kind3, kind4 and 2 more (apps)"}},
		"Escaped": {"What is no plain word is quoted.", nil, all(rule("<b>", "", "a\nb", "c\"")), []string{more + `"<b>" "a\nb" "c\"" (core group)`}},

		"StarVerb":      {"A star is more than all verbs that exist.", all(rule("create,delete,deletecollection,get,list,patch,update,watch", "", "pods")), all(rule("*", "", "pods")), []string{more + "* pods (core group)"}},
		"StarGroup":     {"A star is more than all groups that exist.", all(rule("get", "", "pods"), rule("get", "apps", "pods")), all(rule("get", "*", "pods")), []string{more + "get pods (every group)"}},
		"StarResource":  {"A star is more than all resources that exist.", all(rule("get", "", "pods,secrets,*/log")), all(rule("get", "", "*")), []string{more + "get * (core group)"}},
		"StarsNamed":    {"A ceiling that has the stars covers them.", all(rule("get", "*", "*")), all(rule("get", "*", "*")), nil},
		"StarOnPods":    {"The verb * means nothing special on pods.", all(rule("*", "", "pods")), all(rule("*", "", "pods")), nil},
		"StarOnPath":    {"Nor on a path.", all(paths("*", "*")), all(paths("*", "/logs")), nil},
		"StarBelowStar": {"A resource below a star.", all(rule("*", "apps", "*")), all(rule("*", "apps", "deployments")), nil},

		"Escalate":    {"escalate has to be spelled out.", all(rule("*", "*", "*")), all(rule("escalate", rbacGroup, "roles")), []string{more + "escalate roles (rbac.authorization.k8s.io)"}},
		"Bind":        {"bind has to be spelled out.", all(rule("*", "*", "*")), all(rule("bind", rbacGroup, "clusterroles", "view")), []string{more + `bind clusterroles "view" (rbac.authorization.k8s.io)`}},
		"Impersonate": {"impersonate has to be spelled out.", all(rule("*", "*", "*")), all(rule("impersonate", "", "users", "bob")), []string{more + `impersonate users "bob" (core group)`}},
		"ConstrainedImpersonate": {"So have its constrained forms.", all(rule("*,impersonate", "*", "*")),
			all(rule("impersonate:user-info", "authentication.k8s.io", "users"), rule("impersonate-on:user-info:get", "", "pods")),
			[]string{more + "impersonate-on:user-info:get pods (core group); impersonate:user-info users (authentication.k8s.io)"}},
		"EscalateNamed":    {"A ceiling that names it covers it.", all(rule("escalate", rbacGroup, "roles")), all(rule("escalate", rbacGroup, "roles")), nil},
		"BindNamed":        {"For all roles, and so for one.", all(rule("bind", rbacGroup, "clusterroles")), all(rule("bind", rbacGroup, "clusterroles", "view")), nil},
		"ImpersonateNamed": {"For one user.", all(rule("impersonate", "", "users", "bob")), all(rule("impersonate", "", "users", "bob")), nil},
		"ConstrainedNamed": {"In the same words.", all(rule("impersonate:user-info", "authentication.k8s.io", "users")), all(rule("impersonate:user-info", "authentication.k8s.io", "users")), nil},
		"NamedElsewhere": {"Named for roles is not named for clusterroles.", all(rule("*", "*", "*"), rule("escalate", rbacGroup, "roles")),
			all(rule("escalate", rbacGroup, "clusterroles")), []string{more + "escalate clusterroles (rbac.authorization.k8s.io)"}},
		"LikeSpecial": {"A verb that only begins so is another.", all(rule("*", "", "pods")), all(rule("binder,escalated,impersonates", "", "pods")), nil},

		"StarOnRoles": {"* on roles gives bind and escalate.", all(rule("*", rbacGroup, "roles")),
			all(rule("*", rbacGroup, "roles")), []string{more + "bind, escalate roles (rbac.authorization.k8s.io)"}},
		"StarOnRolesBeside": {"As it does in a list of verbs.", all(rule("*", rbacGroup, "roles")),
			all(rule("get,*", rbacGroup, "roles")), []string{more + "bind, escalate roles (rbac.authorization.k8s.io)"}},
		"StarOnRolesNamed":  {"A ceiling may name them beside the star.", all(rule("*,bind,escalate", rbacGroup, "roles")), all(rule("*", rbacGroup, "roles")), nil},
		"StarOnRolesOnly":   {"Naming them is not having the star.", all(rule("bind,escalate", rbacGroup, "roles")), all(rule("*", rbacGroup, "roles")), []string{more + "* roles (rbac.authorization.k8s.io)"}},
		"StarOnRolesHalf":   {"Each has to be named.", all(rule("*,bind", rbacGroup, "roles")), all(rule("*", rbacGroup, "roles")), []string{more + "escalate roles (rbac.authorization.k8s.io)"}},
		"StarOnOneRole":     {"Of one role as of all.", all(rule("*", rbacGroup, "roles")), all(rule("*", rbacGroup, "roles", "a")), []string{more + `bind, escalate roles "a" (rbac.authorization.k8s.io)`}},
		"StarOnAccounts":    {"* on service accounts gives impersonate.", all(rule("*", "", "*")), all(rule("*", "", "pods,serviceaccounts")), []string{more + "impersonate serviceaccounts (core group)"}},
		"StarOnCore":        {"And so does * on the core group.", all(rule("*", "", "*")), all(rule("*", "", "*")), []string{more + "impersonate groups, serviceaccounts, users (core group)"}},
		"StarOnExtra":       {"Extras are impersonated by key.", all(rule("*", "authentication.k8s.io", "*")), all(rule("*", "authentication.k8s.io", "userextras/scopes")), []string{more + "impersonate userextras/scopes (authentication.k8s.io)"}},
		"StarOnSubresource": {"Of which a key may be called log.", all(rule("*", "authentication.k8s.io", "*/log")), all(rule("*", "authentication.k8s.io", "*/log")), []string{more + "impersonate userextras/log (authentication.k8s.io)"}},
		"StarOnUIDs":        {"An exact resource.", all(rule("*,impersonate", "authentication.k8s.io", "uids")), all(rule("*", "authentication.k8s.io", "uids")), nil},
		"StarOnBindings":    {"Who binds needs the verb on the role.", all(rule("*", rbacGroup, "rolebindings")), all(rule("*", rbacGroup, "rolebindings")), nil},
		"StarOnGroup":       {"* in another group is nothing special.", all(rule("*", "apps", "*")), all(rule("*", "apps", "*")), nil},
		"StarOnRolesLike":   {"Nor are roles of another group.", all(rule("*", "iam.example.com", "roles")), all(rule("*", "iam.example.com", "roles")), nil},
		"EverythingBelowStar": {"Stars alone never cover everything.", all(rule("*", "*", "*")), all(rule("*", "*", "*")), []string{more +
			"bind, escalate clusterroles, roles (rbac.authorization.k8s.io); impersonate groups, nodes, serviceaccounts, uids, userextras/* and 1 more (authentication.k8s.io); impersonate groups, serviceaccounts, users (core group)"}},
		"EverythingNamed": {"A ceiling that names everything covers everything.", starNaming, all(rule("*", "*", "*")), nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := objectionsTo(t, &v1alpha1.Ceiling{Rules: tc.ceiling}, inputOf(tc.given...))
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestRoles: S19. Only names speak for what only the member knows.
func TestRoles(t *testing.T) {
	const outside = `spec.access[0]: gives %s %q, whose rules only the member knows and whose name is not in the ceiling of namespace "payments"`
	everything := all(rule("*,bind,escalate,impersonate", "*", "*"), paths("*", "*"))
	tests := map[string]struct {
		reason, kind, name string
		patterns           []v1alpha1.RolePattern
		ok                 bool
	}{
		"NotNamed":    {"Rules do not cover a role.", "ClusterRole", "view", nil, false},
		"Named":       {"A name does.", "ClusterRole", "view", []v1alpha1.RolePattern{{Kind: "ClusterRole", Name: "view"}}, true},
		"Pattern":     {"So does a pattern.", "Role", "deploy-web", []v1alpha1.RolePattern{{Kind: "Role", Name: "view"}, {Kind: "Role", Name: "deploy-*"}}, true},
		"OtherKind":   {"A Role is no ClusterRole.", "Role", "view", []v1alpha1.RolePattern{{Kind: "ClusterRole", Name: "view"}}, false},
		"Admin":       {"admin is a role like others.", "ClusterRole", "admin", []v1alpha1.RolePattern{{Kind: "ClusterRole", Name: "*"}}, true},
		"AnyIsNotAll": {"* does not come upon cluster-admin.", "ClusterRole", "cluster-admin", []v1alpha1.RolePattern{{Kind: "ClusterRole", Name: "*"}}, false},
		"Prefix":      {"Nor does another pattern.", "ClusterRole", "cluster-admin", []v1alpha1.RolePattern{{Kind: "ClusterRole", Name: "cluster-*"}}, false},
		"InFull":      {"Its name does.", "ClusterRole", "cluster-admin", []v1alpha1.RolePattern{{Kind: "ClusterRole", Name: "cluster-admin"}}, true},
		"System":      {"* does not come upon Kubernetes' own.", "ClusterRole", "system:node", []v1alpha1.RolePattern{{Kind: "ClusterRole", Name: "*"}, {Kind: "ClusterRole", Name: "s*"}}, false},
		"SystemNamed": {"A pattern that begins so does.", "ClusterRole", "system:node", []v1alpha1.RolePattern{{Kind: "ClusterRole", Name: "system:*"}}, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			in := inputOf()
			in.Access[0].Known, in.Access[0].Role = false, &guardrail.RoleRef{Kind: tc.kind, Name: tc.name}
			var want []string
			if !tc.ok {
				want = []string{fmt.Sprintf(outside, tc.kind, tc.name)}
			}
			got := objectionsTo(t, &v1alpha1.Ceiling{Rules: everything, Roles: tc.patterns}, in)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
	nameless := inputOf()
	nameless.Access[0].Known = false
	if got := objectionsTo(t, &v1alpha1.Ceiling{Rules: everything, Roles: []v1alpha1.RolePattern{{Kind: "ClusterRole", Name: "*"}}}, nameless); len(got) != 1 {
		t.Errorf("rules that are not known, of a role that is not named, pass: %q", got)
	}
}

func TestBounds(t *testing.T) {
	at := func(d time.Duration) *metav1.Time { return &metav1.Time{Time: t0.Add(d)} }
	eight := &metav1.Duration{Duration: 8 * time.Hour}
	valid := func(from, until *metav1.Time) func(*guardrail.Input) {
		return func(in *guardrail.Input) {
			in.Grant.Spec.Validity = &v1alpha1.Validity{NotBefore: from, NotAfter: until}
		}
	}
	tests := map[string]struct {
		reason  string
		ceiling v1alpha1.Ceiling
		change  func(*guardrail.Input)
		want    []string
	}{
		"None":       {reason: "What a ceiling does not bound is not bounded."},
		"Namespaces": {reason: "A namespace that matches.", ceiling: v1alpha1.Ceiling{Namespaces: []v1alpha1.Pattern{"ledger", "pay*"}}},
		"OtherNamespaces": {
			reason:  "Every namespace has to match.",
			ceiling: v1alpha1.Ceiling{Namespaces: []v1alpha1.Pattern{"pay*"}},
			change: func(in *guardrail.Input) {
				in.Access[0].Namespaces = []string{"web", "payments", "kube-system"}
			},
			want: []string{`spec.access[0].namespaces: gives access in "kube-system", "web", where the ceiling of namespace "payments" does not allow it`},
		},
		"ClusterWide": {
			reason:  "Cluster-wide is in every namespace.",
			ceiling: v1alpha1.Ceiling{Namespaces: []v1alpha1.Pattern{"*"}},
			change:  func(in *guardrail.Input) { in.Access[0].ClusterWide, in.Access[0].Namespaces = true, nil },
			want:    []string{`spec.access[0]: gives access cluster-wide, and the ceiling of namespace "payments" allows it in namespaces only`},
		},
		"NoNamespaces": {
			reason:  "What does not say where is taken for cluster-wide.",
			ceiling: v1alpha1.Ceiling{Namespaces: []v1alpha1.Pattern{"*"}},
			change:  func(in *guardrail.Input) { in.Access[0].Namespaces = nil },
			want:    []string{`spec.access[0]: gives access cluster-wide, and the ceiling of namespace "payments" allows it in namespaces only`},
		},
		"Clusters": {
			reason:  "A cluster by its labels.",
			ceiling: v1alpha1.Ceiling{Clusters: &v1alpha1.ClusterMatch{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}}}},
		},
		"OtherClusters": {
			reason:  "Every cluster has to match.",
			ceiling: v1alpha1.Ceiling{Clusters: &v1alpha1.ClusterMatch{Names: []v1alpha1.Pattern{"prod-*"}}},
			change: func(in *guardrail.Input) {
				for i := range 7 {
					in.Clusters = append(in.Clusters, &guardrail.Cluster{Name: fmt.Sprintf("dev-%d", i)})
				}
			},
			want: []string{`spec.clusters: gives access on "dev-0", "dev-1", "dev-2", "dev-3", "dev-4" and 2 more, where the ceiling of namespace "payments" does not allow it`},
		},
		"Subjects": {reason: "A subject that matches.", ceiling: v1alpha1.Ceiling{Subjects: []v1alpha1.SubjectPattern{{Kind: "User", Name: "al*"}}}},
		"OtherSubjects": {
			reason:  "Every subject has to match, in kind, namespace and name.",
			ceiling: v1alpha1.Ceiling{Subjects: []v1alpha1.SubjectPattern{{Kind: "Group"}, {Kind: "ServiceAccount", Namespace: "ci"}}},
			change: func(in *guardrail.Input) {
				in.Grant.Spec.Subjects = append(in.Grant.Spec.Subjects, v1alpha1.Subject{Kind: "Group", Name: "oncall"},
					v1alpha1.Subject{Kind: "ServiceAccount", Namespace: "ci", Name: "a"}, v1alpha1.Subject{Kind: "ServiceAccount", Namespace: "cd", Name: "a"})
			},
			want: []string{`spec.subjects: gives access to ServiceAccount "cd/a", User "alice", to whom the ceiling of namespace "payments" does not allow it`},
		},
		"Endless": {
			reason: "A bounded validity has an end.", ceiling: v1alpha1.Ceiling{MaxDuration: eight},
			want: []string{`spec.validity.notAfter: has no end, and the ceiling of namespace "payments" allows 8h0m0s`},
		},
		"OnlyNotBefore": {
			reason: "A beginning is no end.", ceiling: v1alpha1.Ceiling{MaxDuration: eight}, change: valid(at(0), nil),
			want: []string{`spec.validity.notAfter: has no end, and the ceiling of namespace "payments" allows 8h0m0s`},
		},
		"Longest":  {reason: "From notBefore, whenever that is.", ceiling: v1alpha1.Ceiling{MaxDuration: eight}, change: valid(at(100*time.Hour), at(108*time.Hour))},
		"FromNow":  {reason: "Without notBefore, from now.", ceiling: v1alpha1.Ceiling{MaxDuration: eight}, change: valid(nil, at(8*time.Hour))},
		"Over":     {reason: "What is over is not too long.", ceiling: v1alpha1.Ceiling{MaxDuration: eight}, change: valid(nil, at(-time.Hour))},
		"Anything": {reason: "No bound, no end.", ceiling: v1alpha1.Ceiling{}, change: valid(at(0), nil)},
		"TooLong": {
			reason: "A second is too long.", ceiling: v1alpha1.Ceiling{MaxDuration: eight}, change: valid(at(-100*time.Hour), at(-92*time.Hour+time.Second)),
			want: []string{`spec.validity.notAfter: ends 8h0m1s after notBefore, and the ceiling of namespace "payments" allows 8h0m0s`},
		},
		"TooLongFromNow": {
			reason: "The message is the same an instant later.", ceiling: v1alpha1.Ceiling{MaxDuration: eight}, change: valid(nil, at(9*time.Hour)),
			want: []string{`spec.validity.notAfter: ends more than 8h0m0s from now, which is what the ceiling of namespace "payments" allows without a notBefore`},
		},
		"AggregationLabel": {
			reason: "S19: a label that could be meant to aggregate is refused, though it would do nothing.",
			change: func(in *guardrail.Input) {
				in.Grant.Metadata.Labels = map[string]string{"rbac.authorization.k8s.io/aggregate-to-admin": "true", "team": "payments"}
			},
			want: []string{`metadata.labels: has the label rbac.authorization.k8s.io/aggregate-to-admin, by which no grant adds to another role`},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			in := inputOf(rule("get", "", "pods"))
			if tc.change != nil {
				tc.change(in)
			}
			tc.ceiling.Rules = all(rule("get", "", "pods"))
			if diff := cmp.Diff(tc.want, objectionsTo(t, &tc.ceiling, in)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestTimed(t *testing.T) {
	if compiled(t, &v1alpha1.Ceiling{}).Timed() {
		t.Error("a ceiling without a bound on the validity looks at the instant")
	}
	if !compiled(t, &v1alpha1.Ceiling{MaxDuration: &metav1.Duration{Duration: time.Hour}}).Timed() {
		t.Error("a ceiling with a bound on the validity does not look at the instant")
	}
}

// TestRequest: S16. A ceiling that is asked about what it cannot judge fails.
func TestRequest(t *testing.T) {
	if _, err := compiled(t, &v1alpha1.Ceiling{}).Check(&guardrail.Input{Request: &guardrail.RequestInfo{}}); err == nil {
		t.Error("a ceiling lets a request pass")
	}
}

func TestCompile(t *testing.T) {
	const at = "spec.ceiling"
	tests := map[string]struct {
		reason  string
		ceiling v1alpha1.Ceiling
		want    string
	}{
		"NoVerbs":  {"A rule without verbs is a mistake.", v1alpha1.Ceiling{Rules: all(rule("get", "", "pods"), v1alpha1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}})}, at + ".rules[1]: Invalid value: a rule has no verbs"},
		"NoGroups": {"A rule without groups too.", v1alpha1.Ceiling{Rules: all(v1alpha1.PolicyRule{Verbs: []string{"get"}, Resources: []string{"pods"}})}, at + ".rules[0]: Invalid value: a rule has resources and no apiGroups"},
		"Namespaces": {"An empty list is not an absent one.", v1alpha1.Ceiling{Namespaces: []v1alpha1.Pattern{}},
			at + ".namespaces: Required value: an empty list allows nothing: leave it out to allow all"},
		"Subjects": {"An empty list is not an absent one.", v1alpha1.Ceiling{Subjects: []v1alpha1.SubjectPattern{}},
			at + ".subjects: Required value: an empty list allows nobody: leave it out to allow all"},
		"Operator": {"A selector that cannot be read.", v1alpha1.Ceiling{Clusters: &v1alpha1.ClusterMatch{Selector: &metav1.LabelSelector{
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "env", Operator: "Near"}}}}},
			at + `.clusters.selector.matchExpressions[0].operator: Invalid value: "Near": not a valid selector operator`},
		"Key": {"A key that is none.", v1alpha1.Ceiling{Clusters: &v1alpha1.ClusterMatch{Selector: &metav1.LabelSelector{
			MatchLabels: map[string]string{"a b": "c"}}}}, at + `.clusters.selector.matchLabels: Invalid value: "a b"`},
		"Duration": {"A longest time is longer than none.", v1alpha1.Ceiling{MaxDuration: &metav1.Duration{Duration: -time.Hour}},
			at + `.maxDuration: Invalid value: "-1h0m0s": must be positive`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			check, errs := Compile(field.NewPath("spec", "ceiling"), &tc.ceiling)
			if check != nil {
				t.Error("there is a check in spite of errors")
			}
			if len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), tc.want) {
				t.Errorf("%s\ngot  %v\nwant %s", tc.reason, errs, tc.want)
			}
		})
	}
}
