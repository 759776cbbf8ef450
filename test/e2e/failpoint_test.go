package e2e

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers"
)

// TestKilledAtEveryWrite (S12, S16) kills the controller after its first write,
// its second, and so on, in each phase of a grant's life, and starts another:
// what stands in the end is exactly what the grants say, and a grant that is
// deleted does not go before its access has.
func TestKilledAtEveryWrite(t *testing.T) {
	w := newWorld(t, "m1", "m2")
	w.ocm(map[string]map[string]string{"m1": prod, "m2": dev})
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}, podReader())
	everywhere := v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"m1", "m2"}}

	// Two grants that share a binding; the second has one of its own as well.
	first := func() *v1alpha1.AccessGrant {
		return oncall(func(g *v1alpha1.AccessGrant) { g.Name, g.Spec.Clusters = "first", everywhere })
	}
	second := func() *v1alpha1.AccessGrant {
		return oncall(func(g *v1alpha1.AccessGrant) {
			g.Name, g.Spec.Clusters = "second", everywhere
			g.Spec.Subjects = []v1alpha1.Subject{{Kind: "User", Name: "carol"}}
			g.Spec.Access = append(g.Spec.Access, v1alpha1.AccessEntry{
				Rules: []v1alpha1.PolicyRule{{Verbs: []string{"create"}, APIGroups: []string{""}, Resources: []string{"pods/exec"}}},
			})
		})
	}
	phases := []struct {
		name string
		do   func()
		undo func()
	}{
		{"create", func() { w.create(first(), second()) }, func() { w.delete(first(), second()) }},
		{"narrow", func() {
			w.change("payments", "second", func(g *v1alpha1.AccessGrant) {
				g.Spec.Access, g.Spec.Clusters.Names = g.Spec.Access[:1], []v1alpha1.ClusterName{"m1"}
			})
		}, func() {
			w.change("payments", "second", func(g *v1alpha1.AccessGrant) { g.Spec = second().Spec })
		}},
		{"delete one of two", func() { w.delete(second()) }, func() { w.create(second()) }},
		{"delete both", func() { w.delete(first(), second()) }, func() { w.create(first(), second()) }},
	}

	settle := func() {
		t.Helper()
		stop := w.controller()
		defer stop()
		w.settled("m1", "m2")
		w.eventually("every grant has come to its end", w.undone)
	}
	total := 0
	for _, p := range phases {
		t.Run(p.name, func(t *testing.T) {
			for n := 1; ; n++ {
				p.do()
				cut := newWrites(n)
				stop := w.controller(func(o *controllers.Options) { o.WrapClient = cut.wrap })
				w.eventually(fmt.Sprintf("%s: write %d, or the end", p.name, n), func() string {
					select {
					case <-cut.dead:
						return ""
					default:
						if d := w.inexact("m1", "m2"); d != "" {
							return d
						}
						return w.undone()
					}
				})
				stop()
				died := false
				select {
				case <-cut.dead:
					died = true
				default:
				}
				settle()
				if !died {
					total += n - 1
					return // it was done before the nth write
				}
				p.undo()
				settle()
			}
		})
		// The next phase begins where "create" ended.
		w.create(first(), second())
		w.change("payments", "second", func(g *v1alpha1.AccessGrant) { g.Spec = second().Spec })
		settle()
	}
	t.Logf("killed %d times", total)
	w.delete(first(), second())
	settle()
	w.nothingLeft(w.hub, w.member("m1"), w.member("m2"))
}

// undone says which grant has not come to its end.
func (w *world) undone() string {
	w.Helper()
	var list v1alpha1.AccessGrantList
	w.must(w.hub.List(w.ctx, &list))
	for i := range list.Items {
		g := &list.Items[i]
		if c := w.condition(g.Namespace, g.Name, v1alpha1.ConditionReady); !g.DeletionTimestamp.IsZero() || c != "True Applied" {
			return g.Name + " is " + c
		}
	}
	return ""
}

func (w *world) delete(objects ...client.Object) {
	w.Helper()
	for _, o := range objects {
		w.must(client.IgnoreNotFound(w.hub.Delete(w.ctx, o)))
	}
}

// change a grant, again if somebody else did meanwhile.
func (w *world) change(ns, name string, change func(*v1alpha1.AccessGrant)) {
	w.Helper()
	w.eventually("grant "+name+" is changed", func() string {
		g := w.grant(ns, name)
		if g == nil {
			return "it is gone"
		}
		change(g)
		if err := w.hub.Update(w.ctx, g); err != nil {
			return err.Error()
		}
		return ""
	})
}
