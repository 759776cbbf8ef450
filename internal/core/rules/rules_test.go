package rules

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

func resource(verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: verbs, APIGroups: []string{""}, Resources: []string{"pods"}}
}

func path(verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: verbs, NonResourceURLs: []string{"/metrics"}}
}

// TestHubVerbs is the whole grid: each verb that a rule can have against the
// verbs that a request to clusters/NAME/proxy can have.
func TestHubVerbs(t *testing.T) {
	cases := map[string]struct {
		reason string
		in     []rbacv1.PolicyRule
		want   []string
	}{
		"get":              {reason: "GET", in: []rbacv1.PolicyRule{resource("get")}, want: []string{"get"}},
		"list":             {reason: "GET; with a name in the path the hub says get", in: []rbacv1.PolicyRule{resource("list")}, want: []string{"get"}},
		"watch":            {reason: "GET with ?watch", in: []rbacv1.PolicyRule{resource("watch")}, want: []string{"get"}},
		"create":           {reason: "POST", in: []rbacv1.PolicyRule{resource("create")}, want: []string{"create"}},
		"update":           {reason: "PUT", in: []rbacv1.PolicyRule{resource("update")}, want: []string{"update"}},
		"patch":            {reason: "PATCH", in: []rbacv1.PolicyRule{resource("patch")}, want: []string{"patch"}},
		"delete":           {reason: "DELETE", in: []rbacv1.PolicyRule{resource("delete")}, want: []string{"delete"}},
		"deletecollection": {reason: "DELETE; the hub sees one cluster, not a collection", in: []rbacv1.PolicyRule{resource("deletecollection")}, want: []string{"delete"}},
		"star":             {reason: "Every verb that a request can have, spelled out", in: []rbacv1.PolicyRule{resource("*")}, want: []string{"create", "delete", "get", "patch", "update"}},

		"bind":          {reason: "No request has it", in: []rbacv1.PolicyRule{resource("bind")}},
		"escalate":      {reason: "No request has it", in: []rbacv1.PolicyRule{resource("escalate")}},
		"impersonate":   {reason: "A header, not a method", in: []rbacv1.PolicyRule{resource("impersonate")}},
		"use":           {reason: "Checked by admission, not carried by a request", in: []rbacv1.PolicyRule{resource("use")}},
		"approve":       {reason: "Checked by admission, not carried by a request", in: []rbacv1.PolicyRule{resource("approve")}},
		"unknown":       {reason: "What is not known opens nothing", in: []rbacv1.PolicyRule{resource("gett", "GET", "Get", "")}},
		"methodNames":   {reason: "HTTP methods mean nothing in a rule for resources", in: []rbacv1.PolicyRule{resource("post", "put", "head", "options")}},
		"impersonateOn": {reason: "A constrained verb is not the verb", in: []rbacv1.PolicyRule{resource("impersonate-on:user-info:get")}},

		"pathGet":     {reason: "GET", in: []rbacv1.PolicyRule{path("get")}, want: []string{"get"}},
		"pathHead":    {reason: "The hub says get for HEAD", in: []rbacv1.PolicyRule{path("head")}, want: []string{"get"}},
		"pathPost":    {reason: "POST", in: []rbacv1.PolicyRule{path("post")}, want: []string{"create"}},
		"pathPut":     {reason: "PUT", in: []rbacv1.PolicyRule{path("put")}, want: []string{"update"}},
		"pathPatch":   {reason: "PATCH", in: []rbacv1.PolicyRule{path("patch")}, want: []string{"patch"}},
		"pathDelete":  {reason: "DELETE", in: []rbacv1.PolicyRule{path("delete")}, want: []string{"delete"}},
		"pathOptions": {reason: "The hub has no verb for OPTIONS", in: []rbacv1.PolicyRule{path("options")}},
		"pathStar":    {reason: "Every method", in: []rbacv1.PolicyRule{path("*")}, want: []string{"create", "delete", "get", "patch", "update"}},
		"pathVerbs":   {reason: "Verbs of resources mean nothing for a path", in: []rbacv1.PolicyRule{path("list", "watch", "create", "update", "deletecollection")}},

		"union":   {reason: "Rules unite", in: []rbacv1.PolicyRule{resource("list"), path("post"), resource("escalate")}, want: []string{"create", "get"}},
		"nothing": {reason: "No rules, no way in"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, HubVerbs(tc.in).Strings()); diff != "" {
				t.Errorf("%s\nHubVerbs(%v) (-want +got):\n%s", tc.reason, tc.in, diff)
			}
		})
	}
}

