package rbac

import (
	"fmt"
	"slices"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/policy/cel"
)

const fleetSize = 1000

// roleOf that name: what people at a keyboard need.
func roleOf(i int) []v1alpha1.PolicyRule {
	return []v1alpha1.PolicyRule{
		{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{"", "apps"}, Resources: []string{"pods", "deployments", "replicasets", fmt.Sprintf("r%d", i)}},
		{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods/log", "events"}},
		{Verbs: []string{"create"}, APIGroups: []string{""}, Resources: []string{"pods/exec", "pods/portforward"}},
	}
}

// manyGrants are n grants over 1,000 members: each of one of 20 roles to a team of five
// grants and to a user, on 20 members, in one of five namespaces.
func manyGrants(n int, policy *guardrail.Set) compile.Snapshot {
	s := compile.Snapshot{Guardrails: policy, Point: guardrail.Compile, Now: noon, Roles: map[string]*v1alpha1.AccessRoleSpec{}}
	var reported []fleet.Member
	for i := range fleetSize {
		reported = append(reported, fleet.Member{Name: fmt.Sprintf("cluster-%04d", i), Accepted: true, Delivery: fleet.ManifestWork, Paths: subject.Gateway, Labels: map[string]string{"env": "prod"}})
	}
	s.Fleet = fleet.New(reported)
	for i := range 20 {
		s.Roles[fmt.Sprintf("role-%d", i)] = &v1alpha1.AccessRoleSpec{Rules: roleOf(i)}
	}
	for i := range n {
		spec := &v1alpha1.AccessGrantSpec{Reason: "bench", Subjects: []v1alpha1.Subject{{Kind: "Group", Name: team(i)}, {Kind: "User", Name: person(i)}}}
		for k := range 20 {
			spec.Clusters.Names = append(spec.Clusters.Names, v1alpha1.ClusterName(fmt.Sprintf("cluster-%04d", (i/5*7+k*50)%fleetSize)))
		}
		spec.Access = []v1alpha1.AccessEntry{{
			RoleRef:    &v1alpha1.RoleReference{Kind: v1alpha1.AccessRoleRef, Name: fmt.Sprintf("role-%d", i%20)},
			Namespaces: []v1alpha1.NamespaceName{v1alpha1.NamespaceName(fmt.Sprintf("ns-%d", i%5))},
		}}
		s.Grants = append(s.Grants, compile.Grant{Namespace: fmt.Sprintf("tenant-%d", i%100), Name: fmt.Sprintf("grant-%d", i), Spec: spec})
	}
	return s
}

func team(i int) string   { return fmt.Sprintf("team-%d", i/5) }
func person(i int) string { return fmt.Sprintf("user-%d@example.org", i) }

// manyBindings are n bindings on one cluster, as a controller that makes one for each
// grant would leave them, in the namespace that is asked about.
func manyBindings(n int) authorizer.Authorizer {
	var c cluster
	for i := range 20 {
		role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("role-%d", i)}}
		for _, r := range roleOf(i) {
			role.Rules = append(role.Rules, rbacv1.PolicyRule{Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources})
		}
		c.clusterRoles = append(c.clusterRoles, role)
	}
	for i := range n {
		c.clusterRoleBindings = append(c.clusterRoleBindings, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("grant-%d", i)},
			Subjects:   []rbacv1.Subject{{Kind: "Group", APIGroup: rbacv1.GroupName, Name: team(i)}, {Kind: "User", APIGroup: rbacv1.GroupName, Name: person(i)}},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: fmt.Sprintf("role-%d", i%20)},
		})
	}
	return c.authorizer()
}

// inCEL is the guardrail of the benchmarks: no shell in production.
func inCEL(b *testing.B) *guardrail.Set {
	b.Helper()
	check, errs := cel.Compile(field.NewPath("spec", "cel"), &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{
		Expression: "!(input.request.verb == 'create' && input.request.resource == 'pods' && input.request.subresource == 'exec')",
		Message:    "no shell in production: ask for a debug container",
	}}}, nil, cel.Options{})
	match, err := guardrail.NewMatch(&v1alpha1.GuardrailMatch{Clusters: &v1alpha1.ClusterMatch{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}}}})
	if len(errs) > 0 || err != nil {
		b.Fatal(errs, err)
	}
	return guardrail.NewSet([]*guardrail.Guardrail{{Name: "no-shell", Digest: "1", Points: 1 << guardrail.Request, Match: match, Check: check}}, nil, guardrail.Options{})
}

// BenchmarkDecide is one decision for a person in four groups, of which one is a team
// that has grants: allowed, refused by the guardrail, and not granted. Beside it is
// Kubernetes' RBAC authorizer with as many bindings, for a request that none of them
// gives. The guardrail is evaluated each time.
func BenchmarkDecide(b *testing.B) {
	policy := inCEL(b)
	who := &user.DefaultInfo{Name: "alice@example.org", UID: "6f8c", Groups: []string{team(38), "payments", "staff", user.AllAuthenticated}}
	for _, n := range []int{100, 1_000, 10_000, 100_000} {
		ix := new(effective.Builder).Build(manyGrants(n, policy))
		for _, tc := range []struct {
			name, verb, resource, subresource string
			want                              effective.Verdict
		}{
			{"Allowed", "get", "pods", "log", effective.Allowed},
			{"Denied", "create", "pods", "exec", effective.Denied},
			{"NotGranted", "delete", "pods", "", effective.NotGranted},
		} {
			b.Run(fmt.Sprintf("grants=%d/index/%s", n, tc.name), func(b *testing.B) {
				q := &effective.Request{
					User: guardrail.User{Name: who.Name, UID: who.UID, Groups: who.Groups}, Cluster: "cluster-0049", Verb: tc.verb, ResourceRequest: true,
					APIVersion: "v1", Resource: tc.resource, Subresource: tc.subresource, Namespace: "ns-3", Name: "api-0", At: noon,
				}
				percentiles(b, func() {
					if d := ix.Decide(q); d.Verdict != tc.want {
						b.Fatalf("%+v", d)
					}
				})
			})
		}
		b.Run(fmt.Sprintf("grants=%d/rbac/NotGranted", n), func(b *testing.B) {
			a := manyBindings(n)
			r := resource("delete", "", "pods", "", "ns-3", "api-0")
			r.User = who
			percentiles(b, func() {
				if d, _, err := a.Authorize(b.Context(), r); err != nil || d == authorizer.DecisionAllow {
					b.Fatal(d, err)
				}
			})
		})
	}
}

// percentiles of how long one call takes.
func percentiles(b *testing.B, call func()) {
	b.Helper()
	took := make([]time.Duration, 0, 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		begin := time.Now()
		call()
		if len(took) < cap(took) {
			took = append(took, time.Since(begin))
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
}
