package compile

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// worldBytes are the bytes behind the world with that number: the worlds that
// every run of the tests looks at.
func worldBytes(number uint64) []byte {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], number)
	data := make([]byte, 768)
	_, _ = rand.NewChaCha8(seed).Read(data) // never fails
	return data
}

// fuzz makes a target out of a property of worlds: a few hundred worlds in every
// run of the tests, and as many as there is time for under -fuzz.
func fuzz(f *testing.F, worlds uint64, property func(t *testing.T, c *choices)) {
	f.Add([]byte{})
	for n := range worlds {
		f.Add(worldBytes(n))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		property(t, &choices{data})
	})
}

func FuzzOrderOfInputDoesNotMatter(f *testing.F) {
	fuzz(f, 200, func(t *testing.T, c *choices) {
		w := newWorld(c)
		want := bytesOf(Grants(w.snapshot()))
		rnd := rand.New(rand.NewPCG(uint64(c.n(256)), 1))
		for range 3 {
			got := bytesOf(Grants(w.shuffled(rnd).snapshot()))
			if diff := differences(want, got); diff != "" {
				t.Fatalf("the order of the input shows in the output (-want +got):\n%s", diff)
			}
		}
	})
}

func FuzzInputIsNotMutated(f *testing.F) {
	fuzz(f, 200, func(t *testing.T, c *choices) {
		s := newWorld(c).snapshot()
		before := freeze(s)
		out := Grants(s)
		if diff := cmp.Diff(before, freeze(s)); diff != "" {
			t.Fatalf("the compiler changed its input (-before +after):\n%s", diff)
		}
		if again := bytesOf(Grants(s)); again != bytesOf(out) {
			t.Fatalf("compiling twice is not identical:\n%s", differences(bytesOf(out), again))
		}
	})
}

// FuzzIncremental: whatever the steps, a Compiler returns what Grants returns, and
// what it returned before stays as it was.
func FuzzIncremental(f *testing.F) {
	fuzz(f, 200, func(t *testing.T, c *choices) {
		w := newWorld(c)
		var compiler Compiler
		last := compiler.Grants(w.snapshot())
		story := []string{"begin"}
		for step := 0; step < 12 && len(c.data) > 0; step++ {
			lastBytes := bytesOf(last)
			story = append(story, w.edit(c))
			next := compiler.Grants(w.snapshot())
			if diff := differences(bytesOf(Grants(w.snapshot())), bytesOf(next)); diff != "" {
				t.Fatalf("after %q the Compiler differs from Grants (-Grants +Compiler):\n%s", story, diff)
			}
			if diff := differences(lastBytes, bytesOf(last)); diff != "" {
				t.Fatalf("after %q the output before has changed:\n%s", story, diff)
			}
			last = next
		}
	})
}

// where an object stands.
type where struct{ cluster, kind, namespace, name string }

func placed(o Output) map[where]*Object {
	out := map[where]*Object{}
	for _, x := range o.Hub {
		out[where{"", x.Kind, x.Namespace, x.Name}] = x
	}
	for _, m := range o.Members {
		for _, w := range m.Works {
			for _, x := range w.Objects {
				out[where{m.Name, x.Kind, x.Namespace, x.Name}] = x
			}
		}
	}
	return out
}

// ofImpersonator: these are named after the work, and which work a binding is in
// may change with other grants.
func ofImpersonator(name string) bool { return strings.HasPrefix(name, "sallyport:impersonator:") }

// S12: removing a grant removes exactly what only it needed.
func FuzzRemovalRemovesExactly(f *testing.F) {
	fuzz(f, 200, func(t *testing.T, c *choices) {
		w := newWorld(c)
		with := Grants(w.snapshot())
		for i := range w.grants {
			key := w.grants[i].Key()
			rest := *w
			rest.grants = slices.Delete(slices.Clone(w.grants), i, i+1)
			checkRemoval(t, key, with, Grants(rest.snapshot()))
		}
	})
}

