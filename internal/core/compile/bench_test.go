package compile

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

var benchNow = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// benchSnapshot is n grants over a fleet of the size, each on 20 clusters: half
// of them by an AccessRole in two namespaces, half by rules of their own.
func benchSnapshot(n, members int, by subject.Path) Snapshot {
	rnd := rand.New(rand.NewPCG(1, 2))
	s := Snapshot{Guardrails: unguarded, Now: benchNow, Roles: map[string]*v1alpha1.AccessRoleSpec{}}
	for i := range 20 {
		s.Roles[fmt.Sprintf("role-%d", i)] = &v1alpha1.AccessRoleSpec{Rules: []v1alpha1.PolicyRule{
			{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{"", "apps"}, Resources: []string{"pods", fmt.Sprintf("r%d", i)}},
			{Verbs: []string{"create"}, APIGroups: []string{""}, Resources: []string{"pods/exec"}},
		}}
	}
	var reported []fleet.Member
	for i := range members {
		reported = append(reported, fleet.Member{
			Name: fmt.Sprintf("cluster-%04d", i), Accepted: true, Delivery: fleet.ManifestWork, Paths: by,
			Impersonator: karmadaImpersonator,
			Labels:       map[string]string{"ring": fmt.Sprint(i % (max(members/20, 1)))},
		})
	}
	s.Fleet = fleet.New(reported)
	for i := range n {
		g := v1alpha1.AccessGrantSpec{
			Reason:   "bench",
			Subjects: []v1alpha1.Subject{{Kind: "Group", Name: fmt.Sprintf("team-%d", rnd.IntN(1+n/5))}, {Kind: "User", Name: fmt.Sprintf("user-%d", rnd.IntN(1+n/2))}},
			Clusters: v1alpha1.ClusterSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"ring": fmt.Sprint(rnd.IntN(max(members/20, 1)))}}},
		}
		ns := v1alpha1.NamespaceName(fmt.Sprintf("ns-%d", rnd.IntN(1+n/10)))
		if i%2 == 0 {
			g.Access = []v1alpha1.AccessEntry{{RoleRef: &v1alpha1.RoleReference{Kind: "AccessRole", Name: fmt.Sprintf("role-%d", rnd.IntN(20))}, Namespaces: []v1alpha1.NamespaceName{ns, "shared"}}}
		} else {
			g.Access = []v1alpha1.AccessEntry{{Rules: []v1alpha1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods/log", fmt.Sprintf("x%d", rnd.IntN(50))}}}, Namespaces: []v1alpha1.NamespaceName{ns}}}
		}
		s.Grants = append(s.Grants, Grant{Namespace: fmt.Sprintf("team-%d", i%100), Name: fmt.Sprintf("grant-%d", i), Spec: &g, Source: "GitSync sallyport-system/sallyport-sync main@sha1:0123456789012345678901234567890123456789"})
	}
	return s
}

var sizes = []int{100, 1_000, 10_000}

// BenchmarkCompileFull compiles everything from nothing. The target of
// the project for 10,000 grants over 1,000 members is 2 s and 1 GiB.
func BenchmarkCompileFull(b *testing.B) {
	for _, by := range []subject.Path{subject.Gateway, subject.Gateway | subject.Karmada} {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("grants=%d/karmada=%t", n, by.Has(subject.Karmada)), func(b *testing.B) {
				s := benchSnapshot(n, 1000, by)
				var out Output
				b.ReportAllocs()
				for b.Loop() {
					out = Grants(s)
				}
				b.StopTimer()
				works, bytes := 0, 0
				for _, m := range out.Members {
					works += len(m.Works)
					for _, w := range m.Works {
						for _, o := range w.Objects {
							bytes += len(o.JSON)
						}
					}
				}
				runtime.GC()
				var mem runtime.MemStats
				runtime.ReadMemStats(&mem)
				b.ReportMetric(float64(mem.HeapInuse)/(1<<20), "MiB-live")
				b.ReportMetric(float64(works), "works")
				b.ReportMetric(float64(bytes)/float64(max(works, 1)), "B/work")
				runtime.KeepAlive(out)
			})
		}
	}
}

// BenchmarkCompileOne compiles after one grant of many was changed. The target of
// the project is 5 ms.
func BenchmarkCompileOne(b *testing.B) {
	for _, by := range []subject.Path{subject.Gateway, subject.Gateway | subject.Karmada} {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("grants=%d/karmada=%t", n, by.Has(subject.Karmada)), func(b *testing.B) {
				s := benchSnapshot(n, 1000, by)
				var c Compiler
				c.Grants(s)
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					i++
					changed := s.Grants[i%n].Spec.DeepCopy()
					changed.Subjects[0].Name = fmt.Sprintf("changed-%d", i)
					s.Grants[i%n].Spec = changed
					c.Grants(s)
				}
			})
		}
	}
}
