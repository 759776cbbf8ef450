package authz

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	authorizationv1beta1 "k8s.io/api/authorization/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/policy"
)

var noon = time.Date(2030, 1, 7, 12, 0, 0, 0, time.UTC)

// fixed is an index that does not change.
type fixed struct{ *effective.Index }

func (f fixed) Current() *effective.Index { return f.Index }

// index in which group devs may list pods in payments on prod, and on hub, until one
// o'clock, and has ClusterRole view in other on prod; and guardrails, unless others are
// given: nobody executes, nor looks at a path below /debug, nor at kube-system.
func index(t testing.TB, expressions ...string) *effective.Index {
	t.Helper()
	if expressions == nil {
		expressions = []string{
			"!(input.request.subresource == 'exec' && input.request.verb == 'create')",
			"!input.request.path.startsWith('/debug/')", "!input.request.path.startsWith('/api/v1/namespaces/kube-system/')",
		}
	}
	spec := &v1alpha1.GuardrailSpec{Points: []v1alpha1.GuardrailPoint{v1alpha1.PointRequest}, CEL: &v1alpha1.CELPolicy{}}
	for _, e := range expressions {
		spec.CEL.Validations = append(spec.CEL.Validations, v1alpha1.CELValidation{Expression: e, Message: "not for people"})
	}
	g, errs := policy.Compile("no-shell", spec, policy.Options{})
	if len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	return indexBy(g)
}

// indexBy a guardrail, with the grants of index.
func indexBy(g *guardrail.Guardrail) *effective.Index {
	var b effective.Builder
	return b.Build(compile.Snapshot{
		Now: noon, Point: guardrail.Compile, Guardrails: guardrail.NewSet([]*guardrail.Guardrail{g}, nil, guardrail.Options{}),
		Fleet: fleet.New([]fleet.Member{
			{Name: "prod", Accepted: true, Delivery: fleet.Direct, Paths: subject.Gateway},
			{Name: "hub", Accepted: true, Delivery: fleet.Direct, Paths: subject.Gateway},
			{Name: "new", Delivery: fleet.Direct, Paths: subject.Gateway},
		}),
		Grants: []compile.Grant{{Namespace: "payments", Name: "oncall", Spec: &v1alpha1.AccessGrantSpec{
			Reason: "on call", Subjects: []v1alpha1.Subject{{Kind: v1alpha1.GroupSubject, Name: "devs"}},
			Clusters: v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"prod", "hub", "new"}},
			Access: []v1alpha1.AccessEntry{{
				Rules:      []v1alpha1.PolicyRule{{Verbs: []string{"list", "get"}, APIGroups: []string{""}, Resources: []string{"pods", "pods/exec"}}},
				Namespaces: []v1alpha1.NamespaceName{"payments"},
			}},
			Validity: &v1alpha1.Validity{NotAfter: &metav1.Time{Time: noon.Add(time.Hour)}},
		}}, {Namespace: "payments", Name: "viewers", Spec: &v1alpha1.AccessGrantSpec{
			Reason: "to look", Subjects: []v1alpha1.Subject{{Kind: v1alpha1.GroupSubject, Name: "viewers"}},
			Clusters: v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"prod"}},
			Access:   []v1alpha1.AccessEntry{{RoleRef: &v1alpha1.RoleReference{Kind: v1alpha1.ClusterRoleRef, Name: "view"}, Namespaces: []v1alpha1.NamespaceName{"other"}}},
		}}},
	})
}

// ask for a resource, written VERB NAMESPACE RESOURCE [SUBRESOURCE [NAME]], or a path.
func ask(words ...string) authorizationv1.SubjectAccessReviewSpec {
	if len(words) == 2 {
		return authorizationv1.SubjectAccessReviewSpec{NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: words[0], Path: words[1]}}
	}
	words = append(words, "", "")
	return authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
		Verb: words[0], Namespace: words[1], Version: "v1", Resource: words[2], Subresource: words[3], Name: words[4],
	}}
}

// through the hub to a cluster.
func through(verb, group, cluster string) authorizationv1.SubjectAccessReviewSpec {
	spec := ask(verb, "", "clusters", "proxy", cluster)
	spec.ResourceAttributes.Group, spec.ResourceAttributes.Version = group, "v1alpha1"
	return spec
}

// reviews are the same in both versions.
func reviews(t testing.TB, spec authorizationv1.SubjectAccessReviewSpec) map[string][]byte {
	t.Helper()
	review := authorizationv1.SubjectAccessReview{Spec: spec}
	beta := authorizationv1beta1.SubjectAccessReview{Spec: authorizationv1beta1.SubjectAccessReviewSpec{User: spec.User, UID: spec.UID, Groups: spec.Groups}}
	beta.Spec.ResourceAttributes = (*authorizationv1beta1.ResourceAttributes)(spec.ResourceAttributes)
	beta.Spec.NonResourceAttributes = (*authorizationv1beta1.NonResourceAttributes)(spec.NonResourceAttributes)
	for k, v := range spec.Extra {
		if beta.Spec.Extra == nil {
			beta.Spec.Extra = map[string]authorizationv1beta1.ExtraValue{}
		}
		beta.Spec.Extra[k] = authorizationv1beta1.ExtraValue(v)
	}
	out := map[string][]byte{}
	for name, o := range map[string]runtime.Object{"v1": &review, "v1beta1": &beta} {
		o.GetObjectKind().SetGroupVersionKind(authorizationv1.SchemeGroupVersion.WithKind("SubjectAccessReview"))
		raw, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = bytes.Replace(raw, []byte("authorization.k8s.io/v1"), []byte("authorization.k8s.io/"+name), 1)
	}
	return out
}

func post(h http.Handler, path string, body []byte) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	paths(h).ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body)))
	return w
}
