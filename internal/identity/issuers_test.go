package identity

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	msav1beta1 "open-cluster-management.io/managed-serviceaccount/apis/authentication/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/inventory"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

// testCA is a certificate, which is all that is asked of it.
const testCA = `-----BEGIN CERTIFICATE-----
MIIBPTCB46ADAgECAgEBMAoGCCqGSM49BAMCMA0xCzAJBgNVBAMTAmNhMCAXDTI2
MDEwMTAwMDAwMFoYDzIxMjYwMTAxMDAwMDAwWjANMQswCQYDVQQDEwJjYTBZMBMG
ByqGSM49AgEGCCqGSM49AwEHA0IABB4NejTOxvBHgUfLuulZdplzufnX/38tXYMw
ihiec4yKMWYzLCHgw6HBcULA3MYlA8kOjuFgn7v2wE/MyaIdD/ijMjAwMA8GA1Ud
EwEB/wQFMAMBAf8wHQYDVR0OBBYEFLF8vtRQSrqh9oMunPGlg4fH7fKBMAoGCCqG
SM49BAMCA0kAMEYCIQDnbDwtr4r8b1N2G70L732raKpNCVpqwVzEsF/+DJK1nwIh
APejnPldy4N+gp05fmutPOENnsZQ52wFxB3S1cUfQK3X
-----END CERTIFICATE-----
`

// hub is controller-runtime's fake client, serving every kind.
type hub struct {
	client.Reader
	writes client.Client
}

func (hub) Status(gk schema.GroupKind) served.Status {
	for _, k := range append(inventory.Kinds(inventory.Options{Namespace: "sallyport-system"}), Kinds("x")...) {
		if k.GVK.GroupKind() == gk {
			return served.Status{State: served.Current, GVK: k.GVK}
		}
	}
	return served.Status{State: served.Absent}
}

func newHub(t *testing.T, objects ...client.Object) hub {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, inventory.AddToScheme, AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	c := fake.NewClientBuilder().WithScheme(s).WithObjects(objects...).Build()
	return hub{c, c}
}

func (h hub) inventory() *inventory.Inventory {
	return inventory.New(h, inventory.Options{Namespace: "sallyport-system"})
}

func secretOf(namespace, name string, data map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string][]byte{}}
	for k, v := range data {
		s.Data[k] = []byte(v)
	}
	return s
}

// check an issuer's answer; problem is in the error, and wraps ErrWaits.
func check(t *testing.T, reason string, want, got Route, problem string, err error) {
	t.Helper()
	if problem == "" {
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s\n%v; (-want +got):\n%s", reason, err, diff)
		}
		return
	}
	if err == nil || !errors.Is(err, ErrWaits) || !strings.Contains(err.Error(), problem) {
		t.Errorf("%s\ngot error %v, want ErrWaits with %q", reason, err, problem)
	}
	if err != nil && strings.Contains(err.Error(), "CANARY") {
		t.Errorf("the error quotes a secret: %v", err)
	}
}

