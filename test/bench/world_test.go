package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/policy"
)

const library = "../../policies"

var now = time.Date(2030, 1, 7, 12, 0, 0, 0, time.UTC)

// inForce are twenty guardrails of the library, in CEL but for the ceiling, which a
// platform team would have all at once.
var inForce = []string{
	"longest-validity", "no-cluster-wide", "no-csr-approval", "no-debug-containers", "no-endpoints-writes",
	"no-escalation", "no-everyone", "no-exec-without-ticket", "no-namespace-writes", "no-nodes-proxy",
	"no-persistent-volumes", "no-port-forward", "no-rbac-writes", "no-secrets-read", "no-token-minting",
	"no-webhook-writes", "no-wildcards", "own-namespaces", "reason-pattern", "tenant-ceiling",
}

// inRego are those of them that the library has in Rego too.
var inRego = []string{
	"longest-validity", "no-escalation", "no-everyone", "no-exec-without-ticket", "no-rbac-writes", "no-secrets-read",
	"no-wildcards", "reason-pattern",
}

func loaded(b *testing.B, file string, names []string, n int) []*guardrail.Guardrail {
	b.Helper()
	out, err := fromLibrary(file, names, n)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// fromLibrary are n guardrails of the library, of names over and over.
func fromLibrary(file string, names []string, n int) (out []*guardrail.Guardrail, _ error) {
	for i := range n {
		name := names[i%len(names)]
		raw, err := os.ReadFile(filepath.Join(library, name, file))
		if err != nil {
			return nil, err
		}
		var g v1alpha1.Guardrail
		if err := yaml.UnmarshalStrict(raw, &g); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		compiled, errs := policy.Compile(fmt.Sprintf("%s-%d", name, i), &g.Spec, policy.Options{})
		if len(errs) > 0 {
			return nil, fmt.Errorf("%s: %w", name, errs.ToAggregate())
		}
		out = append(out, compiled)
	}
	return out, nil
}

// tenants is n grants over a fleet of members, each on twenty of them, by a hundred
// tenants, that pass the guardrails in force: what is refused would be compiled no
// further, and cost less.
func tenants(n, members int) compile.Snapshot {
	rnd := rand.New(rand.NewPCG(1, 2))
	s := compile.Snapshot{
		Point: guardrail.Compile, Now: now,
		Roles: map[string]*v1alpha1.AccessRoleSpec{}, Namespaces: map[string]map[string]string{},
	}
	read := []string{"get", "list", "watch"}
	for i := range 20 {
		workload := []string{"deployments", "statefulsets", "daemonsets", "replicasets"}[i%4]
		s.Roles[fmt.Sprintf("role-%d", i)] = &v1alpha1.AccessRoleSpec{Rules: []v1alpha1.PolicyRule{
			{Verbs: read, APIGroups: []string{""}, Resources: []string{"pods", "services"}},
			{Verbs: read[:1+i%3], APIGroups: []string{"apps"}, Resources: []string{workload}},
			{Verbs: []string{"create"}, APIGroups: []string{""}, Resources: []string{"pods/exec"}},
		}}
	}
	rings := max(members/20, 1)
	var reported []fleet.Member
	for i := range members {
		env := "dev"
		if i%rings%4 == 0 {
			env = "prod"
		}
		reported = append(reported, fleet.Member{
			Name: fmt.Sprintf("cluster-%04d", i), Accepted: true, Delivery: fleet.ManifestWork, Paths: subject.Gateway,
			Labels: map[string]string{"ring": fmt.Sprint(i % rings), "env": env},
		})
	}
	s.Fleet = fleet.New(reported)
	ends := metav1.NewTime(now.Add(6 * time.Hour))
	for i := range n {
		tenant := fmt.Sprintf("team-%d", i%100)
		s.Namespaces[tenant] = map[string]string{"tenant": tenant}
		own := []v1alpha1.NamespaceName{v1alpha1.NamespaceName(tenant), v1alpha1.NamespaceName(fmt.Sprintf("%s-%d", tenant, rnd.IntN(1+n/1000)))}
		g := v1alpha1.AccessGrantSpec{
			Reason: fmt.Sprintf("PAY-%d: on call", i),
			Subjects: []v1alpha1.Subject{
				{Kind: v1alpha1.GroupSubject, Name: fmt.Sprintf("group-%d", rnd.IntN(1+n/5))},
				{Kind: v1alpha1.GroupSubject, Name: fmt.Sprintf("oncall-%d", rnd.IntN(1+n/2))},
			},
			Clusters: v1alpha1.ClusterSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"ring": fmt.Sprint(rnd.IntN(rings))}}},
			Access:   []v1alpha1.AccessEntry{{RoleRef: &v1alpha1.RoleReference{Kind: v1alpha1.AccessRoleRef, Name: fmt.Sprintf("role-%d", rnd.IntN(20))}, Namespaces: own}},
			Validity: &v1alpha1.Validity{NotAfter: &ends},
		}
		if i%2 == 1 {
			rule := v1alpha1.PolicyRule{Verbs: read, APIGroups: []string{""}, Resources: []string{"pods/log", "configmaps"}, ResourceNames: []string{fmt.Sprintf("x-%d", rnd.IntN(50))}}
			g.Access = []v1alpha1.AccessEntry{{Rules: []v1alpha1.PolicyRule{rule}, Namespaces: own[:1]}}
		}
		s.Grants = append(s.Grants, compile.Grant{
			Namespace: tenant, Name: fmt.Sprintf("grant-%d", i), Spec: &g,
			Source: "GitSync sallyport-system/sallyport-sync main@sha1:0123456789012345678901234567890123456789",
			Origin: &guardrail.Source{Kind: "GitSync", Namespace: "sallyport-system", Name: "sallyport-sync", Revision: "main@sha1:0123456789012345678901234567890123456789", Author: "Ada <ada@example.com>"},
		})
	}
	return s
}

// judged checks that no grant was refused, and reports how many could not be judged: a
// machine under load can hold up an evaluation beyond its deadline.
func judged(b *testing.B, out compile.Output) {
	b.Helper()
	undecided := 0
	for _, r := range out.Results {
		switch {
		case r.Judgement.Verdict == guardrail.Undecided:
			undecided++
		case r.Judgement.Verdict != guardrail.Allowed || len(r.Clusters) == 0:
			b.Fatalf("%s gives access on %d clusters: %+v", r.Grant, len(r.Clusters), r.Judgement)
		}
	}
	b.ReportMetric(float64(undecided), "undecided")
}
