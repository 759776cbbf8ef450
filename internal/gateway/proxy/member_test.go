package proxy

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/kubernetes"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

// TestS5RealMember: a real API server reads who somebody is exactly as it was written.
func TestS5RealMember(t *testing.T) {
	fleet := controlplane.ForTest(t, controlplane.Options{})
	member := fleet.Hub // any cluster is one
	const namespace, impersonator = "kube-system", "sallyport-impersonator"
	config, err := member.ServiceAccount(t.Context(), namespace, impersonator)
	if err != nil {
		t.Fatal(err)
	}
	rbac := kubernetes.NewForConfigOrDie(member.AdminConfig()).RbacV1()
	if _, err := rbac.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: impersonator}, Rules: []rbacv1.PolicyRule{
		{Verbs: []string{"impersonate"}, APIGroups: []string{""}, Resources: []string{"users", "groups", "serviceaccounts"}},
		{Verbs: []string{"impersonate"}, APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"uids", "userextras/authentication.kubernetes.io/credential-id", "userextras/authentication.kubernetes.io/pod-name"}},
	}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := rbac.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: impersonator}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: impersonator},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: impersonator}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	w := newWorld(t, ok)
	if err := w.members.Set(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "sallyport-gateway", Name: v1alpha1.RouteNamePrefix + "prod",
			Labels: map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue, v1alpha1.ClusterLabel: "prod"},
		},
		Type: v1alpha1.RouteSecretType,
		Data: map[string][]byte{
			v1alpha1.RouteServer: []byte(config.Host), v1alpha1.RouteToken: []byte(config.BearerToken), v1alpha1.RouteCA: member.CABundle(),
		},
	}); err != nil {
		t.Fatal(err)
	}
	w.grants(nil, oncall(func(s *v1alpha1.AccessGrantSpec) {
		s.Subjects = []v1alpha1.Subject{
			{Kind: v1alpha1.GroupSubject, Name: "devs"}, {Kind: v1alpha1.GroupSubject, Name: "größe: 1/2, 50 %"},
			{Kind: v1alpha1.ServiceAccountSubject, Namespace: "ci", Name: "bot"},
		}
	}))
	extra := func(of ...string) map[string][]string {
		return map[string][]string{"authentication.kubernetes.io/credential-id": of}
	}
	tests := map[string]struct {
		reason string
		user   user.DefaultInfo
		groups []string // besides system:authenticated
		code   int      // if it is refused
	}{
		"Plain": {"Name, UID, groups and extra.", user.DefaultInfo{Name: "alice", UID: "6f8c", Groups: []string{"devs", "staff", "system:masters"}, Extra: extra("X509SHA256=ab", "second")}, []string{"devs"}, 0},
		"Names": {"Any letters, and what has a meaning elsewhere.", user.DefaultInfo{Name: "https://issuer.example#Zoë, O'Neil=%41", UID: "ü", Groups: []string{"größe: 1/2, 50 %"}, Extra: extra("名前", "a, b", "")}, []string{"größe: 1/2, 50 %"}, 0},
		"ServiceAccount": {"Its groups are what they are at the hub.",
			user.DefaultInfo{Name: "system:serviceaccount:ci:bot", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:ci", "system:authenticated"}, Extra: map[string][]string{"authentication.kubernetes.io/pod-name": {"bot-0"}}},
			[]string{"system:serviceaccounts", "system:serviceaccounts:ci"}, 0},
		"UnknownExtra": {"What cannot be told exactly is not told.", user.DefaultInfo{Name: "alice", Groups: []string{"devs"}, Extra: map[string][]string{"Scopes": {"read"}}}, nil, 403},
		"Control":      {"Nor what would be read as something else.", user.DefaultInfo{Name: "alice\r\nImpersonate-Group: system:masters", Groups: []string{"devs"}}, nil, 403},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, Prefix+"prod/proxy/apis/authentication.k8s.io/v1/selfsubjectreviews", jsonBody(t, &authenticationv1.SelfSubjectReview{
				TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "SelfSubjectReview"},
			}))
			r.Header.Set("Content-Type", "application/json")
			answer := httptest.NewRecorder()
			w.handler.ServeHTTP(answer, r.WithContext(request.WithUser(t.Context(), &tc.user)))
			if tc.code != 0 {
				if layer, _ := layerOf(t, answer.Body.String()); answer.Code != tc.code || layer != decisionlog.LayerIdentity {
					t.Errorf("%s Got %d: %s", tc.reason, answer.Code, answer.Body)
				}
				return
			}
			var got authenticationv1.SelfSubjectReview
			if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || answer.Code != http.StatusCreated {
				t.Fatalf("%d: %s, %v", answer.Code, answer.Body, err)
			}
			info := user.DefaultInfo{Name: got.Status.UserInfo.Username, UID: got.Status.UserInfo.UID, Groups: got.Status.UserInfo.Groups}
			for k, v := range got.Status.UserInfo.Extra {
				if info.Extra == nil {
					info.Extra = map[string][]string{}
				}
				info.Extra[k] = v
			}
			slices.Sort(info.Groups)
			want := tc.user
			want.Groups = append(slices.Clone(tc.groups), user.AllAuthenticated)
			slices.Sort(want.Groups)
			if diff := cmp.Diff(want, info); diff != "" {
				t.Errorf("%s The member reads (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func jsonBody(t *testing.T, v any) *bytes.Reader {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(raw)
}
