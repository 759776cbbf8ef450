package effective_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// asUser is somebody who is nothing but the subject.
func asUser(s subject.Subject) guardrail.User {
	switch s.Kind {
	case subject.User:
		return guardrail.User{Name: s.Name}
	case subject.Group:
		return guardrail.User{Name: "somebody", Groups: []string{s.Name}}
	}
	return guardrail.User{Name: "system:serviceaccount:" + s.Namespace + ":" + s.Name, Groups: s.ImpliedGroups()}
}

// FuzzWhoCan: WhoCan is Decide, asked for every subject on every cluster, and names
// nobody and no cluster twice.
func FuzzWhoCan(f *testing.F) {
	fuzz(f, 150, func(t *testing.T, c *choices) {
		w := newWorld(c)
		ix := w.index()
		for range 6 {
			q := someRequest(c)
			if c.one(2) {
				q.Cluster = ""
			}
			got := map[string]answer{}
			holders := ix.WhoCan(query(q))
			for _, h := range holders {
				for _, cluster := range h.Clusters {
					key := h.Subject.String() + " on " + cluster
					if _, twice := got[key]; twice {
						t.Fatalf("%s is listed twice", key)
					}
					got[key] = told(h.Decision)
				}
			}
			if diff := cmp.Diff(decided(w, ix, q), got); diff != "" {
				t.Fatalf("%+v (-Decide +WhoCan):\n%s", query(q), diff)
			}
			if !slices.IsSortedFunc(holders, func(a, b effective.Holder) int { return subject.Compare(a.Subject, b.Subject) }) {
				t.Fatal("the holders are not sorted")
			}
		}
	})
}

// decided is what WhoCan is to say, from Decide.
func decided(w *world, ix *effective.Index, q *effective.Request) map[string]answer {
	out := map[string]answer{}
	for _, s := range worldSubjects {
		sub := subject.Of(s)
		for _, cluster := range worldClusters {
			if q.Cluster != "" && q.Cluster != cluster {
				continue
			}
			one := *q
			one.Cluster, one.User = cluster, asUser(sub)
			d := ix.Decide(&one)
			if slices.ContainsFunc(d.Because, func(b effective.Because) bool { return names(w, b.Grant, s) }) {
				out[sub.String()+" on "+cluster] = told(d)
			}
		}
	}
	return out
}

// names reports whether a grant is to the subject by name.
func names(w *world, g *effective.Grant, s v1alpha1.Subject) bool {
	return slices.ContainsFunc(w.grants, func(o compile.Grant) bool { return o.Key() == g.Key() && slices.Contains(o.Spec.Subjects, s) })
}