func TestOnBehalf(t *testing.T) {
	const on = "impersonate-on:user-info:"
	cases := map[string]struct {
		reason string
		in     rbacv1.PolicyRule
		want   []rbacv1.PolicyRule
	}{
		"Plain": {
			reason: "The same rule under the constrained verbs; names and subresources stay.",
			in:     rbacv1.PolicyRule{Verbs: []string{"get", "list"}, APIGroups: []string{"apps"}, Resources: []string{"deployments/scale"}, ResourceNames: []string{"web"}},
			want:   []rbacv1.PolicyRule{{Verbs: []string{on + "get", on + "list"}, APIGroups: []string{"apps"}, Resources: []string{"deployments/scale"}, ResourceNames: []string{"web"}}},
		},
		"Star": {
			reason: "A star in the verbs would hold for impersonate:user-info, and be everything.",
			in:     resource("*"),
			want:   []rbacv1.PolicyRule{resource(on+"create", on+"delete", on+"deletecollection", on+"get", on+"list", on+"patch", on+"update", on+"watch")},
		},
		"StarOnPath": {
			reason: "Methods, where the rule is about paths.",
			in:     path("*"),
			want:   []rbacv1.PolicyRule{path(on+"delete", on+"get", on+"head", on+"options", on+"patch", on+"post", on+"put")},
		},
		"StarAndMore": {
			reason: "A verb of its own is kept beside the star, each once.",
			in:     resource("*", "get", "approve"),
			want:   []rbacv1.PolicyRule{resource(on+"approve", on+"create", on+"delete", on+"deletecollection", on+"get", on+"list", on+"patch", on+"update", on+"watch")},
		},
		"Impersonate": {
			reason: "S7: a grant to impersonate is not passed on to the impersonator.",
			in:     resource("impersonate", "impersonate:user-info", "impersonate-on:user-info:get"),
		},
		"ImpersonateAndGet": {
			reason: "S7: only the verb is left out.",
			in:     resource("impersonate", "get"),
			want:   []rbacv1.PolicyRule{resource(on + "get")},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := OnBehalf([]rbacv1.PolicyRule{tc.in})
			if len(got) == 0 {
				got = nil
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\nOnBehalf (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestOnBehalfLeavesItsInput(t *testing.T) {
	in := []rbacv1.PolicyRule{resource("*", "get")}
	OnBehalf(in)
	if diff := cmp.Diff([]rbacv1.PolicyRule{resource("*", "get")}, in); diff != "" {
		t.Errorf("OnBehalf changed what it was given (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(len(OnBehalf([]rbacv1.PolicyRule{resource("*")})[0].Verbs), 8); diff != "" {
		t.Errorf("the list behind the star was changed: %s", diff)
	}
}

func TestOnBehalfNeverHasAWildcardVerb(t *testing.T) {
	for _, in := range [][]rbacv1.PolicyRule{Everyone(), {resource("*")}, {path("*")}, {resource("impersonate", "*")}} {
		for _, r := range OnBehalf(in) {
			for _, v := range r.Verbs {
				rest, ok := strings.CutPrefix(v, "impersonate-on:user-info:")
				if !ok || rest == "" || strings.Contains(rest, "*") || strings.HasPrefix(rest, "impersonate") {
					t.Errorf("S7: OnBehalf(%v) gives the verb %q", in, v)
				}
			}
		}
	}
}

func TestImpersonate(t *testing.T) {
	if got := Impersonate("users", nil); got != nil {
		t.Errorf("No names must give no rule, since a rule without resourceNames is for every name: %v", got)
	}
	if got := ImpersonateMembers(nil); got != nil {
		t.Errorf("No groups must give no rule: %v", got)
	}
	want := []rbacv1.PolicyRule{{Verbs: []string{"impersonate"}, APIGroups: []string{""}, Resources: []string{"users"}, ResourceNames: []string{"alice"}}}
	if diff := cmp.Diff(want, Impersonate("users", []string{"alice"})); diff != "" {
		t.Errorf("Impersonate (-want +got):\n%s", diff)
	}
	want = []rbacv1.PolicyRule{
		{Verbs: []string{"impersonate:user-info"}, APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"groups"}, ResourceNames: []string{"devs"}},
		{Verbs: []string{"impersonate:user-info"}, APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"users"}},
	}
	if diff := cmp.Diff(want, ImpersonateMembers([]string{"devs"})); diff != "" {
		t.Errorf("ImpersonateMembers (-want +got):\n%s", diff)
	}
}

// TestImpersonateCredentials: the forms in which the filter of an API server asks.
func TestImpersonateCredentials(t *testing.T) {
	const key = "userextras/authentication.kubernetes.io/"
	resources := []string{"uids", key + "credential-id", key + "node-name", key + "node-uid", key + "pod-name", key + "pod-uid"}
	for verb, of := range map[string]func([]string) []rbacv1.PolicyRule{"impersonate": ImpersonateCredentials, "impersonate:user-info": ImpersonateMembersCredentials} {
		for _, more := range [][]string{nil, {"scopes", "authentication.kubernetes.io/pod-uid", "scopes"}} {
			want := []rbacv1.PolicyRule{{Verbs: []string{verb}, APIGroups: []string{"authentication.k8s.io"}, Resources: resources}}
			if more != nil {
				want[0].Resources = append(slices.Clone(resources), "userextras/scopes")
			}
			if diff := cmp.Diff(want, of(more)); diff != "" {
				t.Errorf("%s, more %q (-want +got):\n%s", verb, more, diff)
			}
		}
	}
}

func TestCheckExtraKey(t *testing.T) {
	for key, ok := range map[string]bool{
		"scopes": true, "example.org/team": true, "iam.gke.io/user-assertion": true, "a%b": true,
		"": false, "Scopes": false, "*": false, "a b": false, "größe": false, "a\n": false,
	} {
		if err := CheckExtraKey(key); (err == nil) != ok {
			t.Errorf("%q: got %v", key, err)
		}
	}
}

func TestOf(t *testing.T) {
	a := v1alpha1.PolicyRule{Verbs: []string{"list", "get", "get"}, APIGroups: []string{"", "apps"}, Resources: []string{"pods"}}
	b := v1alpha1.PolicyRule{Verbs: []string{"get", "list"}, APIGroups: []string{"apps", ""}, Resources: []string{"pods", "pods"}}
	c := v1alpha1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/z", "/a"}}
	want := []rbacv1.PolicyRule{
		{Verbs: []string{"get"}, NonResourceURLs: []string{"/a", "/z"}},
		{Verbs: []string{"get", "list"}, APIGroups: []string{"", "apps"}, Resources: []string{"pods"}},
	}
	for _, in := range [][]v1alpha1.PolicyRule{{a, b, c}, {c, a}, {b, c, a, c}} {
		if diff := cmp.Diff(want, Of(in)); diff != "" {
			t.Errorf("The same rules in other words have to become identical (-want +got):\n%s", diff)
		}
	}
	if diff := cmp.Diff([]string{"list", "get", "get"}, a.Verbs); diff != "" {
		t.Errorf("Of changed what it was given (-want +got):\n%s", diff)
	}
	names := Of([]v1alpha1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}, ResourceNames: []string{"b", "a", "b"}}})
	if diff := cmp.Diff([]string{"a", "b"}, names[0].ResourceNames); diff != "" {
		t.Errorf("Names narrow a rule and must survive (-want +got):\n%s", diff)
	}
}

// TestS18OfImpliesNothing: a subresource is another resource, in both directions,
// and no resource is dropped because another one seems to cover it.
func TestS18OfImpliesNothing(t *testing.T) {
	all := []string{"*", "*/exec", "pods", "pods/exec", "pods/log"}
	got := Of([]v1alpha1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: all}})
	if diff := cmp.Diff(all, got[0].Resources); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
}

