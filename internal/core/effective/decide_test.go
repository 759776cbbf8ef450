package effective_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// ask for a resource in namespace x on cluster a, as alice of devs.
func ask(verb, resource string, change ...func(q *effective.Request)) *effective.Request {
	q := &effective.Request{
		User: guardrail.User{Name: "alice", Groups: []string{"devs", "system:authenticated"}}, Cluster: "a", Verb: verb, ResourceRequest: true,
		Namespace: "x", At: noon,
	}
	q.Resource, q.Subresource, _ = strings.Cut(resource, "/")
	for _, c := range change {
		c(q)
	}
	return q
}

func by(name string, groups ...string) func(q *effective.Request) {
	return func(q *effective.Request) { q.User = guardrail.User{Name: name, Groups: groups} }
}

func onCluster(name string) func(q *effective.Request) {
	return func(q *effective.Request) { q.Cluster = name }
}

func within(namespace string) func(q *effective.Request) {
	return func(q *effective.Request) { q.Namespace = namespace }
}

func at(instant time.Time) func(q *effective.Request) {
	return func(q *effective.Request) { q.At = instant }
}

func path(verb, p string, change ...func(q *effective.Request)) *effective.Request {
	q := ask(verb, "", change...)
	q.ResourceRequest, q.Path, q.Namespace = false, p, ""
	return q
}

