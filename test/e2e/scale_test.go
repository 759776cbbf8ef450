package e2e

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers"
)

// TestScale brings 2,000 grants to 1,000 members, each on 20, and then changes
// one. No agents run: what is shown is that the works get written, and that the
// number of API writes follows what changed, not how much there is.
func TestScale(t *testing.T) {
	const members, grants, perRing = 1000, 2000, 20
	w := newWorld(t)
	w.must(w.fleet.InstallOCM(w.ctx))
	each := func(n int, do func(i int) error) {
		t.Helper()
		var group errgroup.Group
		group.SetLimit(16)
		for i := range n {
			group.Go(func() error { return do(i) })
		}
		w.must(group.Wait())
	}
	begin := time.Now()
	each(members, func(i int) error {
		return w.fleet.CreateManagedCluster(w.ctx, fmt.Sprintf("m%04d", i), map[string]string{"ring": fmt.Sprint(i / perRing)})
	})
	each(20, func(i int) error {
		return w.hub.Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("team-%d", i)}})
	})
	w.create(podReader())
	grant := func(i int) *v1alpha1.AccessGrant {
		return oncall(func(g *v1alpha1.AccessGrant) {
			g.Namespace, g.Name = fmt.Sprintf("team-%d", i%20), fmt.Sprintf("grant-%04d", i)
			g.Spec.Subjects = []v1alpha1.Subject{{Kind: "Group", Name: fmt.Sprintf("group-%d", i)}}
			g.Spec.Clusters = v1alpha1.ClusterSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"ring": fmt.Sprint(i % (members / perRing))}}}
		})
	}
	each(grants, func(i int) error { return w.hub.Create(w.ctx, grant(i)) })
	t.Logf("%d members and %d grants were made in %s", members, grants, time.Since(begin).Round(time.Second))

	counted := newWrites(0)
	begin = time.Now()
	w.controller(func(o *controllers.Options) { o.WrapClient = counted.wrap })
	hubNow := func() string {
		// What is expensive to compare is compared once, below.
		var works workv1.ManifestWorkList
		w.must(w.hub.List(w.ctx, &works, client.MatchingLabels{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}))
		if len(works.Items) < members {
			return fmt.Sprintf("%d works", len(works.Items))
		}
		return ""
	}
	w.eventually("every member has a work", hubNow)
	w.settled()
	w.eventually("every status is written", func() string {
		var list v1alpha1.AccessGrantList
		w.must(w.hub.List(w.ctx, &list))
		for i := range list.Items {
			// Nobody confirms: there are no agents.
			if c := list.Items[i].Status.Clusters; c == nil || c.Matched != perRing {
				return list.Items[i].Name + " has none"
			}
		}
		return ""
	})
	t.Logf("the fleet converged in %s", time.Since(begin).Round(100*time.Millisecond))
	total, by := counted.take()
	t.Logf("%d API writes: %v", total, by)
	// A finalizer, a status or two, a role and a binding per grant; a work per member.
	if limit := grants*6 + members*2; total > limit {
		t.Errorf("%d writes are more than the %d that there is reason for", total, limit)
	}

	for _, c := range []struct {
		name  string
		do    func()
		limit int
	}{
		{"one grant gets another subject", func() {
			w.change("team-7", "grant-0007", func(g *v1alpha1.AccessGrant) {
				g.Spec.Subjects = []v1alpha1.Subject{{Kind: "Group", Name: "others"}}
			})
		}, perRing + 4 + 4}, // its works; two roles and bindings on the hub; statuses
		{"one grant is made", func() { w.create(grant(grants)) }, perRing + 2 + 5},
		{"nothing means anything new", func() {
			w.change("team-7", "grant-0007", func(g *v1alpha1.AccessGrant) { g.Spec.Reason = "another reason" })
		}, 3},
	} {
		begin := time.Now()
		c.do()
		w.settled()
		w.eventually("the statuses are up to date", func() string {
			var list v1alpha1.AccessGrantList
			w.must(w.hub.List(w.ctx, &list))
			for i := range list.Items {
				if g := &list.Items[i]; g.Status.ObservedGeneration != g.Generation {
					return g.Name + " is behind"
				}
			}
			return ""
		})
		total, by := counted.take()
		t.Logf("%s: %d API writes in %s: %v", c.name, total, time.Since(begin).Round(10*time.Millisecond), by)
		if total > c.limit {
			t.Errorf("%s: %d writes are more than the %d that there is reason for", c.name, total, c.limit)
		}
	}
}
