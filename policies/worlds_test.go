package policies_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/policy/examples"
)

// compileSnapshot is a snapshot with one grant.
type compileSnapshot struct{ compile.Snapshot }

// at a point, the judgement of the grant.
func (s compileSnapshot) at(p guardrail.Point, set *guardrail.Set) guardrail.Judgement {
	s.Point, s.Guardrails = p, set
	return compile.Grants(s.Snapshot).Results[0].Judgement
}

// capture is a policy that keeps what it is asked about.
type capture struct{ in *guardrail.Input }

func (c *capture) Check(in *guardrail.Input) ([]guardrail.Violation, error) {
	c.in = in
	return nil, nil
}

func (c *capture) Timed() bool { return false }

// inputOf a grant, as the compiler makes it.
func inputOf(t testing.TB, s compileSnapshot) *guardrail.Input {
	t.Helper()
	c := &capture{}
	s.Point = guardrail.Compile
	s.Guardrails = guardrail.NewSet([]*guardrail.Guardrail{{Name: "capture", Points: guardrail.GrantPoints, Check: c}}, nil, guardrail.Options{})
	compile.Judge(s.Snapshot)
	if c.in == nil {
		t.Fatal("the grant was not judged")
	}
	return c.in
}

func member(name string, labels, claims map[string]string) fleet.Member {
	return fleet.Member{Name: name, Labels: labels, Claims: claims, Accepted: true, Delivery: fleet.ManifestWork, Paths: subject.Gateway}
}

// snapshot of an example that is a grant.
func snapshot(f *examples.File, e *examples.Example) compileSnapshot {
	s := compile.Snapshot{
		Grants: []compile.Grant{{
			Namespace: e.Grant.Namespace, Name: e.Grant.Name, Spec: &e.Grant.Spec,
			Labels: e.Grant.Labels, Annotations: e.Grant.Annotations, Origin: e.Source,
		}},
		Roles: map[string]*v1alpha1.AccessRoleSpec{}, Namespaces: map[string]map[string]string{}, Now: f.Now,
	}
	if !e.Now.IsZero() {
		s.Now = e.Now
	}
	var members []fleet.Member
	for _, c := range f.Fleet {
		members = append(members, member(c.Name, c.Labels, c.Claims))
	}
	s.Fleet = fleet.New(members)
	for name, rules := range f.Roles {
		s.Roles[name] = &v1alpha1.AccessRoleSpec{Rules: rules}
	}
	for name, ns := range f.Namespaces {
		s.Namespaces[name] = ns.Labels
	}
	return compileSnapshot{s}
}

// requestOf an example.
func requestOf(f *examples.File, e *examples.Example) *guardrail.Input {
	r := e.Request
	in := &guardrail.Input{
		Version: guardrail.InputVersion, Now: f.Now,
		Request: &guardrail.RequestInfo{
			User: r.User, Verb: r.Verb, ResourceRequest: r.Resource != "", APIGroup: r.APIGroup, APIVersion: r.APIVersion,
			Resource: r.Resource, Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name, Path: r.Path,
		},
	}
	if !e.Now.IsZero() {
		in.Now = e.Now
	}
	if in.Request.User.Extra == nil {
		in.Request.User.Extra = map[string][]string{}
	}
	for _, c := range f.Fleet {
		if c.Name == r.Cluster {
			in.Request.Cluster = &guardrail.Cluster{Name: c.Name, Labels: c.Labels, Claims: map[string]string{}}
		}
	}
	for i := range e.Grants {
		in.Grants = append(in.Grants, &e.Grants[i])
	}
	return in
}

// random makes inputs of a small vocabulary, so that things meet: much of it is
// what somebody would write who wants to get past a policy.
type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, 0))} }

func pick[T any](r random, from []T) T { return from[r.IntN(len(from))] }

// some of the words, at least one.
func some[T any](r random, from []T) []T {
	out := []T{pick(r, from)}
	for r.IntN(3) == 0 {
		out = append(out, pick(r, from))
	}
	return out
}