func checkRemoval(t *testing.T, key string, with, without Output) {
	t.Helper()
	before, after := placed(with), placed(without)
	for at, x := range after {
		names := slices.Contains(x.Grants, key) || labelsOf(x)[GrantLabel(key)] != ""
		if names {
			t.Errorf("%v names %s, which is gone", at, key)
		}
		if _, ok := before[at]; !ok && !ofImpersonator(at.name) {
			t.Errorf("%v appears when %s goes", at, key)
		}
	}
	for at, x := range before {
		if ofImpersonator(at.name) {
			continue
		}
		names := slices.Contains(x.Grants, key)
		if names != (labelsOf(x)[GrantLabel(key)] != "") {
			t.Errorf("%v: Grants and labels disagree about %s", at, key)
		}
		kept, ok := after[at]
		switch {
		case !ok && !slices.Equal(x.Grants, []string{key}):
			t.Errorf("%v goes with %s, but %q needed it", at, key, x.Grants)
		case ok && !names && string(x.JSON) != string(kept.JSON):
			t.Errorf("%v changes with %s, which it does not name:\n%s", at, key, cmp.Diff(string(x.JSON), string(kept.JSON)))
		}
	}
	rightsBefore, rightsAfter := impersonatorRights(with), impersonatorRights(without)
	for right, grants := range rightsAfter {
		if _, ok := rightsBefore[right]; !ok {
			t.Errorf("an impersonator may %s when %s goes", right, key)
		}
		if grants[key] {
			t.Errorf("an impersonator may %s by the word of %s, which is gone", right, key)
		}
	}
	for right, grants := range rightsBefore {
		if _, ok := rightsAfter[right]; !ok && !grants[key] {
			t.Errorf("an impersonator may not %s any more when %s goes, of which it did not come", right, key)
		}
	}
	if r, ok := without.Result(key); ok {
		t.Errorf("there is a result for %s, which is gone: %v", key, r)
	}
}

// impersonatorRights are the single rights of impersonators, and the grants that
// the objects behind them name.
func impersonatorRights(o Output) map[string]map[string]bool {
	out := map[string]map[string]bool{}
	for at, x := range placed(o) {
		rules := rulesOf(x)
		if !ofImpersonator(at.name) || rules == nil {
			continue
		}
		for _, r := range rules {
			names := r.ResourceNames
			if len(names) == 0 {
				names = []string{"(any)"}
			}
			for _, verb := range r.Verbs {
				for _, group := range append(r.APIGroups, r.NonResourceURLs...) {
					for _, resource := range append(r.Resources, "") {
						for _, name := range names {
							right := fmt.Sprint(at.cluster, at.namespace, " ", verb, " ", group, " ", resource, " ", name)
							if out[right] == nil {
								out[right] = map[string]bool{}
							}
							for _, g := range x.Grants {
								out[right][g] = true
							}
						}
					}
				}
			}
		}
	}
	return out
}

func rulesOf(x *Object) []rbacv1.PolicyRule {
	switch o := x.Object.(type) {
	case *rbacv1.ClusterRole:
		return o.Rules
	case *rbacv1.Role:
		return o.Rules
	}
	return nil
}

func bindingOf(x *Object) (ref rbacv1.RoleRef, subjects []rbacv1.Subject, ok bool) {
	switch o := x.Object.(type) {
	case *rbacv1.ClusterRoleBinding:
		return o.RoleRef, o.Subjects, true
	case *rbacv1.RoleBinding:
		return o.RoleRef, o.Subjects, true
	}
	return rbacv1.RoleRef{}, nil, false
}

func labelsOf(x *Object) map[string]string { return x.Object.(metav1.Object).GetLabels() }

// FuzzShape: what holds of every output, whatever the grants say.
func FuzzShape(f *testing.F) {
	fuzz(f, 200, func(t *testing.T, c *choices) {
		s := newWorld(c).snapshot()
		checkShape(t, s, Grants(s))
	})
}

func checkShape(t *testing.T, s Snapshot, o Output) {
	t.Helper()
	checkObjects(t, "hub", o.Hub)
	for _, x := range o.Hub {
		checkHubRules(t, s, x)
	}
	if !slices.IsSortedFunc(o.Members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("the members are not sorted")
	}
	for _, m := range o.Members {
		if member, ok := s.Fleet.Get(m.Name); !ok || !member.Accepted || member.Delivery == 0 {
			t.Errorf("%s is given something, and is no member that can be: %v", m.Name, member)
		}
		var all []*Object
		names := map[string]bool{}
		for _, w := range m.Works {
			checkWork(t, m.Name, w)
			if names[w.Name] {
				t.Errorf("%s has two works %s", m.Name, w.Name)
			}
			names[w.Name] = true
			all = append(all, w.Objects...)
		}
		if len(all) == 0 {
			t.Errorf("%s is listed without anything", m.Name)
		}
		checkObjects(t, m.Name, all)
	}
	if len(o.Results) != len(s.Grants) {
		t.Errorf("%d results for %d grants", len(o.Results), len(s.Grants))
	}
}

