package rbac

import (
	"encoding/json"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/kubernetes/pkg/registry/rbac/validation"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
)

// cluster is the RBAC of one cluster, as its API server would hold it.
type cluster struct {
	roles               []*rbacv1.Role
	bindings            []*rbacv1.RoleBinding
	clusterRoles        []*rbacv1.ClusterRole
	clusterRoleBindings []*rbacv1.ClusterRoleBinding
}

// apply objects as they are delivered: from their bytes.
func (c *cluster) apply(t *testing.T, objects []*compile.Object) {
	t.Helper()
	for _, o := range objects {
		switch o.Kind {
		case "Role":
			c.roles = append(c.roles, decoded[rbacv1.Role](t, o))
		case "RoleBinding":
			c.bindings = append(c.bindings, decoded[rbacv1.RoleBinding](t, o))
		case "ClusterRole":
			c.clusterRoles = append(c.clusterRoles, decoded[rbacv1.ClusterRole](t, o))
		case "ClusterRoleBinding":
			c.clusterRoleBindings = append(c.clusterRoleBindings, decoded[rbacv1.ClusterRoleBinding](t, o))
		default:
			t.Fatalf("an object of kind %q", o.Kind)
		}
	}
}

func decoded[T any](t *testing.T, o *compile.Object) *T {
	t.Helper()
	out := new(T)
	if err := json.Unmarshal(o.JSON, out); err != nil {
		t.Fatalf("cannot decode %s %q: %v", o.Kind, o.Name, err)
	}
	return out
}

// authorizer is Kubernetes' own over the objects.
func (c *cluster) authorizer() *rbac.RBACAuthorizer {
	_, static := validation.NewTestRuleResolver(c.roles, c.bindings, c.clusterRoles, c.clusterRoleBindings)
	return rbac.New(static, static, static, static)
}

func allows(t *testing.T, a authorizer.Authorizer, who user.Info, r authorizer.AttributesRecord) bool {
	t.Helper()
	r.User = who
	decision, _, err := a.Authorize(t.Context(), r)
	if err != nil {
		t.Fatalf("cannot authorize %v: %v", r, err)
	}
	return decision == authorizer.DecisionAllow
}

func resource(verb, group, resource, subresource, namespace, name string) authorizer.AttributesRecord {
	return authorizer.AttributesRecord{
		Verb: verb, APIGroup: group, APIVersion: "v1", Resource: resource, Subresource: subresource,
		Namespace: namespace, Name: name, ResourceRequest: true,
	}
}

func path(verb, p string) authorizer.AttributesRecord {
	return authorizer.AttributesRecord{Verb: verb, Path: p}
}

// asked is a request for messages.
func asked(r authorizer.AttributesRecord) string {
	if !r.ResourceRequest {
		return r.Verb + " " + r.Path
	}
	return r.Verb + " " + r.Resource + "/" + r.Subresource + " of " + r.APIGroup + " named " + r.Name + " in " + r.Namespace
}