var (
	verbs = strings.Fields(`get list watch create update patch delete deletecollection get list create * bind escalate impersonate
		impersonate:user-info impersonate-on:user-info:get approve sign use post`)
	groups = append(strings.Fields(`apps batch * *.example.com rbac.authorization.k8s.io authorization.openshift.io rbac.example.com
		authentication.k8s.io authorization.k8s.io certificates.k8s.io discovery.k8s.io admissionregistration.k8s.io apiextensions.k8s.io
		storage.k8s.io argoproj.io Apps`), "", "", "", "")
	resources = strings.Fields(`pods pods pods/exec pods/attach pods/portforward pods/ephemeralcontainers pods/* */exec */* * secrets secrets/status
		configmaps roles rolebindings clusterroles users groups serviceaccounts serviceaccounts/token userextras/scopes uids nodes nodes/proxy
		endpoints endpointslices namespaces persistentvolumes certificatesigningrequests/approval signers deployments daemonsets jobs
		mutatingwebhookconfigurations customresourcedefinitions storageclasses applications Secrets selfsubjectaccessreviews`)
	paths   = []string{"/healthz", "/healthz/*", "/metrics", "/*", "*"}
	reasons = []string{"PAY-1234", "just in case", "see xPAY-12y", "pay-1", "ö PAY-1 ö", "PAY-1\nPAY-2", "'\"`<b>", "%s %d", strings.Repeat("long ", 200)}
	people  = []v1alpha1.Subject{
		{Kind: "User", Name: "ann"}, {Kind: "User", Name: "b ö<b>"}, {Kind: "User", Name: "emergency"}, {Kind: "User", Name: "system:anonymous"},
		{Kind: "User", Name: "break-glass"}, {Kind: "Group", Name: "payments"}, {Kind: "Group", Name: "break-glass"}, {Kind: "Group", Name: "break-glass-x"},
		{Kind: "Group", Name: "system:authenticated"}, {Kind: "Group", Name: "System:authenticated"}, {Kind: "Group", Name: "system:serviceaccounts"},
		{Kind: "Group", Name: "system:serviceaccounts:ci"}, {Kind: "ServiceAccount", Namespace: "ci", Name: "deployer"},
	}
	namesOfRoles = strings.Fields(`view edit admin cluster-admin x deployer approver missing`)
	spaces       = []v1alpha1.NamespaceName{"payments", "payments-api", "paymentsx", "billing", "kube-system", "argocd", "openshift-etcd", "kubeflow"}
	clusters     = []string{"prod-1", "prod-2", "staging-1", "dev-1", "lab-1"}
	authors      = []string{"", "Ann <ann@example.com>", "Ann <ann@Example.com>", "ann@example.com <ann@evil.net>", "<ann@example.com> <b@evil.net>", "ö"}
	instants     = []time.Time{
		at("2026-01-05T10:00:00Z"), at("2026-01-05T10:00:00.5Z"), at("2026-01-05T18:00:00Z"), at("2026-01-05T18:00:01Z"), at("2026-01-04T23:30:00Z"),
		at("2026-01-05T05:59:59Z"), at("2026-03-01T00:00:00Z"), at("2026-12-24T12:00:00Z"), at("2027-01-04T00:00:00Z"), at("2300-01-01T00:00:00Z"),
		at("9999-12-31T23:59:59Z"), at("1600-01-01T00:00:00Z"), at("0001-01-02T00:00:00Z"),
	}
)

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t
}

// now is one of the instants that can be.
func (r random) now() time.Time { return instants[r.IntN(9)] }

func (r random) rule() v1alpha1.PolicyRule {
	rule := v1alpha1.PolicyRule{Verbs: some(r, verbs)}
	if r.IntN(10) == 0 {
		rule.NonResourceURLs = some(r, paths)
		return rule
	}
	rule.APIGroups, rule.Resources = some(r, groups), some(r, resources)
	if r.IntN(6) == 0 {
		rule.ResourceNames = []string{"db"}
	}
	return rule
}

func (r random) rules() []v1alpha1.PolicyRule {
	out := []v1alpha1.PolicyRule{r.rule()}
	for r.IntN(3) == 0 {
		out = append(out, r.rule())
	}
	return out
}

func (r random) entry() v1alpha1.AccessEntry {
	var e v1alpha1.AccessEntry
	if r.IntN(2) == 0 {
		e.Rules = r.rules()
	} else {
		e.RoleRef = &v1alpha1.RoleReference{
			Kind: pick(r, []v1alpha1.RoleKind{v1alpha1.AccessRoleRef, v1alpha1.AccessRoleRef, v1alpha1.ClusterRoleRef, v1alpha1.RoleRef}),
			Name: pick(r, namesOfRoles),
		}
	}
	if r.IntN(4) != 0 {
		e.Namespaces = some(r, spaces)
	}
	return e
}

