package cel_test

import (
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy/cel"
)

var t0 = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func policy(expressions ...string) *v1alpha1.CELPolicy {
	p := &v1alpha1.CELPolicy{}
	for _, x := range expressions {
		p.Validations = append(p.Validations, v1alpha1.CELValidation{Expression: x})
	}
	return p
}

func compile(t testing.TB, p *v1alpha1.CELPolicy) guardrail.Check {
	t.Helper()
	c, errs := cel.Compile(field.NewPath("spec", "cel"), p, parameters(), cel.Options{})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return c
}

func parameters() map[string]any {
	return map[string]any{"hours": number("8"), "share": number("0.5"), "domains": []any{"example.com"}, "on": true}
}

func prod() *guardrail.Cluster {
	return &guardrail.Cluster{
		Name: "prod-1", Labels: map[string]string{"env": "prod", "region": "eu"}, Claims: map[string]string{"version": "1.36"},
	}
}

// grantInput is a grant of everyday: on-call engineers who may look at pods for a
// day, by a role and by rules.
func grantInput() *guardrail.Input {
	view := []rbacv1.PolicyRule{
		{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{""}, Resources: []string{"pods", "pods/log"}},
		{Verbs: []string{"get"}, APIGroups: []string{"apps"}, Resources: []string{"deployments"}, ResourceNames: []string{"api"}},
	}
	return &guardrail.Input{
		Version: guardrail.InputVersion, Now: t0,
		Grant: &guardrail.Grant{
			Metadata: guardrail.Metadata{Namespace: "payments", Name: "oncall", Labels: map[string]string{"team": "payments"}},
			Spec: &v1alpha1.AccessGrantSpec{
				Reason:   "on call: OPS-42",
				Subjects: []v1alpha1.Subject{{Kind: v1alpha1.GroupSubject, Name: "oncall"}, {Kind: v1alpha1.ServiceAccountSubject, Name: "bot", Namespace: "ci"}},
				Clusters: v1alpha1.ClusterSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}}},
				Access: []v1alpha1.AccessEntry{
					{RoleRef: &v1alpha1.RoleReference{Kind: v1alpha1.AccessRoleRef, Name: "view"}, Namespaces: []v1alpha1.NamespaceName{"payments"}},
					{Rules: []v1alpha1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}}}},
				},
				Validity: &v1alpha1.Validity{NotAfter: &metav1.Time{Time: t0.Add(24 * time.Hour)}},
			},
		},
		Namespace: &guardrail.Namespace{Name: "payments", Labels: map[string]string{"tier": "tenant"}},
		Roles:     map[string]*guardrail.Role{"view": {Rules: view}},
		Access: []*guardrail.Access{
			{Role: &guardrail.RoleRef{Kind: "AccessRole", Name: "view"}, Field: "spec.access[0]", Namespaces: []string{"payments"}, Known: true, Rules: view},
			{Field: "spec.access[1]", ClusterWide: true, Known: true, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}}}},
		},
		Clusters: []*guardrail.Cluster{prod()},
		Source:   &guardrail.Source{Kind: "GitSync", Name: "fleet", Revision: "main@sha1:4f2c", Author: "ann@example.com"},
	}
}

// requestInput is a request for the logs of a pod.
func requestInput() *guardrail.Input {
	return &guardrail.Input{
		Version: guardrail.InputVersion, Now: t0,
		Request: &guardrail.RequestInfo{
			User:    guardrail.User{Name: "ann", Groups: []string{"oncall", "system:authenticated"}, Extra: map[string][]string{"scopes": {"a", "b"}}},
			Cluster: prod(), Verb: "create", ResourceRequest: true, APIVersion: "v1", Resource: "pods", Subresource: "attach",
			Namespace: "payments", Name: "api-0", Path: "/api/v1/namespaces/payments/pods/api-0/attach",
		},
		Grants: []*guardrail.GrantInfo{{Namespace: "payments", Name: "oncall", Reason: "on call: OPS-42"}},
	}
}
