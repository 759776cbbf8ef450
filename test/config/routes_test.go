package config_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	msav1beta1 "open-cluster-management.io/managed-serviceaccount/apis/authentication/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/test/controlplane"
)

const (
	gatewayNamespace = "sallyport-gateway"
	impersonator     = "sallyport-impersonator"
)

var routeRights = map[string]right{
	"Routes":        {reason: "A token per member, for the gateway.", resources: "secrets", verbs: read + " create update delete", namespace: gatewayNamespace},
	"MassDeletion":  {reason: "One by one, by name.", resources: "secrets", verbs: "deletecollection", namespace: gatewayNamespace, refused: true},
	"OtherObjects":  {reason: "The gateway itself is not its business.", resources: "configmaps pods serviceaccounts", verbs: read + " " + write, namespace: gatewayNamespace, refused: true},
	"OwnSecrets":    {reason: "Kubeconfigs are read, never written.", resources: "secrets", verbs: write, namespace: namespace, refused: true},
	"SecretsNearby": {reason: "S24: secrets of others are not its business.", resources: "secrets", verbs: read, namespace: "kube-system", refused: true},
}

// installRoutes gives the controller its rights in the gateway's namespace.
func installRoutes(t *testing.T, hub client.Client) {
	t.Helper()
	must(t, client.IgnoreAlreadyExists(hub.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: gatewayNamespace}})))
	for _, object := range build(t, "../../config/gateway/routes") {
		must(t, hub.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("test")))
	}
}

func testRouteRights(t *testing.T, admin client.Client, account *kubernetes.Clientset) {
	installRoutes(t, admin)
	testRights(t, account, routeRights)
}

// installAddOn makes Open Cluster Management's managed-serviceaccount add-on look as
// if it were there for the cluster, with its agent in namespace agents.
func installAddOn(t *testing.T, hub *controlplane.ControlPlane, cluster string) {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "open-cluster-management.io/managed-serviceaccount").Output()
	must(t, err)
	must(t, hub.InstallCRDs(t.Context(), filepath.Join(strings.TrimSpace(string(dir)), "config/crd/bases")))
	admin := clientFor(t, hub.AdminConfig())
	addOn := addOnOf(cluster)
	must(t, admin.Create(t.Context(), addOn))
	must(t, unstructured.SetNestedField(addOn.Object, "agents", "status", "namespace"))
	must(t, admin.Status().Update(t.Context(), addOn))
}

func addOnOf(cluster string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "addon.open-cluster-management.io/v1alpha1", "kind": "ManagedClusterAddOn",
		"metadata": map[string]any{"namespace": cluster, "name": "managed-serviceaccount"}, "spec": map[string]any{},
	}}
}

// testRoutes: the controller has routes to a member by the add-on, whose part the
// test plays, and to one by its kubeconfig.
func testRoutes(t *testing.T, fleet *controlplane.Fleet, byAddOn, byKubeconfig string) {
	hub, member := clientFor(t, fleet.Hub.AdminConfig()), clientFor(t, fleet.Member(byAddOn).AdminConfig())
	key := client.ObjectKey{Namespace: byAddOn, Name: impersonator}
	account := &msav1beta1.ManagedServiceAccount{}
	eventually(t, "the add-on is asked for an account", func(ctx context.Context) string {
		if err := hub.Get(ctx, key, account); err != nil {
			return err.Error()
		}
		return ""
	})
	must(t, member.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "agents"}}))
	on := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "agents", Name: impersonator}}
	must(t, member.Create(t.Context(), on))
	token := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](24 * 3600)}}
	must(t, member.SubResource("token").Create(t.Context(), on, token))
	must(t, hub.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Data:       map[string][]byte{"token": []byte(token.Status.Token), "ca.crt": fleet.Member(byAddOn).CABundle()},
	}))
	cluster := &clusterv1.ManagedCluster{}
	must(t, hub.Get(t.Context(), client.ObjectKey{Name: byAddOn}, cluster))
	cluster.Spec.ManagedClusterClientConfigs = []clusterv1.ClientConfig{{URL: fleet.Member(byAddOn).URL()}}
	must(t, hub.Update(t.Context(), cluster))
	account.Status.TokenSecretRef = &msav1beta1.SecretRef{Name: key.Name, LastRefreshTimestamp: metav1.NewTime(time.Unix(0, 0))}
	must(t, hub.Status().Update(t.Context(), account))

	for _, name := range []string{byAddOn, byKubeconfig} {
		eventually(t, "there is a route to "+name, func(ctx context.Context) string {
			if err := hub.Get(ctx, client.ObjectKey{Namespace: gatewayNamespace, Name: "route-" + name}, &corev1.Secret{}); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	must(t, hub.Delete(t.Context(), addOnOf(byAddOn)))
	eventually(t, "route and account are taken away with the add-on", func(ctx context.Context) string {
		route := hub.Get(ctx, client.ObjectKey{Namespace: gatewayNamespace, Name: "route-" + byAddOn}, &corev1.Secret{})
		asked := hub.Get(ctx, key, account)
		if !apierrors.IsNotFound(route) || !apierrors.IsNotFound(asked) {
			return fmt.Sprintf("the route: %v, the account: %v", route, asked)
		}
		return ""
	})
}