// grant in a world of its own.
func (r random) grant() compileSnapshot {
	s := compile.Snapshot{
		Roles: map[string]*v1alpha1.AccessRoleSpec{}, Now: r.now(),
		Namespaces: map[string]map[string]string{"payments": {"tenant": "payments"}, "nobody": {"tenant": ""}, "platform": {"team": "platform"}},
		Fleet: fleet.New([]fleet.Member{
			member("prod-1", map[string]string{"env": "prod"}, nil), member("prod-2", map[string]string{"env": "prod"}, map[string]string{"env": "dev"}),
			member("staging-1", map[string]string{"env": "staging"}, nil), member("dev-1", map[string]string{"env": "dev"}, nil), member("lab-1", nil, nil),
			member("prod-3", map[string]string{"env": "prod"}, nil), member("prod-4", map[string]string{"env": "prod"}, nil), member("prod-5", map[string]string{"env": "prod"}, nil),
			member("prod-6", map[string]string{"env": "prod"}, nil), member("prod-7", map[string]string{"env": "prod"}, nil), member("prod-8", map[string]string{"env": "prod"}, nil),
			member("prod-9", map[string]string{"env": "prod"}, nil), member("prod-10", map[string]string{"env": "prod"}, nil), member("prod-11", map[string]string{"env": "prod"}, nil),
		}),
	}
	for _, name := range namesOfRoles[:len(namesOfRoles)-1] {
		s.Roles[name] = &v1alpha1.AccessRoleSpec{Rules: r.rules()}
	}
	g := compile.Grant{
		Namespace: pick(r, []string{"payments", "payments", "nobody", "platform", "elsewhere"}), Name: "g",
		Spec: &v1alpha1.AccessGrantSpec{Reason: pick(r, reasons), Subjects: some(r, people)},
	}
	for range 1 + r.IntN(3) {
		g.Spec.Access = append(g.Spec.Access, r.entry())
	}
	switch r.IntN(4) {
	case 0:
		g.Spec.Clusters.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"env": pick(r, []string{"prod", "dev", "none"})}}
	default:
		for _, name := range some(r, clusters) {
			g.Spec.Clusters.Names = append(g.Spec.Clusters.Names, v1alpha1.ClusterName(name))
		}
	}
	if r.IntN(3) != 0 {
		g.Spec.Validity = r.validity(s.Now)
	}
	if r.IntN(3) == 0 {
		g.Labels = map[string]string{"duty": pick(r, []string{"deploy", "approve", ""})}
	}
	if r.IntN(3) != 0 {
		g.Origin = &guardrail.Source{Kind: "GitSync", Name: "hub", Author: pick(r, authors)}
	}
	s.Grants = []compile.Grant{g}
	return compileSnapshot{s}
}

// validity that has not ended, since what has is not judged: in seconds, as the
// API server keeps it.
func (r random) validity(now time.Time) *v1alpha1.Validity {
	v := &v1alpha1.Validity{}
	if r.IntN(2) == 0 {
		v.NotBefore = &metav1.Time{Time: pick(r, instants).Truncate(time.Second)}
	}
	if end := pick(r, instants).Truncate(time.Second); end.After(now) {
		v.NotAfter = &metav1.Time{Time: end}
	}
	return v
}

func (r random) request() *guardrail.Input {
	in := &guardrail.Input{
		Version: guardrail.InputVersion, Now: r.now(),
		Request: &guardrail.RequestInfo{
			User:    guardrail.User{Name: pick(r, []string{"ann", "system:serviceaccount:ci:deployer", "b ö<b>"}), Groups: []string{}, Extra: map[string][]string{}},
			Cluster: &guardrail.Cluster{Name: "prod-1", Labels: map[string]string{"env": "prod"}, Claims: map[string]string{}},
			Verb:    pick(r, verbs), Path: "/some/path",
		},
	}
	for range r.IntN(3) {
		in.Request.User.Groups = append(in.Request.User.Groups, pick(r, people).Name)
	}
	if r.IntN(10) != 0 {
		q := in.Request
		q.ResourceRequest, q.APIGroup, q.APIVersion = true, pick(r, groups), "v1"
		q.Resource, q.Subresource, _ = strings.Cut(pick(r, resources), "/")
		if r.IntN(3) != 0 {
			q.Namespace = string(pick(r, spaces))
		}
	}
	for range r.IntN(3) {
		g := &guardrail.GrantInfo{Namespace: "payments", Name: pick(r, namesOfRoles), Reason: pick(r, reasons)}
		if r.IntN(2) == 0 {
			g.Labels = map[string]string{"duty": pick(r, []string{"deploy", "approve"})}
		}
		in.Grants = append(in.Grants, g)
	}
	slices.SortFunc(in.Grants, func(a, b *guardrail.GrantInfo) int { return cmp.Compare(a.Name, b.Name) })
	return in
}