// FuzzCanI: each permission is one that Decide agrees with, request by request; what is
// not listed Decide does not know of either.
func FuzzCanI(f *testing.F) {
	fuzz(f, 100, func(t *testing.T, c *choices) {
		w := newWorld(c)
		ix := w.index()
		u := pick(c, worldUsers[:7])
		all := ix.CanI(&u, "", noon)
		for _, p := range all {
			for _, r := range p.Refused {
				for _, cluster := range p.Clusters {
					q := &effective.Request{
						User: u, Cluster: cluster, Verb: r.Verb, ResourceRequest: r.Path == "", APIGroup: r.APIGroup, Name: r.Name, Path: r.Path,
						Namespace: p.Namespace, At: noon,
					}
					q.Resource, q.Subresource, _ = strings.Cut(r.Resource, "/")
					if d := ix.Decide(q); d.Verdict != effective.Denied || len(d.Because) == 0 || len(r.Reasons) == 0 {
						t.Fatalf("%v is listed as refused on %s: %v", r, cluster, told(d))
					}
				}
			}
		}
		for range 20 {
			q := someRequest(c)
			q.User, q.At = u, noon
			d := ix.Decide(q)
			var want, got []string
			for _, b := range d.Because {
				want = append(want, b.Grant.Key())
			}
			for _, p := range all {
				scoped := p.Namespace == "" || q.ResourceRequest && q.Namespace == p.Namespace
				if slices.Contains(p.Clusters, q.Cluster) && scoped && (!p.Known || ruleGives(p.Rules, q)) {
					for _, key := range keys(p.Grants) {
						if p.Name != "discovery" || d.Verdict == effective.Allowed && slices.Contains(want, key) {
							got = append(got, key)
						}
					}
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if diff := cmp.Diff(want, slices.Compact(got)); diff != "" && !discovered(d) {
				t.Fatalf("%+v (-Decide +CanI):\n%s", q, diff)
			}
		}
	})
}

func discovered(d effective.Decision) bool {
	return slices.ContainsFunc(d.Because, func(b effective.Because) bool { return b.Role == "discovery" })
}

// grantTo is a grant of rules to subjects on clusters.
func grantTo(key string, on []v1alpha1.ClusterName, subjects []v1alpha1.Subject, access ...v1alpha1.AccessEntry) compile.Grant {
	namespace, name, _ := strings.Cut(key, "/")
	return compile.Grant{Namespace: namespace, Name: name, Source: "GitSync s/s main@sha1:1", Origin: &guardrail.Source{Kind: "GitSync", Revision: "main@sha1:1"}, Spec: &v1alpha1.AccessGrantSpec{
		Reason: "test", Subjects: subjects, Clusters: v1alpha1.ClusterSelection{Names: on}, Access: access,
	}}
}

func until(g compile.Grant, at time.Time) compile.Grant {
	g.Spec.Validity = &v1alpha1.Validity{NotAfter: &metav1.Time{Time: at}}
	return g
}

func give(namespace string, verbs []string, group, resource string) v1alpha1.AccessEntry {
	e := v1alpha1.AccessEntry{Rules: []v1alpha1.PolicyRule{{Verbs: verbs, APIGroups: []string{group}, Resources: []string{resource}}}}
	if namespace != "" {
		e.Namespaces = []v1alpha1.NamespaceName{v1alpha1.NamespaceName(namespace)}
	}
	return e
}

func role(kind v1alpha1.RoleKind, name, namespace string) v1alpha1.AccessEntry {
	e := v1alpha1.AccessEntry{RoleRef: &v1alpha1.RoleReference{Kind: kind, Name: name}}
	if namespace != "" {
		e.Namespaces = []v1alpha1.NamespaceName{v1alpha1.NamespaceName(namespace)}
	}
	return e
}

var (
	alice = v1alpha1.Subject{Kind: "User", Name: "alice"}
	devs  = v1alpha1.Subject{Kind: "Group", Name: "devs"}
	bot   = v1alpha1.Subject{Kind: "ServiceAccount", Namespace: "x", Name: "bot"}
)

// town is the world of the tables.
func town(policy *guardrail.Set, grants ...compile.Grant) *effective.Index {
	w := newWorld(&choices{})
	w.grants = grants
	w.policy = guardrail.NewSet(nil, nil, guardrail.Options{})
	if policy != nil {
		w.policy = policy
	}
	w.members[1].Labels = map[string]string{"env": "dev"}
	return w.index()
}

func TestWhoCan(t *testing.T) {
	noExec := guardrail.NewSet([]*guardrail.Guardrail{refuses("no-prod-exec", "not in prod", func(in *guardrail.Input) bool {
		return in.Request.Subresource == "exec" && in.Request.Cluster.Labels["env"] == "prod"
	})}, nil, guardrail.Options{})
	ix := town(noExec,
		grantTo("t/team", []v1alpha1.ClusterName{"a", "b", "c"}, []v1alpha1.Subject{devs, bot}, give("x", []string{"create"}, "", "pods/exec")),
		grantTo("t/alice", []v1alpha1.ClusterName{"b", "d"}, []v1alpha1.Subject{alice, devs}, give("", []string{"*"}, "*", "*")),
		grantTo("t/admins", []v1alpha1.ClusterName{"d"}, []v1alpha1.Subject{{Kind: "Group", Name: "admins"}}, role("ClusterRole", "admin", "x")),
		until(grantTo("t/late", []v1alpha1.ClusterName{"a"}, []v1alpha1.Subject{{Kind: "User", Name: "late"}}, give("x", []string{"create"}, "", "pods/exec")), noon.Add(time.Minute)),
	)
	q := &effective.Query{Verb: "create", ResourceRequest: true, Resource: "pods", Subresource: "exec", Namespace: "x", At: noon.Add(time.Minute)}
	var got []string
	for _, h := range ix.WhoCan(q) {
		got = append(got, fmt.Sprintf("%s%s%s%s", h.Subject, h.Clusters, h.Decision.Verdict, told(h.Decision).Because))
	}
	want := []string{
		"User alice[b]Allowed[t/alice known]",
		"User alice[d]Denied[t/alice known]",
		"Group admins[d]Denied[t/admins of the member]",
		"Group devs[a c]Denied[t/team known]",
		"Group devs[b]Allowed[t/alice known t/team known]",
		"Group devs[d]Denied[t/alice known]",
		"ServiceAccount x/bot[a c]Denied[t/team known]",
		"ServiceAccount x/bot[b]Allowed[t/team known]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("who can, on the fleet (-want +got):\n%s", diff)
	}
	q.Cluster = "missing"
	if got := ix.WhoCan(q); got != nil {
		t.Errorf("on a cluster that is not there: %v", got)
	}
}

func TestCanI(t *testing.T) {
	noSecrets := guardrail.NewSet([]*guardrail.Guardrail{refuses("no-secrets", "not secrets", func(in *guardrail.Input) bool {
		return in.Request.Resource == "secrets" && in.Request.Verb != "list"
	})}, nil, guardrail.Options{})
	grants := []compile.Grant{
		grantTo("t/team", []v1alpha1.ClusterName{"a", "b"}, []v1alpha1.Subject{devs}, give("x", []string{"get", "list"}, "", "secrets"), give("x", []string{"get"}, "", "pods")),
		grantTo("t/alice", []v1alpha1.ClusterName{"b"}, []v1alpha1.Subject{alice}, give("x", []string{"get", "list"}, "", "secrets"), give("", []string{"get"}, "*", "*")),
		grantTo("t/other", []v1alpha1.ClusterName{"a"}, []v1alpha1.Subject{{Kind: "User", Name: "bob"}}, give("x", []string{"delete"}, "", "secrets")),
		grantTo("t/view", []v1alpha1.ClusterName{"c"}, []v1alpha1.Subject{alice}, role("ClusterRole", "view", "")),
	}
	u := &guardrail.User{Name: "alice", Groups: []string{"devs"}}
	list := func(policy *guardrail.Set, cluster string) (out []string) {
		for _, p := range town(policy, grants...).CanI(u, cluster, noon) {
			line := fmt.Sprint(p.Clusters, " ", p.Kind, p.Name, " in ", p.Namespace, " ", keys(p.Grants))
			if p.Kind == "" && p.Name == "" {
				line += fmt.Sprintf("%s%s", p.Rules[0].Verbs, p.Rules[0].Resources)
			}
			for _, r := range p.Refused {
				line += " not " + r.Verb + " " + r.Resource + ": " + r.Reasons[0].Message
			}
			if p.Unsure {
				line += " unsure"
			}
			out = append(out, line)
		}
		return out
	}
	want := []string{
		"[b]  in  [t/alice][get][*] unsure",
		"[a b]  in x [t/team][get][pods]",
		"[a]  in x [t/team][get list][secrets] not get secrets: not secrets",
		"[b]  in x [t/alice t/team][get list][secrets] not get secrets: not secrets",
		"[a] discovery in  [t/team] unsure",
		"[b] discovery in  [t/alice t/team] unsure",
		"[c] discovery in  [t/view] unsure",
		"[c] ClusterRoleview in  [t/view] unsure",
	}
	if diff := cmp.Diff(want, list(noSecrets, "")); diff != "" {
		t.Errorf("on the fleet (-want +got):\n%s", diff)
	}
	want = []string{
		"[a]  in x [t/team][get][pods]",
		"[a]  in x [t/team][get list][secrets]",
		"[a] discovery in  [t/team]",
	}
	if diff := cmp.Diff(want, list(nil, "a")); diff != "" {
		t.Errorf("on one cluster without guardrails (-want +got):\n%s", diff)
	}
}

// TestCanIIsBounded: a role that says very much is not judged word by word, and the
// list says so.
func TestCanIIsBounded(t *testing.T) {
	wide := func(n int) v1alpha1.AccessEntry {
		e := give("x", []string{"get"}, "", "secrets")
		for i := range n {
			e.Rules[0].Resources = append(e.Rules[0].Resources, fmt.Sprint("r", i))
			e.Rules[0].ResourceNames = append(e.Rules[0].ResourceNames, fmt.Sprint("n", i))
		}
		return e
	}
	asked := 0
	policy := guardrail.NewSet([]*guardrail.Guardrail{refuses("no", "no", func(in *guardrail.Input) bool { asked++; return in.Request.Resource == "r0" })}, nil, guardrail.Options{})
	for n, want := range map[int]bool{30: false, 40: true} {
		asked = 0
		ix := town(policy, grantTo("t/wide", []v1alpha1.ClusterName{"a"}, []v1alpha1.Subject{alice}, wide(n)))
		for _, p := range ix.CanI(&guardrail.User{Name: "alice"}, "a", noon) {
			if p.Name == "discovery" {
				continue
			}
			if p.Unsure != want || len(p.Refused) != n || asked > 1100 {
				t.Errorf("%d resources by %d names: unsure %t, %d refused, %d judged", n, n, p.Unsure, len(p.Refused), asked)
			}
		}
	}
}
