//go:build peers

package e2e

import (
	"bytes"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// TestKarmadaRoutes: on Karmada's clusters the gateway comes as Karmada's own
// impersonator, with the token that Karmada keeps, and identities arrive whole.
func TestKarmadaRoutes(t *testing.T) {
	w := newWorld(t, "m1")
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: gatewayNamespace}})
	w.must(w.fleet.StartKarmadaAggregatedAPIServer(w.ctx))
	w.must(w.fleet.JoinKarmada(w.ctx, "m1", prod))
	w.must(w.fleet.StartKarmadaControllerManager(w.ctx))
	w.must(w.member("m1").Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}))
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}, podReader())
	w.create(oncall(func(g *v1alpha1.AccessGrant) { g.Spec.Subjects = append(g.Spec.Subjects, userSubject("carol")) }))
	w.controller(gateway)
	w.ready("payments", "oncall", "True Applied")

	kept := &corev1.Secret{}
	w.must(w.hub.Get(w.ctx, client.ObjectKey{Namespace: "karmada-cluster", Name: "m1-impersonator"}, kept))
	route := w.route("m1", anyRoute)
	if !bytes.Equal(route.Data["token"], kept.Data["token"]) || string(route.Data["server"]) != w.fleet.Member("m1").URL() {
		t.Errorf("it leads to %s, by Karmada's token: %t", route.Data["server"], bytes.Equal(route.Data["token"], kept.Data["token"]))
	}
	for name, tc := range map[string]struct {
		as   rest.ImpersonationConfig
		want int
	}{
		"Named":    {credential("carol"), 200},
		"OfGroup":  {credential("alice", "payments-oncall"), 200},
		"Stranger": {credential("bob"), 403},
		"Masters":  {rest.ImpersonationConfig{UserName: "carol", Groups: []string{"system:masters"}}, 403},
	} {
		if got := w.pods(by(route, tc.as), "payments"); got != tc.want {
			t.Errorf("%s: got %d, want %d", name, got, tc.want)
		}
	}

	// The cluster is not to be verified any more: then nothing is sent there.
	cluster := &unstructured.Unstructured{}
	cluster.SetAPIVersion("cluster.karmada.io/v1alpha1")
	cluster.SetKind("Cluster")
	w.eventually("the cluster is changed", func() string {
		w.must(w.hub.Get(w.ctx, client.ObjectKey{Name: "m1"}, cluster))
		w.must(unstructured.SetNestedField(cluster.Object, true, "spec", "insecureSkipTLSVerification"))
		if err := w.hub.Update(w.ctx, cluster); err != nil {
			return fmt.Sprint(err)
		}
		return ""
	})
	w.noRoute("m1")
}