// mostNames is what a grant may give at most: verbs, groups, resources, names, URLs
// and namespaces, together.
const mostNames = 4096

// large is a shape of rule, and how what is given is spread: the numbers of verbs,
// groups, resources, names of resources and URLs of each rule, and of namespaces of
// each of the entries.
type large struct {
	verbs, groups, resources, names, urls int
	entries, namespaces                   int
}

// shapes of grants that are as large as can be.
var shapes = map[string]large{
	"Verbs":      {verbs: 32, groups: 1, resources: 1, entries: 32},
	"Groups":     {verbs: 1, groups: 64, resources: 1, entries: 32},
	"Resources":  {verbs: 1, groups: 1, resources: 64, entries: 32},
	"Products":   {verbs: 32, groups: 64, resources: 64, entries: 32},
	"Even":       {verbs: 8, groups: 8, resources: 8, entries: 64, namespaces: 8},
	"Rules":      {verbs: 2, groups: 1, resources: 1, entries: 32},
	"Names":      {verbs: 1, groups: 1, resources: 1, names: 256, entries: 32},
	"URLs":       {verbs: 1, urls: 64, entries: 32},
	"Namespaces": {verbs: 2, groups: 1, resources: 1, entries: 64, namespaces: 60},
}

// word that no policy looks for, as long as may be.
func word(what string, i, length int) string {
	s := fmt.Sprintf("%s%d", what, i)
	return s + strings.Repeat("x", length-len(s))
}

func words(what string, n, length int) []string {
	var out []string
	for i := range n {
		out = append(out, word(what, i, length))
	}
	return out
}

// grant of that shape, of the most names. What is first of each list of a rule may be
// given: a star, before what is looked for.
func (l large) grant(firstVerb, firstGroup, firstResource string) compileSnapshot {
	s := compileSnapshot{compile.Snapshot{Now: instants[0], Namespaces: map[string]map[string]string{"payments": {"team": "payments"}}}}
	first := func(list []string, with string) []string {
		if with != "" && len(list) > 0 {
			list[0] = with
		}
		return list
	}
	rule := func(i int) v1alpha1.PolicyRule {
		own := func(what string) string { return fmt.Sprintf("%s%d-", what, i) } // rules that are the same are one
		return v1alpha1.PolicyRule{
			Verbs: first(words(own("verb"), l.verbs, 63), firstVerb), APIGroups: first(words(own("group"), l.groups, 253), firstGroup),
			Resources: first(words(own("resource"), l.resources, 253), firstResource), ResourceNames: words(own("name"), l.names, 253),
			NonResourceURLs: words(own("/"), l.urls, 253),
		}
	}
	spec := &v1alpha1.AccessGrantSpec{Reason: word("reason", 0, 1024), Clusters: v1alpha1.ClusterSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"l0": word("v", 0, 63)}}}}
	left := mostNames
	for i := range l.entries {
		var e v1alpha1.AccessEntry
		for _, ns := range words(fmt.Sprintf("namespace%d-", i), l.namespaces, 63) {
			e.Namespaces = append(e.Namespaces, v1alpha1.NamespaceName(ns))
		}
		spec.Access = append(spec.Access, e)
		left -= l.namespaces
	}
	size := l.verbs + l.groups + l.resources + l.names + l.urls
	for i := 0; left >= size; i++ {
		e := &spec.Access[i%l.entries]
		e.Rules = append(e.Rules, rule(i))
		left -= size
	}
	rules := spec.Access[0].Rules
	for i := range left {
		rules[0].Verbs = append(rules[0].Verbs, word("more", i, 63))
	}
	for _, name := range words("user", 256, 253) {
		spec.Subjects = append(spec.Subjects, v1alpha1.Subject{Kind: v1alpha1.UserSubject, Name: name})
	}
	var members []fleet.Member
	for i := range 200 {
		labels, claims := map[string]string{}, map[string]string{}
		for k := range 16 {
			labels[fmt.Sprintf("l%d", k)], claims[fmt.Sprintf("c%d", k)] = word("v", k, 63), word("v", k, 63)
		}
		members = append(members, member(fmt.Sprintf("cluster-%d", i), labels, claims))
	}
	s.Fleet = fleet.New(members)
	s.Grants = []compile.Grant{{Namespace: "payments", Name: "largest", Spec: spec, Origin: &guardrail.Source{Kind: "GitSync", Name: "hub", Author: "ann"}}}
	return s
}
