package member

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/inventory"
)

const namespace = "sallyport-system"

// known is the fleet that an inventory tells of.
type known struct {
	members []fleet.Member
	err     error
}

func (k *known) Fleet(context.Context) (*fleet.Fleet, []inventory.Problem, error) {
	return fleet.New(k.members), nil, k.err
}

func TestReconcile(t *testing.T) {
	direct := func(name, env string) fleet.Member {
		return fleet.Member{Name: name, Accepted: true, Delivery: fleet.Direct, Labels: map[string]string{"env": env}, Secret: "kubeconfig-of-" + name}
	}
	// Something of the same label that Sallyport did not make.
	foreign := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "foreign", Labels: map[string]string{v1alpha1.ClusterLabel: "a"}}}
	c := fake.NewClientBuilder().WithObjects(foreign).Build()
	fleetOf := &known{}
	r := &Reconciler{Client: c, Inventory: fleetOf, Namespace: namespace}
	expect := func(reason string, want map[string]string) {
		t.Helper()
		_, err := r.Reconcile(t.Context(), ctrl.Request{})
		if !errors.Is(err, fleetOf.err) {
			t.Fatal(err)
		}
		var list corev1.ConfigMapList
		if err := c.List(t.Context(), &list, client.InNamespace(namespace)); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, cm := range list.Items {
			got[cm.Name] = cm.Data["member.json"]
		}
		want["foreign"] = ""
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s\n%s", reason, diff)
		}
	}
	expect("No fleet, nothing to describe.", map[string]string{})
	fleetOf.members = []fleet.Member{direct("a", "prod"), direct("b", "dev"), {Name: "ocm", Delivery: fleet.ManifestWork, Secret: "too"}}
	both := map[string]string{"member-a": `{"labels":{"env":"prod"}}`, "member-b": `{"labels":{"env":"dev"}}`}
	expect("What only a kubeconfig tells of is described, without a word on the kubeconfig.", both)
	expect("Once.", both)
	fleetOf.members = []fleet.Member{direct("a", "dev")}
	expect("It is changed and removed with the fleet; what others made stays.", map[string]string{"member-a": `{"labels":{"env":"dev"}}`})
	fleetOf.err = errors.New("the hub does not answer")
	fleetOf.members = nil
	expect("A fleet that cannot be read takes nothing away.", map[string]string{"member-a": `{"labels":{"env":"dev"}}`})
}
