package inventory

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	clusterv1beta1 "open-cluster-management.io/api/cluster/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

// watching is an Inventory of a real hub.
type watching struct {
	*Inventory
	kinds *served.Kinds
	hub   client.Client
}

func watch(t *testing.T, f *controlplane.Fleet) *watching {
	t.Helper()
	ctrl.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	s := scheme(t)
	if err := apiextensionsv1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	hub, err := client.New(f.Hub.AdminConfig(), client.Options{Scheme: s})
	if err != nil {
		t.Fatal(err)
	}
	options := Options{Namespace: "sallyport-system"}
	kinds, err := served.New(f.Hub.AdminConfig(), served.Options{Scheme: s, Retry: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := kinds.Add(Kinds(options)...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- kinds.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &watching{New(kinds, options), kinds, hub}
}

// eventually waits until the fleet has those members, by name and delivery. An
// error on the way is as it should be; a fleet that lacks what it had is not.
func (w *watching) eventually(t *testing.T, want map[string]fleet.Delivery) []Problem {
	t.Helper()
	var problems []Problem
	began, diff := time.Now(), ""
	for time.Since(began) < 30*time.Second {
		f, p, err := w.Fleet(t.Context())
		if err != nil {
			diff = err.Error()
		} else {
			got := map[string]fleet.Delivery{}
			for _, m := range f.Members() {
				got[m.Name] = m.Delivery
			}
			if diff = cmp.Diff(want, got); diff == "" {
				t.Logf("%v after %s", slices.Sorted(maps.Keys(want)), time.Since(began).Round(time.Millisecond))
				return p
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("the fleet (-want +got):\n%s", diff)
	return problems
}

// A plain cluster becomes an OCM hub under an Inventory that is running, and
// ceases to be one.
func TestHub(t *testing.T) {
	f := controlplane.ForTest(t, controlplane.Options{Members: []string{"direct-1"}, ControllerManager: true})
	ctx := t.Context()
	w := watch(t, f)
	w.eventually(t, map[string]fleet.Delivery{})
	for _, namespace := range []string{"sallyport-system", "tenant"} {
		if err := w.hub.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
			t.Fatal(err)
		}
	}

	// S24: the same Secret makes a member in Sallyport's namespace, and nothing in
	// another.
	member := f.Member("direct-1")
	for _, namespace := range []string{"tenant", "sallyport-system"} {
		s := kubeconfigSecret(t, member, namespace)
		s.Labels["access.sallyport.dev/cluster"] = map[string]string{"tenant": "intruder", "sallyport-system": "direct-1"}[namespace]
		if err := w.hub.Create(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	if problems := w.eventually(t, map[string]fleet.Delivery{"direct-1": fleet.Direct}); len(problems) > 0 {
		t.Errorf("a good Secret: got problems %v", problems)
	}

	if err := f.InstallOCM(ctx); err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string]string{"prod-eu-1": "prod", "prod-us-1": "prod", "dev-1": "dev"} {
		if err := f.CreateManagedCluster(ctx, name, map[string]string{"env": env}); err != nil {
			t.Fatal(err)
		}
	}
	ocm := map[string]fleet.Delivery{"direct-1": fleet.Direct, "prod-eu-1": fleet.ManifestWork, "prod-us-1": fleet.ManifestWork, "dev-1": fleet.ManifestWork}
	w.eventually(t, ocm)
	t.Run("Placements", func(t *testing.T) { testPlacements(t, f, w) })

	// A slip in a Secret is told, and revokes nothing.
	broken := &corev1.Secret{}
	if err := w.hub.Get(ctx, client.ObjectKey{Namespace: "sallyport-system", Name: "direct-1"}, broken); err != nil {
		t.Fatal(err)
	}
	broken.Data["kubeconfig"] = []byte("CANARY")
	if err := w.hub.Update(ctx, broken); err != nil {
		t.Fatal(err)
	}
	told := []Problem{{Source: "Secret sallyport-system/direct-1", Message: "not used: data.kubeconfig is not a kubeconfig"}}
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if diff := cmp.Diff(told, w.eventually(t, ocm)); diff == "" {
			break
		} else if time.Since(began) > 10*time.Second {
			t.Fatalf("problems (-want +got):\n%s", diff)
		}
	}

	crd := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "managedclusters.cluster.open-cluster-management.io"}}
	if err := w.hub.Delete(ctx, crd); err != nil {
		t.Fatal(err)
	}
	w.eventually(t, map[string]fleet.Delivery{"direct-1": fleet.Direct})
	if err := f.InstallOCM(ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.CreateManagedCluster(ctx, "prod-eu-2", nil); err != nil {
		t.Fatal(err)
	}
	w.eventually(t, map[string]fleet.Delivery{"direct-1": fleet.Direct, "prod-eu-2": fleet.ManifestWork})
}

// OCM's own placement controller decides, and S24: somebody else in its place
// gets no further than the sets that the namespace is bound to.
func testPlacements(t *testing.T, f *controlplane.Fleet, w *watching) {
	ctx := t.Context()
	if err := f.BindClusterSet(ctx, "payments", "global"); err != nil {
		t.Fatal(err)
	}
	if err := f.StartPlacement(ctx); err != nil {
		t.Fatal(err)
	}
	placement := func(name, env string) *clusterv1beta1.Placement {
		return &clusterv1beta1.Placement{
			ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: name},
			Spec: clusterv1beta1.PlacementSpec{Predicates: []clusterv1beta1.ClusterPredicate{{RequiredClusterSelector: clusterv1beta1.ClusterSelector{
				LabelSelector: metav1.LabelSelector{MatchLabels: map[string]string{"env": env}},
			}}}},
		}
	}
	for _, p := range []*clusterv1beta1.Placement{placement("prod", "prod"), placement("none", "staging")} {
		if err := w.hub.Create(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	key := func(name string) types.NamespacedName {
		return types.NamespacedName{Namespace: "payments", Name: name}
	}
	decided := func(want map[types.NamespacedName][]string) {
		t.Helper()
		var got map[types.NamespacedName][]string
		var err error
		for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(20 * time.Millisecond) {
			if got, err = w.Placements(ctx); err == nil && cmp.Equal(want, got) {
				return
			}
		}
		t.Fatalf("placements: %v (-want +got):\n%s", err, cmp.Diff(want, got))
	}
	decided(map[types.NamespacedName][]string{key("prod"): {"prod-eu-1", "prod-us-1"}, key("none"): {}})

	// A tenant's namespace has one set with one cluster. Its decision, with owner
	// and label and all, names that one and another.
	cluster := &clusterv1.ManagedCluster{}
	if err := w.hub.Get(ctx, client.ObjectKey{Name: "dev-1"}, cluster); err != nil {
		t.Fatal(err)
	}
	cluster.Labels["cluster.open-cluster-management.io/clusterset"] = "tenant"
	if err := w.hub.Update(ctx, cluster); err != nil {
		t.Fatal(err)
	}
	for _, o := range []string{
		`{apiVersion: cluster.open-cluster-management.io/v1beta2, kind: ManagedClusterSet, metadata: {name: tenant}}`,
		`{apiVersion: cluster.open-cluster-management.io/v1beta2, kind: ManagedClusterSetBinding, metadata: {name: tenant, namespace: tenant}, spec: {clusterSet: tenant}}`,
		// Scheduling is off, so that OCM's controller does not put it right.
		`{apiVersion: cluster.open-cluster-management.io/v1beta1, kind: Placement, metadata: {name: mine, namespace: tenant, annotations: {cluster.open-cluster-management.io/experimental-scheduling-disable: "true"}}, spec: {}}`,
	} {
		if err := w.hub.Create(ctx, untyped(t, o)); err != nil {
			t.Fatal(err)
		}
	}
	mine := &clusterv1beta1.Placement{}
	if err := w.hub.Get(ctx, client.ObjectKey{Namespace: "tenant", Name: "mine"}, mine); err != nil {
		t.Fatal(err)
	}
	forged := &clusterv1beta1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{
		Namespace: "tenant", Name: "forged", Labels: map[string]string{clusterv1beta1.PlacementLabel: "mine"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "cluster.open-cluster-management.io/v1beta1", Kind: "Placement", Name: "mine", UID: mine.UID}},
	}}
	if err := w.hub.Create(ctx, forged); err != nil {
		t.Fatal(err)
	}
	forged.Status.Decisions = []clusterv1beta1.ClusterDecision{{ClusterName: "dev-1"}, {ClusterName: "prod-eu-1"}}
	if err := w.hub.Status().Update(ctx, forged); err != nil {
		t.Fatal(err)
	}
	decided(map[types.NamespacedName][]string{
		key("prod"): {"prod-eu-1", "prod-us-1"}, key("none"): {}, {Namespace: "tenant", Name: "mine"}: {"dev-1"},
	})
}

func kubeconfigSecret(t *testing.T, member *controlplane.ControlPlane, namespace string) *corev1.Secret {
	t.Helper()
	admin := member.AdminConfig()
	config := clientcmdapi.NewConfig()
	config.CurrentContext = "c"
	config.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "c"}
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: admin.Host, CertificateAuthorityData: admin.CAData}
	config.AuthInfos["c"] = &clientcmdapi.AuthInfo{ClientCertificateData: admin.CertData, ClientKeyData: admin.KeyData}
	raw, err := clientcmd.Write(*config)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), "client-key-data") {
		t.Fatal("the harness gives no certificate")
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: member.Name, Labels: map[string]string{}},
		Data:       map[string][]byte{"kubeconfig": raw},
	}
}
