package source

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

const syncID = "sallyport-system/sallyport-sync"

func grantRef(name string) Ref {
	return Ref{Group: "access.sallyport.dev", Kind: "AccessGrant", Namespace: "a", Name: name}
}

// built is what Build makes of grants, given as name and reason.
func buildGrants(t *testing.T, grants map[string]string) []Object {
	t.Helper()
	content := map[string]string{".keep": ""}
	for name, reason := range grants {
		content[name+".yaml"] = grant("a", name, reason)
	}
	objects, err := Build(files(content), ".")
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// world is a cluster that does what plans say, as far as plans can tell.
type world struct {
	t         *testing.T
	inventory Inventory
	live      live
	uid       int
}

func newWorld(t *testing.T) *world { return &world{t: t, inventory: Inventory{}, live: live{}} }

func (w *world) plan(revision string, grants map[string]string) plan {
	w.t.Helper()
	p, err := makePlan(syncID, Commit{Revision: revision, Author: "author of " + revision}, buildGrants(w.t, grants), w.inventory, w.live)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// run does at most n of the writes of a plan, then crashes. The order of writes is
// that of converge.
func (w *world) run(p plan, n int) {
	step := func(f func()) {
		if n--; n >= 0 {
			f()
		}
	}
	step(func() { w.inventory = p.inventory })
	after := p.inventory.without(p.gone...)
	for _, c := range p.changes() {
		step(func() {
			m, there := w.live[c.entry.Ref]
			if !there {
				w.uid++
				m = metav1.ObjectMeta{UID: types.UID(fmt.Sprint(w.uid))}
			}
			m.Generation++
			m.Labels, m.Annotations = c.GetLabels(), c.GetAnnotations()
			w.live[c.entry.Ref] = m
			c.entry.UID, c.entry.Generation = m.UID, m.Generation
			after[c.entry.Ref] = c.entry
		})
	}
	for _, r := range p.prune {
		step(func() {
			delete(w.live, r.Ref)
			delete(after, r.Ref)
		})
	}
	step(func() { w.inventory = after })
}

func (w *world) sync(revision string, grants map[string]string) plan {
	w.t.Helper()
	p := w.plan(revision, grants)
	w.run(p, 1<<30)
	return p
}

// summary is a plan in words.
func summary(p plan) map[string][]string {
	out := map[string][]string{}
	for what, changes := range map[string][]change{"create": p.create, "update": p.update, "repair": p.repair} {
		for _, c := range changes {
			out[what] = append(out[what], c.entry.Name+" "+c.entry.Revision)
		}
	}
	for _, r := range p.prune {
		out["prune"] = append(out["prune"], r.Name)
	}
	for what, refs := range map[string][]Ref{"gone": p.gone, "waiting": p.waiting, "conflicts": p.conflicts, "detached": p.detached, "unlisted": p.unlisted} {
		for _, r := range refs {
			out[what] = append(out[what], r.Name)
		}
	}
	return out
}

func TestPlan(t *testing.T) {
	two := map[string]string{"one": "x", "two": "x"}
	edit := func(name string, change func(*metav1.ObjectMeta)) func(*world) {
		return func(w *world) {
			was := w.live[grantRef(name)]
			m := was.DeepCopy()
			change(m)
			w.live[grantRef(name)] = *m
		}
	}
	for name, tc := range map[string]struct {
		reason string
		before func(*world) // after revision r1 with two grants
		grants map[string]string
		want   map[string][]string
	}{
		"Nothing": {
			reason: "An unrelated commit rewrites nothing.",
			grants: two,
			want:   map[string][]string{},
		},
		"One of many": {
			reason: "A commit that changes one object makes one apply, and only that one names the commit.",
			grants: map[string]string{"one": "x", "two": "changed"},
			want:   map[string][]string{"update": {"two r2"}},
		},
		"Added": {
			reason: "A new file is a new object.",
			grants: map[string]string{"one": "x", "two": "x", "three": "x"},
			want:   map[string][]string{"create": {"three r2"}},
		},
		"Removed": {
			reason: "A file that is gone revokes.",
			grants: map[string]string{"one": "x"},
			want:   map[string][]string{"prune": {"two"}},
		},
		"Emptied": {
			reason: "A folder without objects prunes all.",
			want:   map[string][]string{"prune": {"two", "one"}},
		},
		"Edited": {
			reason: "What somebody changed is put right, under the commit that it came from.",
			before: edit("one", func(m *metav1.ObjectMeta) { m.Generation++ }),
			grants: two,
			want:   map[string][]string{"repair": {"one r1"}},
		},
		"Replaced": {
			reason: "An object of the same name and generation is another one.",
			before: edit("one", func(m *metav1.ObjectMeta) { m.UID = "other" }),
			grants: two,
			want:   map[string][]string{"repair": {"one r1"}},
		},
		"Forged provenance": {
			reason: "Annotations say what Git says.",
			before: edit("one", func(m *metav1.ObjectMeta) { m.Annotations[v1alpha1.AuthorAnnotation] = "somebody" }),
			grants: two,
			want:   map[string][]string{"repair": {"one r1"}},
		},
		"Extra annotation": {
			reason: "Annotations of others are theirs.",
			before: edit("one", func(m *metav1.ObjectMeta) { m.Annotations["x"] = "y" }),
			grants: two,
			want:   map[string][]string{},
		},
		"Deleted": {
			reason: "What somebody deleted comes back.",
			before: func(w *world) { delete(w.live, grantRef("one")) },
			grants: two,
			want:   map[string][]string{"create": {"one r1"}},
		},
		"Being deleted": {
			reason: "A finalizer holds it; it is created once it is gone.",
			before: edit("one", func(m *metav1.ObjectMeta) { m.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }),
			grants: two,
			want:   map[string][]string{"waiting": {"one"}},
		},
		"Deleted and removed": {
			reason: "There is nothing left to prune.",
			before: func(w *world) { delete(w.live, grantRef("two")) },
			grants: map[string]string{"one": "x"},
			want:   map[string][]string{"gone": {"two"}},
		},
		"Label taken off and removed": {
			reason: "Nothing without the label is deleted, and nobody is left in the dark.",
			before: edit("two", func(m *metav1.ObjectMeta) { m.Labels = nil }),
			grants: map[string]string{"one": "x"},
			want:   map[string][]string{"detached": {"two"}},
		},
		"Given to another sync and removed": {
			reason: "Another sync's objects are not pruned.",
			before: edit("two", func(m *metav1.ObjectMeta) { m.Annotations[v1alpha1.SyncAnnotation] = "x/y" }),
			grants: map[string]string{"one": "x"},
			want:   map[string][]string{"detached": {"two"}},
		},
		"Of another sync": {
			reason: "Two syncs must not fight over an object.",
			before: func(w *world) {
				w.live[grantRef("three")] = metav1.ObjectMeta{UID: "t", Labels: map[string]string{v1alpha1.ManagedByLabel: v1alpha1.SyncManagedByValue}, Annotations: map[string]string{v1alpha1.SyncAnnotation: "x/y"}}
			},
			grants: map[string]string{"one": "x", "two": "x", "three": "x"},
			want:   map[string][]string{"conflicts": {"three"}},
		},
		"Adopted": {
			reason: "An object made by hand comes under Git.",
			before: func(w *world) { w.live[grantRef("three")] = metav1.ObjectMeta{UID: "t", Generation: 1} },
			grants: map[string]string{"one": "x", "two": "x", "three": "x"},
			want:   map[string][]string{"update": {"three r2"}},
		},
		"By hand": {
			reason: "Objects that are not the sync's are not its business.",
			before: func(w *world) { w.live[grantRef("three")] = metav1.ObjectMeta{UID: "t", Generation: 1} },
			grants: two,
			want:   map[string][]string{},
		},
		"Lost inventory": {
			reason: "Without an inventory nothing is pruned; what may be left over is named.",
			before: func(w *world) { w.inventory = Inventory{} },
			grants: map[string]string{"one": "x"},
			want:   map[string][]string{"update": {"one r2"}, "unlisted": {"two"}},
		},
		"Unknown kind": {
			reason: "What another version applied is left to it.",
			before: func(w *world) {
				r := Ref{Group: "access.sallyport.dev", Kind: "Future", Name: "f"}
				w.inventory = w.inventory.with(Entry{Ref: r})
			},
			grants: two,
			want:   map[string][]string{"detached": {"f"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.sync("r1", two)
			if tc.before != nil {
				tc.before(w)
			}
			if diff := cmp.Diff(tc.want, summary(w.plan("r2", tc.grants))); diff != "" {
				t.Errorf("%s\n-want +got\n%s", tc.reason, diff)
			}
		})
	}
}

// TestPlanOrphansNothing is S12 for the sync: whatever is committed, and wherever
// a pass is killed between two writes, every object with the sync's label is in
// the inventory, and the end is exactly the last commit.
func TestPlanOrphansNothing(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		w := newWorld(t)
		var grants map[string]string
		for round := range 12 {
			grants = map[string]string{}
			for i := range 5 {
				if random.IntN(2) == 0 {
					grants[fmt.Sprint("g", i)] = fmt.Sprint("reason", random.IntN(3))
				}
			}
			w.run(w.plan(fmt.Sprint("r", round), grants), random.IntN(8))
			for ref := range w.live {
				if _, listed := w.inventory[ref]; !listed {
					t.Fatalf("seed %d, round %d: %s is in no inventory", seed, round, ref)
				}
			}
		}
		w.sync("last", grants)
		if p := summary(w.plan("again", grants)); len(p) > 0 {
			t.Fatalf("seed %d: a second pass would still do %v", seed, p)
		}
		if len(w.live) != len(grants) || len(w.inventory) != len(grants) {
			t.Fatalf("seed %d: %d objects and %d entries for %d grants", seed, len(w.live), len(w.inventory), len(grants))
		}
		for ref, m := range w.live {
			if m.Annotations[v1alpha1.RevisionAnnotation] != w.inventory[ref].Revision {
				t.Fatalf("seed %d: %s says %q, the inventory %q", seed, ref, m.Annotations[v1alpha1.RevisionAnnotation], w.inventory[ref].Revision)
			}
		}
	}
}

// TestPlanIsPure: neither the objects nor the inventory are changed.
func TestPlanIsPure(t *testing.T) {
	w := newWorld(t)
	w.sync("r1", map[string]string{"one": "x", "two": "x"})
	objects := buildGrants(t, map[string]string{"one": "changed", "three": "x"})
	snapshot := func() string {
		data, err := json.Marshal([]any{objects, w.inventory.refs(), fmt.Sprint(w.inventory), fmt.Sprint(w.live)})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	before := snapshot()
	if _, err := makePlan(syncID, Commit{Revision: "r2"}, objects, w.inventory, w.live); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, snapshot()); diff != "" {
		t.Errorf("-before +after\n%s", diff)
	}
}
