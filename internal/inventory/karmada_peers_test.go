//go:build peers

package inventory

import (
	"fmt"
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
	// The hub may find it up for a last time before it finds it down for good.
	w.problems(t, there, 1)
	fresh := watch(t, f)
	until(t, "the kinds were looked for", func() bool {
		return fresh.kinds.Status(ManagedClusterKind.GroupKind()).State == served.Absent
	})
	if members, _, err := fresh.Fleet(ctx); err == nil {
		t.Errorf("a process that starts while it is down: got %v, want an error", members.Members())
	}

	if err := f.StartKarmadaAggregatedAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	fresh.problems(t, there, 0)
}

// problems waits until the fleet has those members, and that many problems are
// told.
func (w *watching) problems(t *testing.T, want map[string]fleet.Delivery, n int) {
	t.Helper()
	until(t, fmt.Sprintf("%d problems are told", n), func() bool { return len(w.eventually(t, want)) == n })
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for began := time.Now(); !is(); time.Sleep(20 * time.Millisecond) { // a poll, up to the deadline
		if time.Since(began) > time.Minute {
			t.Fatalf("not after a minute: %s", what)
		}
	}
}