func checkWork(t *testing.T, cluster string, w *Work) {
	t.Helper()
	if !strings.HasPrefix(w.Name, WorkPrefix) {
		t.Errorf("%s: a work is named %q", cluster, w.Name)
	}
	if len(w.Objects) == 0 {
		t.Errorf("%s: %s is empty", cluster, w.Name)
	}
	if !slices.IsSortedFunc(w.Objects, compareObjects) {
		t.Errorf("%s: the objects of %s are not in the order in which to apply them", cluster, w.Name)
	}
	if size := sizeOf(w); size >= manifestLimit {
		t.Errorf("%s: %s has %d bytes", cluster, w.Name, size)
	}
	grants := map[string]bool{}
	for _, x := range w.Objects {
		for _, g := range x.Grants {
			grants[g] = true
		}
	}
	if diff := cmp.Diff(sorted(grants), w.Grants); diff != "" {
		t.Errorf("%s: %s names other grants than its objects do (-objects +work):\n%s", cluster, w.Name, diff)
	}
}

// checkObjects of one cluster: S19, and design rules 7 and 8.
func checkObjects(t *testing.T, cluster string, objects []*Object) {
	t.Helper()
	seen := map[where]bool{}
	for _, x := range objects {
		at := where{cluster, x.Kind, x.Namespace, x.Name}
		if seen[at] {
			t.Errorf("%v is there twice", at)
		}
		seen[at] = true
		if !strings.HasPrefix(x.Name, namePrefix) || strings.ContainsAny(x.Name, "/%") {
			t.Errorf("%v is no name of ours", at)
		}
		checkLabels(t, at, x)
		var decoded struct {
			metav1.TypeMeta `json:",inline"`
		}
		if err := json.Unmarshal(x.JSON, &decoded); err != nil || decoded.Kind != x.Kind || decoded.APIVersion != "rbac.authorization.k8s.io/v1" {
			t.Errorf("%v is delivered as %v: %v", at, decoded, err)
		}
		if cr, ok := x.Object.(*rbacv1.ClusterRole); ok && cr.AggregationRule != nil {
			t.Errorf("%v aggregates", at)
		}
		for _, r := range rulesOf(x) {
			for _, v := range r.Verbs {
				if ofImpersonator(x.Name) && v == "*" {
					t.Errorf("%v: the impersonator may do everything", at)
				}
			}
		}
		_, subjects, _ := bindingOf(x)
		for _, s := range subjects {
			if s.Name == "system:masters" || s.Name == "system:nodes" || s.Name == "" || s.Name == "*" {
				t.Errorf("S7: %v binds %v", at, s)
			}
		}
	}
}

func checkLabels(t *testing.T, at where, x *Object) {
	t.Helper()
	if len(x.Grants) == 0 || !slices.IsSorted(x.Grants) {
		t.Errorf("%v is of the grants %q", at, x.Grants)
	}
	want := map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}
	for _, g := range x.Grants {
		namespace, _, _ := strings.Cut(g, "/")
		want[GrantLabel(g)] = namespace
	}
	if len(x.Grants) <= maxImpersonatorLabels {
		if diff := cmp.Diff(want, labelsOf(x)); diff != "" {
			t.Errorf("%v: labels (-want +got):\n%s", at, diff)
		}
	}
	for l := range labelsOf(x) {
		if strings.Contains(l, "aggregate-to-") {
			t.Errorf("S19: %v has the label %s", at, l)
		}
	}
}

func checkHubRules(t *testing.T, s Snapshot, x *Object) {
	t.Helper()
	if !strings.HasPrefix(x.Name, HubPrefix) {
		t.Errorf("%s is on the hub", x.Name)
	}
	for _, r := range rulesOf(x) {
		if len(r.ResourceNames) == 0 || !slices.IsSorted(r.ResourceNames) {
			t.Errorf("%s: names are %q; without names the rule opens every cluster", x.Name, r.ResourceNames)
		}
		for _, name := range r.ResourceNames {
			if _, ok := s.Fleet.Get(name); !ok {
				t.Errorf("%s names %q, which is no member", x.Name, name)
			}
		}
		if diff := cmp.Diff([]string{"clusters/proxy"}, r.Resources); diff != "" {
			t.Errorf("%s: resources (-want +got):\n%s", x.Name, diff)
		}
		if len(r.Verbs) == 0 || len(r.NonResourceURLs) > 0 {
			t.Errorf("%s: %v", x.Name, r)
		}
		for _, v := range r.Verbs {
			if !slices.Contains([]string{"create", "delete", "get", "patch", "update"}, v) {
				t.Errorf("%s: verb %q", x.Name, v)
			}
		}
		for _, g := range r.APIGroups {
			if g != gatewayGroup && g != karmadaGroup {
				t.Errorf("S17: %s: group %q", x.Name, g)
			}
		}
	}
}

// manifestLimit is what Open Cluster Management accepts, for all manifests of a
// work, with some bytes of framing for each.
const (
	manifestLimit = 500 << 10
	framing       = 16
)

func sizeOf(w *Work) int {
	size := 0
	for _, x := range w.Objects {
		size += len(x.JSON) + framing
	}
	return size
}
