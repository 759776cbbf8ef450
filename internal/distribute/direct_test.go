package distribute

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
)

// TestDirectConfirmation: a confirmation is of what was ordered then. Ordered again
// after something else, it has to be confirmed again, since the member may hold
// the other by now.
func TestDirectConfirmation(t *testing.T) {
	c := Direct{Namespace: "sallyport-system"}
	order := func(grants map[string]string, live *corev1.ConfigMap) *corev1.ConfigMap {
		t.Helper()
		p := parcels(t, grants)[0]
		var before client.Object
		if live != nil {
			before = live
		}
		o, err := c.Wrap(p, before)
		if err != nil {
			t.Fatal(err)
		}
		return o.(*corev1.ConfigMap)
	}
	alice := map[string]string{"alice": "a"}
	both := map[string]string{"alice": "a", "bob": "a"}

	first := order(alice, nil)
	if err := Report(first, nil, nil, true); err != nil {
		t.Fatal(err)
	}
	if !c.Standing(first).Confirmed {
		t.Fatal("a confirmed order is not confirmed")
	}
	if same := order(alice, first); !c.Standing(same).Confirmed {
		t.Error("an order that did not change lost its confirmation")
	}
	back := order(alice, order(both, first))
	s := c.Standing(back)
	if s.Confirmed {
		t.Error("an order that nobody has carried out since is taken for confirmed")
	}
	if !s.MayHold(compile.GrantLabel("team/bob")) {
		t.Error("bob's access is taken for gone, though the member may hold it")
	}
}