func TestKarmadaSecrets(t *testing.T) {
	cluster := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster", "metadata": map[string]any{"name": "m1"},
		"spec": map[string]any{
			"apiEndpoint":           "https://m1:6443",
			"secretRef":             map[string]any{"namespace": "karmada-cluster", "name": "m1"},
			"impersonatorSecretRef": map[string]any{"namespace": "karmada-cluster", "name": "m1-impersonator"},
		},
	}}
	m := &fleet.Member{Name: "m1", Impersonator: types.NamespacedName{Namespace: "karmada-cluster", Name: "karmada-impersonator"}, Issuer: fleet.KarmadaSecret}
	ca := secretOf("karmada-cluster", "m1", map[string]string{"caBundle": testCA, "token": "CANARY-OF-ADMIN"})
	endpoint := inventory.Endpoint{Server: "https://m1:6443", CA: []byte(testCA)}
	impersonator := func(token string) *corev1.Secret {
		return secretOf("karmada-cluster", "m1-impersonator", map[string]string{"token": token})
	}
	cases := map[string]struct {
		reason  string
		secrets []client.Object
		want    Route
		problem string
	}{
		"Unbound": {
			reason:  "The impersonator's token with the cluster's CA, and not the cluster's own token.",
			secrets: []client.Object{ca, impersonator("opaque")},
			want:    Route{Endpoint: endpoint, Token: "opaque", Account: "karmada-cluster/karmada-impersonator"},
		},
		"Bound": {
			reason:  "A token that expires says when.",
			secrets: []client.Object{ca, impersonator(jwtUntil(noon.Add(time.Hour)))},
			want:    Route{Endpoint: endpoint, Token: jwtUntil(noon.Add(time.Hour)), Expires: time.Unix(noon.Add(time.Hour).Unix(), 0), Account: "karmada-cluster/karmada-impersonator"},
		},
		"Expired":  {reason: "An expired token opens nothing.", secrets: []client.Object{ca, impersonator(jwtUntil(noon))}, problem: "has expired"},
		"NoToken":  {reason: "S6: nothing else takes the place of a token.", secrets: []client.Object{ca, impersonator("")}, problem: "has no token"},
		"NotOne":   {reason: "What has blanks would end the header.", secrets: []client.Object{ca, impersonator("CANARY\r\nImpersonate-User: root")}, problem: "has no token"},
		"NoSecret": {reason: "Nor does another Secret.", secrets: []client.Object{ca}, problem: "there is no Secret"},
		"NoCA":     {reason: "Nothing is sent to a server that cannot be verified.", secrets: []client.Object{secretOf("karmada-cluster", "m1", map[string]string{"token": "CANARY"}), impersonator("t")}, problem: "has no caBundle"},
		"BadCA":    {reason: "Nothing is sent to a server that cannot be verified.", secrets: []client.Object{secretOf("karmada-cluster", "m1", map[string]string{"caBundle": "CANARY"}), impersonator("t")}, problem: "no CA"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, append(tc.secrets, cluster.DeepCopy())...)
			got, err := (&KarmadaSecrets{Inventory: h.inventory(), Secrets: h, Now: clock}).Route(t.Context(), m, Route{})
			check(t, tc.reason, tc.want, got, tc.problem, err)
		})
	}
}

var prod = &fleet.Member{Name: "prod-1", Impersonator: types.NamespacedName{Namespace: "agents", Name: "sallyport-impersonator"}, Issuer: fleet.ManagedServiceAccount}

func managed(change ...func(*msav1beta1.ManagedServiceAccount)) *msav1beta1.ManagedServiceAccount {
	a := &msav1beta1.ManagedServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod-1", Name: "sallyport-impersonator", Labels: map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}},
		Spec:       msav1beta1.ManagedServiceAccountSpec{Rotation: msav1beta1.ManagedServiceAccountRotation{Enabled: true, Validity: metav1.Duration{Duration: Validity}}},
		Status: msav1beta1.ManagedServiceAccountStatus{
			TokenSecretRef: &msav1beta1.SecretRef{Name: "sallyport-impersonator"}, ExpirationTimestamp: &metav1.Time{Time: noon.Add(20 * time.Hour)},
		},
	}
	for _, c := range change {
		c(a)
	}
	return a
}

func accountsOn(h hub) *ManagedServiceAccounts {
	return &ManagedServiceAccounts{Inventory: h.inventory(), Client: h.writes, Kinds: h, Secrets: h, Now: clock}
}

