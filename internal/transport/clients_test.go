package transport

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

// S24: a Secret is used for the cluster that it is labelled with, from
// Sallyport's own namespace, while it is there. (A fake client serves the
// Secrets: which one is read is the whole of what is tested.)
func TestS24ClientsUseOnlyTheirSecret(t *testing.T) {
	ca, _ := keyPair(t)
	good := func(namespace, name, label string) *corev1.Secret {
		s := secretOf(t, kubeconfig(object{"server": "https://h", "certificate-authority-data": ca}, object{"token": canary}))
		s.Namespace, s.Name, s.Labels = namespace, name, map[string]string{v1alpha1.ClusterLabel: label}
		return s
	}
	now := metav1.Now()
	leaving := good("sallyport-system", "leaving", "leaving")
	leaving.DeletionTimestamp, leaving.Finalizers = &now, []string{"example.com/wait"}
	broken := good("sallyport-system", "broken", "broken")
	broken.Data["kubeconfig"] = []byte(canary)
	unlabelled := good("sallyport-system", "unlabelled", "")
	unlabelled.Labels = nil
	secrets := fake.NewClientBuilder().WithObjects(
		good("sallyport-system", "eu-1", "eu-1"), good("tenant", "theirs", "theirs"), leaving, broken, unlabelled,
	).Build()

	cases := map[string]struct{ reason, namespace, member, secret, want string }{
		"Own":            {reason: "The cluster's Secret is used.", namespace: "sallyport-system", member: "eu-1", secret: "eu-1"},
		"OtherCluster":   {reason: "Another cluster's Secret is not.", namespace: "sallyport-system", member: "us-1", secret: "eu-1", want: "metadata.labels[access.sallyport.dev/cluster]"},
		"Unlabelled":     {reason: "Nor is a Secret for another purpose.", namespace: "sallyport-system", member: "", secret: "unlabelled", want: "metadata.labels[access.sallyport.dev/cluster]"},
		"OtherNamespace": {reason: "Nor one of a tenant.", namespace: "sallyport-system", member: "theirs", secret: "theirs", want: "not found"},
		"NoNamespace":    {reason: "No namespace is not any namespace.", namespace: "", member: "theirs", secret: "theirs", want: "not found"},
		"Leaving":        {reason: "Nor one that is being deleted.", namespace: "sallyport-system", member: "leaving", secret: "leaving", want: "metadata.deletionTimestamp"},
		"Broken":         {reason: "What FromSecret refuses reaches nobody.", namespace: "sallyport-system", member: "broken", secret: "broken", want: "data.kubeconfig"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := NewClients(secrets, tc.namespace).For(t.Context(), tc.member, tc.secret)
			if tc.want == "" {
				if err != nil || got == nil {
					t.Errorf("%s\ngot %v", tc.reason, err)
				}
				return
			}
			if err == nil || got != nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%s\ngot %v, want an error with %q", tc.reason, err, tc.want)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the error has what was in the Secret: %v", err)
			}
		})
	}
}