func TestProblem(t *testing.T) {
	cases := map[string]struct {
		reason string
		in     v1alpha1.PolicyRule
		want   string
	}{
		"Resources":    {reason: "A plain rule.", in: v1alpha1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}},
		"Paths":        {reason: "A plain rule about paths.", in: v1alpha1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}}},
		"NoVerbs":      {reason: "The member refuses it, and the whole role with it.", in: v1alpha1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}}, want: "a rule has no verbs"},
		"EmptyVerb":    {reason: "Requests of unknown methods have an empty verb.", in: v1alpha1.PolicyRule{Verbs: []string{"get", ""}, APIGroups: []string{""}, Resources: []string{"pods"}}, want: "a rule has an empty verb"},
		"NothingNamed": {reason: "About nothing.", in: v1alpha1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}}, want: "a rule has neither resources nor nonResourceURLs"},
		"Both":         {reason: "The member refuses it.", in: v1alpha1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}, NonResourceURLs: []string{"/"}}, want: "a rule has both resources and nonResourceURLs"},
		"NoGroups":     {reason: "The member refuses it; none is not the core group (S17).", in: v1alpha1.PolicyRule{Verbs: []string{"get"}, Resources: []string{"pods"}}, want: "a rule has resources and no apiGroups"},
		"PathsWithGroups": {
			reason: "The member refuses it, and the whole role with it.",
			in:     v1alpha1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, NonResourceURLs: []string{"/metrics"}},
			want:   "a rule has nonResourceURLs with apiGroups or resourceNames",
		},
		"PathsWithNames": {
			reason: "The member refuses it, and the whole role with it.",
			in:     v1alpha1.PolicyRule{Verbs: []string{"get"}, ResourceNames: []string{"a"}, NonResourceURLs: []string{"/metrics"}},
			want:   "a rule has nonResourceURLs with apiGroups or resourceNames",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			fine := v1alpha1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}
			if diff := cmp.Diff(tc.want, Problem([]v1alpha1.PolicyRule{fine, tc.in})); diff != "" {
				t.Errorf("%s\nProblem (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestNonResource(t *testing.T) {
	if NonResource([]rbacv1.PolicyRule{resource("get")}) || !NonResource([]rbacv1.PolicyRule{resource("get"), path("get")}) {
		t.Error("NonResource has to find one rule with nonResourceURLs among others")
	}
}