func TestManagedServiceAccounts(t *testing.T) {
	cluster := &clusterv1.ManagedCluster{
		ObjectMeta: metav1.ObjectMeta{Name: "prod-1"},
		Spec:       clusterv1.ManagedClusterSpec{HubAcceptsClient: true, ManagedClusterClientConfigs: []clusterv1.ClientConfig{{URL: "https://prod-1:6443"}}},
	}
	behind := cluster.DeepCopy()
	behind.Spec.ManagedClusterClientConfigs = nil
	proxy := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "addon.open-cluster-management.io/v1alpha1", "kind": "ManagedClusterAddOn", "metadata": map[string]any{"namespace": "prod-1", "name": "cluster-proxy"},
	}}
	brought := secretOf("prod-1", "sallyport-impersonator", map[string]string{"token": "opaque", "ca.crt": testCA})
	cases := map[string]struct {
		reason  string
		objects []client.Object
		want    Route
		problem string
	}{
		"Brought": {
			reason:  "Address from the cluster, CA and token from the add-on, and its expiry where the token tells none.",
			objects: []client.Object{cluster, managed(), brought},
			want: Route{
				Endpoint: inventory.Endpoint{Server: "https://prod-1:6443", CA: []byte(testCA)},
				Token:    "opaque", Expires: noon.Add(20 * time.Hour), Account: "agents/sallyport-impersonator",
			},
		},
		"ClusterProxy": {
			reason:  "A member that is not reachable otherwise, through the tunnel.",
			objects: []client.Object{behind, proxy, managed(), brought},
			want: Route{
				Endpoint: inventory.Endpoint{Server: "https://prod-1", CA: []byte(testCA), ServerName: "kubernetes.default.svc", ClusterProxy: true},
				Token:    "opaque", Expires: noon.Add(20 * time.Hour), Account: "agents/sallyport-impersonator",
			},
		},
		"Asked":       {reason: "The add-on is asked, and has not answered yet.", objects: []client.Object{cluster}, problem: "has not been brought a token"},
		"NotYet":      {reason: "Nor here.", objects: []client.Object{cluster, managed(func(a *msav1beta1.ManagedServiceAccount) { a.Status = msav1beta1.ManagedServiceAccountStatus{} })}, problem: "has not been brought a token"},
		"OtherSecret": {reason: "S24: a status does not choose which Secret is read.", objects: []client.Object{cluster, brought, managed(func(a *msav1beta1.ManagedServiceAccount) { a.Status.TokenSecretRef.Name = "admin" })}, problem: "has not been brought a token"},
		"Theirs":      {reason: "An account that somebody else asked for is not taken over.", objects: []client.Object{cluster, brought, managed(func(a *msav1beta1.ManagedServiceAccount) { a.Labels = nil })}, problem: "is not Sallyport's"},
		"NoSecret":    {reason: "What the status says may be gone.", objects: []client.Object{cluster, managed()}, problem: "there is no Secret"},
		"Expired": {
			reason:  "The add-on's agent may have been away for too long.",
			objects: []client.Object{cluster, brought, managed(func(a *msav1beta1.ManagedServiceAccount) { a.Status.ExpirationTimestamp.Time = noon })}, problem: "has expired",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			for _, o := range tc.objects {
				if err := h.writes.Create(t.Context(), o.DeepCopyObject().(client.Object)); err != nil {
					t.Fatal(err)
				}
			}
			got, err := accountsOn(h).Route(t.Context(), prod, Route{})
			check(t, tc.reason, tc.want, got, tc.problem, err)
		})
	}
}

// TestManagedServiceAccountIsKept: asked for once, for a short time, and put right.
func TestManagedServiceAccountIsKept(t *testing.T) {
	h := newHub(t)
	a := accountsOn(h)
	read := func() *msav1beta1.ManagedServiceAccount {
		t.Helper()
		got := &msav1beta1.ManagedServiceAccount{}
		if err := h.Get(t.Context(), client.ObjectKey{Namespace: "prod-1", Name: "sallyport-impersonator"}, got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	for range 2 {
		if _, err := a.Route(t.Context(), prod, Route{}); !errors.Is(err, ErrWaits) {
			t.Fatal(err)
		}
	}
	first := read()
	if diff := cmp.Diff(managed().Spec, first.Spec); diff != "" || first.Labels[v1alpha1.ManagedByLabel] != v1alpha1.ManagedByValue {
		t.Errorf("labels %q, spec (-want +got):\n%s", first.Labels, diff)
	}
	first.Spec.Rotation.Validity.Duration = 8640 * time.Hour
	if err := h.writes.Update(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Route(t.Context(), prod, Route{}); !errors.Is(err, ErrWaits) {
		t.Fatal(err)
	}
	if got := read().Spec.Rotation.Validity.Duration; got != Validity {
		t.Errorf("it stays valid for %s", got)
	}
}

func TestWithdraw(t *testing.T) {
	gone := func(h hub) bool {
		return apierrors.IsNotFound(h.Get(context.Background(), client.ObjectKey{Namespace: "prod-1", Name: "sallyport-impersonator"}, &msav1beta1.ManagedServiceAccount{}))
	}
	ours, theirs := newHub(t, managed()), newHub(t, managed(func(a *msav1beta1.ManagedServiceAccount) { a.Labels = nil }))
	for _, h := range []hub{ours, theirs, newHub(t)} {
		if err := accountsOn(h).Withdraw(t.Context(), "prod-1", "sallyport-impersonator"); err != nil {
			t.Error(err)
		}
	}
	if !gone(ours) || gone(theirs) {
		t.Errorf("ours is gone: %t; theirs: %t", gone(ours), gone(theirs))
	}
	absent := accountsOn(ours)
	absent.Kinds = lacks{}
	if err := absent.Withdraw(t.Context(), "prod-1", "sallyport-impersonator"); err != nil {
		t.Errorf("on a hub without the kind: %v", err)
	}
}

// lacks is a hub that serves none of it.
type lacks struct{ client.Reader }

func (lacks) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return served.ErrAbsent
}