func TestClientsFollowTheSecret(t *testing.T) {
	ca, _ := keyPair(t)
	secret := secretOf(t, kubeconfig(object{"server": "https://h", "certificate-authority-data": ca}, object{"token": "first"}))
	secret.Labels = map[string]string{v1alpha1.ClusterLabel: "eu-1"}
	secret.UID = "1"
	secrets := fake.NewClientBuilder().WithObjects(secret).Build()
	clients := NewClients(secrets, secret.Namespace)
	get := func() client.Client {
		t.Helper()
		c, err := clients.For(t.Context(), "eu-1", "eu-1")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	first := get()
	if get() != first {
		t.Error("a Secret that did not change: got another client, want the one that is there")
	}
	if err := secrets.Get(t.Context(), client.ObjectKeyFromObject(secret), secret); err != nil {
		t.Fatal(err)
	}
	secret.Annotations = map[string]string{"rotated": "yes"}
	if err := secrets.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	second := get()
	if second == first {
		t.Error("a Secret that changed: got the client of before")
	}
	clients.Keep(func(name string) bool { return name == "eu-1" })
	if get() != second {
		t.Error("after Keep of it: got another client")
	}
	clients.Keep(func(string) bool { return false })
	if len(clients.kept) != 0 {
		t.Error("after Keep of none: a client is kept")
	}
	get()
	if err := secrets.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if _, err := clients.For(t.Context(), "eu-1", "eu-1"); !apierrors.IsNotFound(err) {
		t.Errorf("a Secret that is gone: got %v, want NotFound", err)
	}
	if len(clients.kept) != 0 {
		t.Error("a Secret that is gone: its client is kept")
	}
}

// A real member, with a certificate and with a token: RBAC is applied, drift is
// seen, and each member's credential is worth nothing on the other.
func TestMembers(t *testing.T) {
	f := controlplane.ForTest(t, controlplane.Options{Members: []string{"eu-1", "us-1"}})
	secrets := fake.NewClientBuilder().Build()
	clients := NewClients(secrets, "sallyport-system")
	admin := map[string]object{}
	for _, m := range f.Members() {
		config := m.AdminConfig()
		certificate, key := config.CertData, config.KeyData
		if len(certificate) == 0 {
			t.Fatal("the harness gives no certificate")
		}
		admin[m.Name] = object{"client-certificate-data": certificate, "client-key-data": key}
	}
	put := func(name string, at *controlplane.ControlPlane, user object) {
		t.Helper()
		s := secretOf(t, kubeconfig(object{"server": at.URL(), "certificate-authority-data": at.CABundle()}, user))
		s.Name, s.Labels = name, map[string]string{v1alpha1.ClusterLabel: name}
		_ = secrets.Delete(t.Context(), s.DeepCopy())
		if err := secrets.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	role := &rbacv1.ClusterRole{
		TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole"},
		ObjectMeta: metav1.ObjectMeta{Name: "sallyport-test"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}}},
	}
	for name, user := range admin {
		put(name, f.Member(name), user)
		c, err := clients.For(t.Context(), name, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Create(t.Context(), role.DeepCopy()); err != nil {
			t.Errorf("%s: cannot write RBAC: %v", name, err)
		}
		if err := c.List(t.Context(), &corev1.SecretList{}); err == nil {
			t.Errorf("%s: a client for RBAC lists Secrets", name)
		}
	}

	put("eu-1", f.Member("eu-1"), admin["us-1"])
	c, err := clients.For(t.Context(), "eu-1", "eu-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.List(t.Context(), &rbacv1.ClusterRoleList{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("us-1's credential on eu-1: got %v, want Unauthorized", err)
	}

	sa, err := f.Member("eu-1").ServiceAccount(t.Context(), "sallyport-system", "sallyport")
	if err != nil {
		t.Fatal(err)
	}
	put("eu-1", f.Member("eu-1"), object{"token": sa.BearerToken})
	if c, err = clients.For(t.Context(), "eu-1", "eu-1"); err != nil {
		t.Fatal(err)
	}
	if err := c.List(t.Context(), &rbacv1.ClusterRoleList{}); !apierrors.IsForbidden(err) {
		t.Errorf("a token without rights: got %v, want Forbidden", err)
	}

	if err := f.Member("us-1").Stop(); err != nil {
		t.Fatal(err)
	}
	if c, err = clients.For(t.Context(), "us-1", "us-1"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err = c.List(t.Context(), &rbacv1.ClusterRoleList{})
	if err == nil || time.Since(began) > Timeout {
		t.Errorf("a member that is down: got %v after %s", err, time.Since(began))
	}
	if strings.Contains(err.Error(), "PRIVATE") || errors.Is(err, errRedirect) {
		t.Errorf("a member that is down: got %v", err)
	}
}

// astray is a reader that answers with a Secret of another namespace, as a cache
// of all namespaces with a wrong key could.
type astray struct{ client.Reader }

func (astray) Get(_ context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	o.SetNamespace("tenant")
	o.SetName(key.Name)
	o.SetLabels(map[string]string{v1alpha1.ClusterLabel: "eu-1"})
	return nil
}

// S24: what is read is looked at, not only what was asked for.
func TestS24ClientsLookAtTheNamespace(t *testing.T) {
	for _, namespace := range []string{"sallyport-system", ""} {
		_, err := NewClients(astray{}, namespace).For(t.Context(), "eu-1", "eu-1")
		if err == nil || !strings.Contains(err.Error(), "metadata.namespace") {
			t.Errorf("a Secret of another namespace than %q: got %v, want it refused for its namespace", namespace, err)
		}
	}
}
