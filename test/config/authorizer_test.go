package config_test

import (
	"maps"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/test/controlplane"
)

const authorizer = "sallyport-authorizer"

// TestAuthorizerInstall: config/authorizer is taken by a real API server, and lets the
// authorizer read what the gateway decides by, and nothing else: no Secret, and nobody is
// asked about anybody.
func TestAuthorizerInstall(t *testing.T) {
	hub := controlplane.ForTest(t, controlplane.Options{}).Hub
	admin := clientFor(t, hub.AdminConfig())
	must(t, admin.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	for _, object := range build(t, "../../config/authorizer") {
		if err := admin.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("test")); err != nil {
			t.Fatalf("cannot apply %s %q: %v", object.GetKind(), object.GetName(), err)
		}
	}
	cfg, err := hub.ServiceAccount(t.Context(), authorizer, authorizer)
	must(t, err)
	rights := maps.Clone(gatewayRights)
	for _, not := range []string{"Routes", "TokenReview", "AccessReview", "Aggregation", "ListsClusters", "OwnWrites"} {
		delete(rights, not) // they are the gateway's own
	}
	t.Run("Rights", func(t *testing.T) { testRights(t, kubernetes.NewForConfigOrDie(cfg), rights) })
	t.Run("PodSecurity", func(t *testing.T) {
		var d appsv1.Deployment
		must(t, admin.Get(t.Context(), client.ObjectKey{Namespace: authorizer, Name: authorizer}, &d))
		pod := &corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta, Spec: d.Spec.Template.Spec}
		pod.Namespace, pod.GenerateName = authorizer, "try-"
		must(t, admin.Create(t.Context(), pod, client.DryRunAll))
	})
}
