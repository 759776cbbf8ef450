package compile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// FuzzEffectsAreWhatIsDelivered: S15. What grants are said to give, by subject,
// namespace and rule, is what the compiled objects give on members.
func FuzzEffectsAreWhatIsDelivered(f *testing.F) {
	fuzz(f, 200, func(t *testing.T, c *choices) {
		s := newWorld(c).snapshot()
		var e Effects
		all, next := e.Of(s)
		o := Grants(s)
		if diff := cmp.Diff(given(o), gifts(s, all)); diff != "" {
			t.Fatalf("what is given differs (-Grants +Effects):\n%s", diff)
		}
		if !next.Equal(o.Next) {
			t.Fatalf("next is %s, Grants says %s", next, o.Next)
		}
		for _, g := range all {
			r, _ := o.Result(g.Key())
			var on []string
			for _, i := range g.Clusters {
				on = append(on, s.Fleet.Members()[i].Name)
			}
			if diff := cmp.Diff(r.Clusters, on); diff != "" {
				t.Fatalf("clusters of %s (-Grants +Effects):\n%s", g.Key(), diff)
			}
			if len(on) > 0 && r.Phase != Active {
				t.Fatalf("%s gives something and is not active", g.Key())
			}
		}
	})
}

// gifts are what the grants give on members, in the words of given.
func gifts(s Snapshot, all []*Given) map[gift]bool {
	out := map[gift]bool{}
	for _, g := range all {
		for _, i := range g.Clusters {
			m := &s.Fleet.Members()[i]
			var names []string
			for _, sub := range g.Subjects {
				binding := rbacv1.RoleBinding{Subjects: sub.OnMember(nil, m.Paths)}
				bound, _ := boundBy(&Object{Object: &binding})
				names = append(names, bound...)
			}
			for _, a := range g.Access {
				rights := []string{a.Kind + "/" + a.Name}
				if a.Known {
					rights = nil
					for i := range a.Rules {
						rights = append(rights, string(marshal(a.Rules[i:i+1])))
					}
				}
				for _, name := range names {
					for _, right := range rights {
						out[gift{m.Name, name, a.Namespace, right}] = true
					}
				}
			}
		}
	}
	return out
}

// FuzzEffectsIncremental: whatever the steps and the order, Effects returns what fresh
// ones return; what it returned before stays as it was; and what means the same keeps
// its address.
func FuzzEffectsIncremental(f *testing.F) {
	fuzz(f, 200, func(t *testing.T, c *choices) {
		w := newWorld(c)
		var e Effects
		last, _ := e.Of(w.snapshot())
		story := []string{"begin"}
		for step := 0; step < 12 && len(c.data) > 0; step++ {
			before := tell(last)
			story = append(story, w.edit(c))
			w.grants = shuffle(rand.New(rand.NewPCG(uint64(step), 1)), w.grants)
			var fresh Effects
			want, wantNext := fresh.Of(w.snapshot())
			frozen := freeze(w.snapshot())
			now, next := e.Of(w.snapshot())
			if diff := cmp.Diff(frozen, freeze(w.snapshot())); diff != "" {
				t.Fatalf("after %q the snapshot was changed (-before +after):\n%s", story, diff)
			}
			if diff := cmp.Diff(tell(want), tell(now)); diff != "" {
				t.Fatalf("after %q Effects differs from fresh ones (-fresh +kept):\n%s", story, diff)
			}
			if !soon(wantNext, next) {
				t.Fatalf("after %q next is %s, of fresh ones %s", story, next, wantNext)
			}
			if diff := cmp.Diff(before, tell(last)); diff != "" {
				t.Fatalf("after %q what was returned before has changed:\n%s", story, diff)
			}
			if again, _ := e.Of(w.snapshot()); !slices.Equal(now, again) {
				t.Fatalf("after %q, asked again, Effects has other addresses", story)
			}
			last = now
		}
	})
}

// soon: what was judged earlier is judged again earlier.
func soon(fresh, kept time.Time) bool {
	return kept.Equal(fresh) || !kept.IsZero() && (fresh.IsZero() || kept.Before(fresh))
}

func tell(all []*Given) []string {
	var out []string
	for _, g := range all {
		out = append(out, fmt.Sprintf("%+v", *g))
	}
	return out
}

// TestEffectsOrder: by namespace, then by name, whatever bytes come after it.
func TestEffectsOrder(t *testing.T) {
	s := benchSnapshot(0, 3, subject.Gateway)
	one := benchSnapshot(1, 3, subject.Gateway).Grants[0]
	for _, key := range []string{"a-b/x", "b/a", "a/y", "a/x", "a/x"} {
		g := one
		g.Namespace, g.Name, _ = strings.Cut(key, "/")
		s.Grants = append(s.Grants, g)
	}
	var e Effects
	keys := func() (out []string) {
		all, _ := e.Of(s)
		for _, g := range all {
			out = append(out, g.Key())
		}
		return out
	}
	if diff := cmp.Diff([]string{"a/x", "a/y", "a-b/x", "b/a"}, keys()); diff != "" {
		t.Errorf("each once and in order (-want +got):\n%s", diff)
	}
	s.Grants = s.Grants[1:3]
	if diff := cmp.Diff([]string{"a/y", "b/a"}, keys()); diff != "" {
		t.Errorf("without those that went (-want +got):\n%s", diff)
	}
	s.Grants = nil
	if got := keys(); got != nil {
		t.Errorf("of no grants: %q", got)
	}
}

// BenchmarkEffectsOne is what follows the change of one grant among many, which come
// in the order of the last time, or in another.
func BenchmarkEffectsOne(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		s := benchSnapshot(n, 1000, subject.Gateway)
		var e Effects
		e.Of(s)
		for _, order := range []string{"same", "other"} {
			b.Run(fmt.Sprintf("grants=%d/order=%s", n, order), func(b *testing.B) {
				rnd := rand.New(rand.NewPCG(1, 1))
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					i++
					if order == "other" {
						b.StopTimer()
						rnd.Shuffle(n, func(i, j int) { s.Grants[i], s.Grants[j] = s.Grants[j], s.Grants[i] })
						b.StartTimer()
					}
					changed := s.Grants[i%n].Spec.DeepCopy()
					changed.Subjects[0].Name = fmt.Sprintf("changed-%d", i)
					s.Grants[i%n].Spec = changed
					e.Of(s)
				}
			})
		}
	}
}