func TestDecide(t *testing.T) {
	a := []v1alpha1.ClusterName{"a"}
	pods := give("x", []string{"get"}, "", "pods")
	team := grantTo("t/team", a, []v1alpha1.Subject{devs}, pods)
	paths := v1alpha1.AccessEntry{Rules: []v1alpha1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}}}}
	refuse := func(e v1alpha1.Enforcement, points guardrail.Points) *guardrail.Set {
		g := *refuses("no", "not now", func(*guardrail.Input) bool { return true })
		g.Enforcement, g.Points = e, points
		return guardrail.NewSet([]*guardrail.Guardrail{&g}, nil, guardrail.Options{})
	}
	const request = 1 << guardrail.Request
	cases := map[string]struct {
		reason string
		policy *guardrail.Set
		grants []compile.Grant
		q      *effective.Request
		want   answer
	}{
		"Group":            {reason: "By a group.", grants: []compile.Grant{team}, q: ask("get", "pods"), want: answer{Verdict: effective.Allowed, Because: []string{"t/team known"}}},
		"NobodyElse":       {reason: "Another group is another group.", grants: []compile.Grant{team}, q: ask("get", "pods", by("alice", "dev", "devs2")), want: answer{Verdict: effective.NotGranted}},
		"UserIsNoGroup":    {reason: "A user with the name of a group is not in it.", grants: []compile.Grant{team}, q: ask("get", "pods", by("devs")), want: answer{Verdict: effective.NotGranted}},
		"OtherVerb":        {reason: "A verb is not another.", grants: []compile.Grant{team}, q: ask("list", "pods"), want: answer{Verdict: effective.NotGranted}},
		"S18Subresource":   {reason: "A resource does not give its subresources.", grants: []compile.Grant{team}, q: ask("get", "pods/log"), want: answer{Verdict: effective.NotGranted}},
		"S17OtherAPIGroup": {reason: "The core group is not every group.", grants: []compile.Grant{team}, q: ask("get", "pods", func(q *effective.Request) { q.APIGroup = "metrics.k8s.io" }), want: answer{Verdict: effective.NotGranted}},
		"OtherNamespace":   {reason: "A namespace is not another.", grants: []compile.Grant{team}, q: ask("get", "pods", within("y")), want: answer{Verdict: effective.NotGranted}},
		"AllNamespaces":    {reason: "One namespace does not give a list of all.", grants: []compile.Grant{team}, q: ask("get", "pods", within("")), want: answer{Verdict: effective.NotGranted}},
		"OtherCluster":     {reason: "A cluster is not another.", grants: []compile.Grant{team}, q: ask("get", "pods", onCluster("b")), want: answer{Verdict: effective.NotGranted}},
		"UnknownCluster":   {reason: "Of a cluster that is not in the fleet nobody is given anything.", grants: []compile.Grant{team}, q: ask("get", "pods", onCluster("missing")), want: answer{Verdict: effective.NotGranted}},
		"NotAccepted": {
			reason: "Nor of one that the hub has not accepted.", q: ask("get", "pods", onCluster("unaccepted")), want: answer{Verdict: effective.NotGranted},
			grants: []compile.Grant{grantTo("t/team", []v1alpha1.ClusterName{"unaccepted"}, []v1alpha1.Subject{devs}, pods)},
		},
		"ServiceAccount": {
			reason: "An account is known by its user name.", grants: []compile.Grant{grantTo("t/bot", a, []v1alpha1.Subject{bot}, pods)},
			q: ask("get", "pods", by("system:serviceaccount:x:bot")), want: answer{Verdict: effective.Allowed, Because: []string{"t/bot known"}},
		},
		"OtherServiceAccount": {
			reason: "The account of that name in another namespace is another.", grants: []compile.Grant{grantTo("t/bot", a, []v1alpha1.Subject{bot}, pods)},
			q: ask("get", "pods", by("system:serviceaccount:y:bot")), want: answer{Verdict: effective.NotGranted},
		},
		"S7Masters": {
			reason: "system:masters is a group as any other, and none that is granted.", grants: []compile.Grant{team, grantTo("t/m", a, []v1alpha1.Subject{{Kind: "Group", Name: "system:masters"}}, pods)},
			q: ask("get", "pods", by("root", "system:masters")), want: answer{Verdict: effective.NotGranted},
		},
		"S6NoUser": {
			reason: "Who has no name is nobody, whatever groups they have.", grants: []compile.Grant{team},
			q: ask("get", "pods", by("", "devs")), want: answer{Reasons: []string{`guardrail "identity": the user has no name, or a group without one`}},
		},
		"S6EmptyGroup": {
			reason: "A group without a name is no group.", grants: []compile.Grant{team},
			q: ask("get", "pods", by("alice", "devs", "")), want: answer{Reasons: []string{`guardrail "identity": the user has no name, or a group without one`}},
		},
		"Opaque": {
			reason: "What a role of the member says only the member knows.", grants: []compile.Grant{grantTo("t/o", a, []v1alpha1.Subject{alice}, role("ClusterRole", "view", ""))},
			q: ask("get", "pods"), want: answer{Verdict: effective.OnMember, Because: []string{"t/o of the member"}},
		},
		"OpaqueElsewhere": {
			reason: "It says nothing of other namespaces, nor of paths.", grants: []compile.Grant{grantTo("t/o", a, []v1alpha1.Subject{alice}, role("Role", "view", "y"))},
			q: path("get", "/metrics", within("y")), want: answer{Verdict: effective.NotGranted},
		},
		"OpaqueAndKnown": {
			reason: "Where another grant is known to give it, it is given.", grants: []compile.Grant{team, grantTo("t/o", a, []v1alpha1.Subject{alice}, role("ClusterRole", "view", ""))},
			q: ask("get", "pods"), want: answer{Verdict: effective.Allowed, Because: []string{"t/o of the member", "t/team known"}},
		},
		"Discovery": {
			reason: "Clients cannot work without discovery.", grants: []compile.Grant{team},
			q: path("get", "/apis/apps/v1"), want: answer{Verdict: effective.Allowed, Because: []string{"t/team known"}},
		},
		"DiscoveryOfNobody": {
			reason: "Who has nothing on a cluster does not see what it serves.", grants: []compile.Grant{team},
			q: path("get", "/apis/apps/v1", onCluster("b")), want: answer{Verdict: effective.NotGranted},
		},
		"DiscoveryBesideOpaque": {
			reason: "Discovery is certain, also where a role of the member may say more.", grants: []compile.Grant{team, grantTo("t/o", a, []v1alpha1.Subject{alice}, role("ClusterRole", "view", ""))},
			q: path("get", "/version"), want: answer{Verdict: effective.Allowed, Because: []string{"t/o known", "t/team known"}},
		},
		"Path": {
			reason: "Paths are given cluster-wide.", grants: []compile.Grant{grantTo("t/p", a, []v1alpha1.Subject{alice}, paths)},
			q: path("get", "/metrics"), want: answer{Verdict: effective.Allowed, Because: []string{"t/p known"}},
		},
		"Refused": {
			reason: "A guardrail takes away what a grant gives, and the grant is told.", policy: refuse("", request), grants: []compile.Grant{team},
			q: ask("get", "pods"), want: answer{Verdict: effective.Denied, Reasons: []string{`guardrail "no": not now`}, Because: []string{"t/team known"}},
		},
		"RefusedWithoutGrant": {
			reason: "Guardrails come first: whoever is refused by both hears of the guardrail.", policy: refuse("", request),
			q: ask("get", "pods"), want: answer{Verdict: effective.Denied, Reasons: []string{`guardrail "no": not now`}},
		},
		"Warned": {
			reason: "A guardrail that warns refuses nothing.", policy: refuse(v1alpha1.EnforcementWarn, request), grants: []compile.Grant{team},
			q: ask("get", "pods"), want: answer{Verdict: effective.Allowed, Reasons: []string{`guardrail "no": not now`}, Because: []string{"t/team known"}},
		},
		"AtOtherPoints": {
			reason: "A guardrail on grants has no part in requests.", policy: refuse("", 1<<guardrail.Plan), grants: []compile.Grant{team},
			q: ask("get", "pods"), want: answer{Verdict: effective.Allowed, Because: []string{"t/team known"}},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, told(town(tc.policy, tc.grants...).Decide(tc.q))); diff != "" {
				t.Errorf("%s\nDecide (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestS16NothingIsKnown: without an index, without guardrails and without a fleet
// everything is denied.
func TestS16NothingIsKnown(t *testing.T) {
	var d effective.Decision
	if d.Verdict != effective.Denied {
		t.Error("the zero Decision allows something")
	}
	var none *effective.Index
	if d := none.Decide(ask("get", "pods")); d.Verdict != effective.Denied {
		t.Errorf("a nil Index says %s", d.Verdict)
	}
	u := &guardrail.User{Name: "alice"}
	if none.Reaches(u, noon) != nil || none.Groups(u, "a", noon) != nil || none.WhoCan(&effective.Query{}) != nil || len(none.CanI(u, "", noon)) > 0 {
		t.Error("a nil Index lists something")
	}
	w := newWorld(&choices{})
	w.grants = []compile.Grant{grantTo("t/g", []v1alpha1.ClusterName{"a"}, []v1alpha1.Subject{devs}, give("", []string{"*"}, "*", "*"))}
	w.policy = nil
	if d := w.index().Decide(ask("get", "pods")); d.Verdict != effective.Denied {
		t.Errorf("without guardrails the verdict is %s", d.Verdict)
	}
	if d := new(effective.Builder).Build(compile.Snapshot{Guardrails: guardrail.NewSet(nil, nil, guardrail.Options{})}).Decide(ask("get", "pods")); d.Verdict != effective.NotGranted {
		t.Errorf("of nothing the verdict is %s", d.Verdict)
	}
}

// TestS14Expiry: an Index that has not been told that time passes gives nothing past
// the end, to the nanosecond, and says before when that is.
func TestS14Expiry(t *testing.T) {
	a := []v1alpha1.ClusterName{"a"}
	pods := give("x", []string{"get"}, "", "pods")
	end := noon.Add(time.Hour)
	ix := town(nil,
		until(grantTo("t/short", a, []v1alpha1.Subject{devs}, pods), end),
		until(grantTo("t/long", a, []v1alpha1.Subject{alice}, pods), end.Add(time.Hour)),
	)
	for _, step := range []struct {
		at   time.Time
		want answer
	}{
		{end.Add(-1), answer{Verdict: effective.Allowed, Because: []string{"t/long known", "t/short known"}, Until: end}},
		{end, answer{Verdict: effective.Allowed, Because: []string{"t/long known"}, Until: end.Add(time.Hour)}},
		{end.Add(time.Hour - 1), answer{Verdict: effective.Allowed, Because: []string{"t/long known"}, Until: end.Add(time.Hour)}},
		{end.Add(time.Hour), answer{Verdict: effective.NotGranted}},
		{end.Add(1000 * time.Hour), answer{Verdict: effective.NotGranted}},
	} {
		for _, q := range []*effective.Request{ask("get", "pods", at(step.at)), path("get", "/api", at(step.at))} {
			if diff := cmp.Diff(step.want, told(ix.Decide(q))); diff != "" {
				t.Errorf("%s after noon, %+v (-want +got):\n%s", step.at.Sub(noon), q, diff)
			}
		}
		u := ask("", "").User
		if got, want := len(ix.Reaches(&u, step.at)) > 0, step.want.Because != nil; got != want {
			t.Errorf("%s after noon: reaches a cluster: %t", step.at.Sub(noon), got)
		}
		if got := ix.Groups(&u, "a", step.at); (got != nil) != step.at.Before(end) {
			t.Errorf("%s after noon: groups %q", step.at.Sub(noon), got)
		}
	}
	if !ix.Next().Equal(end) {
		t.Errorf("the next index is asked for at %s", ix.Next())
	}
}

// TestUntil: a decision says when an exception begins or ends, and when a guardrail
// looks at the clock.
func TestUntil(t *testing.T) {
	g := refuses("no-exec", "no exec", func(in *guardrail.Input) bool { return in.Request.Subresource == "exec" })
	g.Exceptions.Longest = 24 * time.Hour
	policy := guardrail.NewSet([]*guardrail.Guardrail{g}, []guardrail.Exception{
		{Namespace: "t", Name: "e", Guardrail: "no-exec", Grant: "team", NotBefore: noon, NotAfter: noon.Add(time.Hour)},
	}, guardrail.Options{})
	ix := town(policy, grantTo("t/team", []v1alpha1.ClusterName{"a"}, []v1alpha1.Subject{devs}, give("x", []string{"create"}, "", "pods/exec")))
	for _, step := range []struct {
		at   time.Time
		want answer
	}{
		{noon.Add(-1), answer{Verdict: effective.Denied, Reasons: []string{`guardrail "no-exec": no exec`}, Because: []string{"t/team known"}, Until: noon}},
		{noon, answer{Verdict: effective.Allowed, Reasons: []string{`guardrail "no-exec": no exece`}, Because: []string{"t/team known"}, Until: noon.Add(time.Hour)}},
		{noon.Add(time.Hour), answer{Verdict: effective.Denied, Reasons: []string{`guardrail "no-exec": no exec`}, Because: []string{"t/team known"}}},
	} {
		if diff := cmp.Diff(step.want, told(ix.Decide(ask("create", "pods/exec", at(step.at))))); diff != "" {
			t.Errorf("%s after noon (-want +got):\n%s", step.at.Sub(noon), diff)
		}
	}

	late := &guardrail.Guardrail{Name: "hours", Points: 1 << guardrail.Request, Check: check{timed: true, of: func(in *guardrail.Input) ([]guardrail.Violation, error) {
		if in.Now.Hour() >= 13 {
			return []guardrail.Violation{{Message: "too late"}}, nil
		}
		return nil, nil
	}}}
	ix = town(guardrail.NewSet([]*guardrail.Guardrail{late}, nil, guardrail.Options{}), grantTo("t/team", []v1alpha1.ClusterName{"a"}, []v1alpha1.Subject{devs}, give("x", []string{"get"}, "", "pods")))
	d := ix.Decide(ask("get", "pods"))
	if d.Verdict != effective.Allowed || !d.Until.Equal(noon.Add(guardrail.Renewal)) {
		t.Errorf("a decision that a clock is behind is %s until %s", d.Verdict, d.Until)
	}
	if d := ix.Decide(ask("get", "pods", at(noon.Add(time.Hour).In(time.FixedZone("", 3600))))); d.Verdict != effective.Denied {
		t.Errorf("an hour later it is %s", d.Verdict)
	}
}

// TestS15RequestIsCompile: at a request a grant gives something exactly where it does
// when it is compiled, whatever kept it from that.
func TestS15RequestIsCompile(t *testing.T) {
	on := []v1alpha1.ClusterName{"a"}
	pods := give("x", []string{"get"}, "", "pods")
	team := func(name string, change func(*v1alpha1.AccessGrantSpec)) compile.Grant {
		g := grantTo("t/"+name, on, []v1alpha1.Subject{devs}, pods)
		if change != nil {
			change(g.Spec)
		}
		return g
	}
	objects := func(name string, fails bool) *guardrail.Guardrail {
		return &guardrail.Guardrail{Name: name, Points: guardrail.GrantPoints, Exceptions: guardrail.Terms{Longest: 24 * time.Hour}, Check: check{of: func(in *guardrail.Input) ([]guardrail.Violation, error) {
			switch {
			case !strings.HasPrefix(in.Grant.Metadata.Name, name):
				return nil, nil
			case fails:
				return nil, fmt.Errorf("no idea")
			}
			return []guardrail.Violation{{Message: "no"}}, nil
		}}}
	}
	exception := func(grant string, from, to time.Duration) guardrail.Exception {
		return guardrail.Exception{Namespace: "t", Name: "e-" + grant, Guardrail: "refused", Grant: grant, NotBefore: noon.Add(from), NotAfter: noon.Add(to)}
	}
	policy := guardrail.NewSet([]*guardrail.Guardrail{objects("refused", false), objects("undecided", true)},
		[]guardrail.Exception{exception("refused-excused", -time.Hour, 1), exception("refused-no-more", -time.Hour, 0)}, guardrail.Options{})
	validity := func(from, to time.Duration) func(*v1alpha1.AccessGrantSpec) {
		return func(s *v1alpha1.AccessGrantSpec) {
			s.Validity = &v1alpha1.Validity{NotBefore: &metav1.Time{Time: noon.Add(from)}, NotAfter: &metav1.Time{Time: noon.Add(to)}}
		}
	}
	cases := map[string]struct {
		grant compile.Grant
		want  bool
	}{
		"Fine":          {team("fine", nil), true},
		"Refused":       {team("refused", nil), false},
		"Excused":       {team("refused-excused", nil), true},
		"ExcusedNoMore": {team("refused-no-more", nil), false},
		"Undecided":     {team("undecided", nil), false},
		"Begins":        {team("begins", validity(0, time.Hour)), true},
		"NotYet":        {team("not-yet", validity(1, time.Hour)), false},
		"Ends":          {team("ends", validity(-time.Hour, 1)), true},
		"Ended":         {team("ended", validity(-time.Hour, 0)), false},
		"UnknownRole": {team("role", func(s *v1alpha1.AccessGrantSpec) {
			s.Access = []v1alpha1.AccessEntry{role("AccessRole", "missing", "x")}
		}), false},
		"NoClusters": {team("nowhere", func(s *v1alpha1.AccessGrantSpec) { s.Clusters = v1alpha1.ClusterSelection{} }), false},
		"HeldOn":     {compile.Grant{Namespace: "t", Name: "held", Spec: team("held", nil).Spec, Held: true, HeldOn: []string{"a"}}, true},
		"HeldOff":    {compile.Grant{Namespace: "t", Name: "held", Spec: team("held", nil).Spec, Held: true}, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(&choices{})
			w.grants, w.policy = []compile.Grant{tc.grant}, policy
			r, _ := func() (compile.Result, bool) { o := compile.Grants(w.snapshot()); return o.Result(tc.grant.Key()) }()
			compiled := slices.Contains(r.Clusters, "a")
			requested := w.index().Decide(ask("get", "pods")).Verdict == effective.Allowed
			if compiled != tc.want || requested != tc.want {
				t.Errorf("given: %t; as compiled %t, at a request %t", tc.want, compiled, requested)
			}
		})
	}
}

// TestProvenance: a decision names the grant, its commit, its role and the rule, and of
// which index and guardrails it is.
func TestProvenance(t *testing.T) {
	access := []v1alpha1.AccessEntry{{
		RoleRef: &v1alpha1.RoleReference{Kind: "AccessRole", Name: "p"}, Namespaces: []v1alpha1.NamespaceName{"x"},
	}}
	w := newWorld(&choices{})
	w.roles["p"] = &v1alpha1.AccessRoleSpec{Rules: []v1alpha1.PolicyRule{
		{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}, {Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}},
	}}
	w.grants = []compile.Grant{until(grantTo("t/team", []v1alpha1.ClusterName{"a"}, []v1alpha1.Subject{devs, alice}, access...), noon.Add(time.Hour))}
	w.grants[0].Labels = map[string]string{"tier": "1"}
	ix := w.index()
	d := ix.Decide(ask("get", "secrets"))
	end := noon.Add(time.Hour)
	want := effective.Decision{
		Verdict: effective.Allowed, Until: end, Snapshot: 1, Policy: w.policy.Digest(),
		Because: []effective.Because{{Role: "AccessRole p", Rule: 1, Grant: &effective.Grant{
			GrantInfo: guardrail.GrantInfo{Namespace: "t", Name: "team", Labels: map[string]string{"tier": "1"}, Reason: "test", NotAfter: &end},
			Source:    "GitSync s/s main@sha1:1", Revision: "main@sha1:1",
		}}},
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("Decide (-want +got):\n%s", diff)
	}
}

// TestInputOfGuardrails: a guardrail sees the request as it was made, with the grants
// that would allow it.
func TestInputOfGuardrails(t *testing.T) {
	var got *guardrail.Input
	see := refuses("see", "", func(in *guardrail.Input) bool {
		request := *in.Request // what is judged is not kept
		got = &guardrail.Input{Version: in.Version, Now: in.Now, Grant: in.Grant, Request: &request, Grants: slices.Clone(in.Grants)}
		return false
	})
	ix := town(guardrail.NewSet([]*guardrail.Guardrail{see}, nil, guardrail.Options{}),
		grantTo("t/team", []v1alpha1.ClusterName{"a"}, []v1alpha1.Subject{devs}, give("x", []string{"get"}, "", "pods/log")),
		grantTo("t-1/team", []v1alpha1.ClusterName{"a"}, []v1alpha1.Subject{alice}, give("x", []string{"get"}, "", "*")),
		grantTo("t/others", []v1alpha1.ClusterName{"a"}, []v1alpha1.Subject{alice}, give("y", []string{"get"}, "", "*")),
	)
	zone := time.FixedZone("", 3600)
	q := ask("get", "pods/log", at(noon.In(zone)))
	q.APIVersion, q.Name, q.Path, q.User.UID, q.User.Extra = "v1", "web", "/api/v1/namespaces/x/pods/web/log", "1", map[string][]string{"k": {"v"}}
	ix.Decide(q)
	want := &guardrail.RequestInfo{
		User: q.User, Cluster: &guardrail.Cluster{Name: "a", Labels: map[string]string{"env": "prod"}, Claims: map[string]string{}}, Verb: "get", ResourceRequest: true,
		APIVersion: "v1", Resource: "pods", Subresource: "log", Namespace: "x", Name: "web", Path: q.Path,
	}
	if diff := cmp.Diff(want, got.Request, cmp.Comparer(func(a, b *guardrail.Cluster) bool {
		return a.Name == b.Name && cmp.Equal(a.Labels, b.Labels) && cmp.Equal(a.Claims, b.Claims)
	})); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	var grants []string
	for _, g := range got.Grants {
		grants = append(grants, g.Namespace+"/"+g.Name)
	}
	if diff := cmp.Diff([]string{"t/team", "t-1/team"}, grants); diff != "" {
		t.Errorf("grants, sorted by namespace and name (-want +got):\n%s", diff)
	}
	if got.Now != noon || got.Version != guardrail.InputVersion || got.Grant != nil {
		t.Errorf("now %s, version %q", got.Now, got.Version)
	}
}

// TestFailedPolicyKeepsItsInput: S22. A policy that missed its deadline may still look
// at what it was asked about, so that no other request is judged in that memory.
func TestFailedPolicyKeepsItsInput(t *testing.T) {
	var kept []*guardrail.Input
	fails := &guardrail.Guardrail{Name: "slow", Points: 1 << guardrail.Request, Check: check{of: func(in *guardrail.Input) ([]guardrail.Violation, error) {
		kept = append(kept, in)
		return nil, fmt.Errorf("late")
	}}}
	ix := town(guardrail.NewSet([]*guardrail.Guardrail{fails}, nil, guardrail.Options{}))
	for i := range 100 {
		if d := ix.Decide(ask("get", "pods", by(fmt.Sprint("user-", i)))); d.Verdict != effective.Denied {
			t.Fatalf("a policy that cannot be evaluated: %s", d.Verdict)
		}
	}
	for i, in := range kept {
		if got := in.Request.User.Name; got != fmt.Sprint("user-", i) {
			t.Fatalf("the request of user-%d has become one of %q", i, got)
		}
	}
}

// TestUnknownClusterIsMatched: whether a guardrail for some clusters is for one that is
// not in the fleet cannot be told, so that it is.
func TestUnknownClusterIsMatched(t *testing.T) {
	for name, tc := range map[string]struct {
		match *v1alpha1.ClusterMatch
		want  effective.Verdict
	}{
		"ByLabels":    {&v1alpha1.ClusterMatch{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}}}, effective.Denied},
		"ByName":      {&v1alpha1.ClusterMatch{Names: []v1alpha1.Pattern{"miss*"}}, effective.Denied},
		"ByOtherName": {&v1alpha1.ClusterMatch{Names: []v1alpha1.Pattern{"prod-*"}}, effective.NotGranted},
	} {
		match, err := guardrail.NewMatch(&v1alpha1.GuardrailMatch{Clusters: tc.match})
		if err != nil {
			t.Fatal(err)
		}
		g := refuses("no", "no", func(*guardrail.Input) bool { return true })
		g.Match = match
		ix := town(guardrail.NewSet([]*guardrail.Guardrail{g}, nil, guardrail.Options{}))
		if got := ix.Decide(ask("get", "pods", onCluster("missing"))).Verdict; got != tc.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestGroups: S7. A member is told of the groups that some grant names there, and of no
// others.
func TestGroups(t *testing.T) {
	pods := give("x", []string{"get"}, "", "pods")
	ix := town(nil,
		grantTo("t/devs", []v1alpha1.ClusterName{"a"}, []v1alpha1.Subject{devs, {Kind: "Group", Name: "system:masters"}, {Kind: "Group", Name: "system:nodes"}}, pods),
		grantTo("t/ops", []v1alpha1.ClusterName{"b"}, []v1alpha1.Subject{{Kind: "Group", Name: "ops"}}, pods),
		grantTo("t/bot", []v1alpha1.ClusterName{"a"}, []v1alpha1.Subject{bot}, pods),
		grantTo("t/user", []v1alpha1.ClusterName{"a"}, []v1alpha1.Subject{{Kind: "User", Name: "staff"}}, pods),
	)
	account := []string{"system:serviceaccounts:x", "system:serviceaccounts", "system:authenticated"}
	for name, tc := range map[string]struct {
		reason  string
		user    guardrail.User
		cluster string
		want    []string
	}{
		"Granted":      {reason: "Each once, sorted.", user: guardrail.User{Name: "alice", Groups: []string{"ops", "staff", "devs", "devs", "system:authenticated"}}, cluster: "a", want: []string{"devs"}},
		"Masters":      {reason: "Never, whatever a grant says.", user: guardrail.User{Name: "alice", Groups: []string{"system:masters", "system:nodes"}}, cluster: "a"},
		"Elsewhere":    {reason: "By cluster.", user: guardrail.User{Name: "alice", Groups: []string{"ops", "devs"}}, cluster: "b", want: []string{"ops"}},
		"Account":      {reason: "What Kubernetes adds to an account comes with it.", user: guardrail.User{Name: "system:serviceaccount:x:bot", Groups: account}, cluster: "a", want: []string{"system:serviceaccounts", "system:serviceaccounts:x"}},
		"OtherAccount": {reason: "To one that no grant names it is nothing.", user: guardrail.User{Name: "system:serviceaccount:x:other", Groups: account}, cluster: "a"},
		"Not theirs":   {reason: "An account that does not come with them is not given them.", user: guardrail.User{Name: "system:serviceaccount:x:bot", Groups: []string{"devs"}}, cluster: "a", want: []string{"devs"}},
		"Unknown":      {reason: "A cluster that is not there.", user: guardrail.User{Name: "alice", Groups: []string{"devs"}}, cluster: "missing"},
	} {
		if diff := cmp.Diff(tc.want, ix.Groups(&tc.user, tc.cluster, noon)); diff != "" {
			t.Errorf("%s: %s (-want +got):\n%s", name, tc.reason, diff)
		}
	}
}

// TestManyAtOnce: one index, many goroutines, and a Builder that goes on.
func TestManyAtOnce(t *testing.T) {
	c := choicesOf(3)
	w := newWorld(c)
	var b effective.Builder
	ix := b.Build(w.snapshot())
	var questions []*effective.Request
	var want []answer
	for range 50 {
		q := someRequest(c)
		questions, want = append(questions, q), append(want, told(ix.Decide(q)))
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				for i, q := range questions {
					if diff := cmp.Diff(want[i], told(ix.Decide(q))); diff != "" {
						t.Errorf("%+v (-alone +beside others):\n%s", q, diff)
						return
					}
				}
			}
		})
	}
	for range 50 {
		w.edit(c)
		b.Build(w.snapshot())
	}
	wg.Wait()
}
