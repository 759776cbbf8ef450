//go:build peers

package inventory

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

// A real Karmada aggregated API server comes under an Inventory that is running.
// While it is down, its clusters are still members.
func TestKarmada(t *testing.T) {
	f := controlplane.ForTest(t, controlplane.Options{Members: []string{"prod-eu-1"}})
	ctx := t.Context()
	w := watch(t, f)
	w.eventually(t, map[string]fleet.Delivery{})
	if err := f.StartKarmadaAggregatedAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.JoinKarmada(ctx, "prod-eu-1", map[string]string{"env": "prod"}); err != nil {
		t.Fatal(err)
	}
	there := map[string]fleet.Delivery{"prod-eu-1": fleet.KarmadaWork}
	w.eventually(t, there)
	members, _, err := w.Fleet(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := members.Get("prod-eu-1")
	want := fleet.Member{
		Name: "prod-eu-1", Labels: got.Labels, Claims: got.Claims, Accepted: true, Availability: got.Availability,
		Delivery: fleet.KarmadaWork, Paths: subject.Gateway | subject.Karmada,
		Impersonator: types.NamespacedName{Namespace: "karmada-cluster", Name: "karmada-impersonator"},
	}
	if diff := cmp.Diff(want, got); diff != "" || got.Labels["env"] != "prod" {
		t.Errorf("the member (-want +got):\n%s", diff)
	}

	if err := f.StopKarmadaAggregatedAPIServer(); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); w.kinds.Status(KarmadaClusterKind.GroupKind()).State != served.Stale; time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("got %+v, want Stale", w.kinds.Status(KarmadaClusterKind.GroupKind()))
		}
	}
	if problems := w.eventually(t, there); len(problems) != 1 {
		t.Errorf("while it is down: got problems %v, want one", problems)
	}
	fresh := watch(t, f)
	time.Sleep(time.Second)
	if members, _, err := fresh.Fleet(ctx); err == nil {
		t.Errorf("a process that starts while it is down: got %v, want an error", members.Members())
	}

	if err := f.StartKarmadaAggregatedAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	if problems := fresh.eventually(t, there); len(problems) != 0 {
		t.Errorf("when it is back: got problems %v", problems)
	}
}
