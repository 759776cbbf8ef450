package effective_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

var sizes = []int{100, 1_000, 10_000, 100_000}

// benchSnapshot is n grants over 1,000 members, each to a team and a user, on 20
// members, of one of 20 roles in one of some namespaces. The grants of everyday are
// those of alice's team.
func benchSnapshot(n int) compile.Snapshot {
	const members = 1000
	s := compile.Snapshot{
		Guardrails: guardrail.NewSet(nil, nil, guardrail.Options{}), Point: guardrail.Compile, Now: noon, Roles: map[string]*v1alpha1.AccessRoleSpec{},
	}
	var reported []fleet.Member
	for i := range members {
		reported = append(reported, fleet.Member{Name: fmt.Sprintf("cluster-%04d", i), Accepted: true, Delivery: fleet.ManifestWork, Paths: subject.Gateway})
	}
	s.Fleet = fleet.New(reported)
	for i := range 20 {
		s.Roles[fmt.Sprintf("role-%d", i)] = &v1alpha1.AccessRoleSpec{Rules: []v1alpha1.PolicyRule{
			{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{"", "apps"}, Resources: []string{"pods", "deployments", "replicasets", fmt.Sprintf("r%d", i)}},
			{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods/log", "events"}},
			{Verbs: []string{"create"}, APIGroups: []string{""}, Resources: []string{"pods/exec", "pods/portforward"}},
		}}
	}
	for i := range n {
		spec := &v1alpha1.AccessGrantSpec{Reason: "bench", Subjects: []v1alpha1.Subject{
			{Kind: "Group", Name: fmt.Sprintf("team-%d", i/5)}, {Kind: "User", Name: fmt.Sprintf("user-%d@example.org", i)},
		}}
		for k := range 20 {
			spec.Clusters.Names = append(spec.Clusters.Names, v1alpha1.ClusterName(fmt.Sprintf("cluster-%04d", (i/5*7+k*50)%members)))
		}
		spec.Access = []v1alpha1.AccessEntry{role("AccessRole", fmt.Sprintf("role-%d", i%20), fmt.Sprintf("ns-%d", i%5))}
		s.Grants = append(s.Grants, compile.Grant{Namespace: fmt.Sprintf("tenant-%d", i%100), Name: fmt.Sprintf("grant-%d", i), Spec: spec, Source: "GitSync s/s main@sha1:0123456789012345678901234567890123456789"})
	}
	return s
}

// benchRequest is of somebody in a team and three groups that have nothing.
func benchRequest() *effective.Request {
	return &effective.Request{
		User:    guardrail.User{Name: "alice@example.org", UID: "6f8c", Groups: []string{"team-7", "payments", "staff", "system:authenticated"}},
		Cluster: "cluster-0049", Verb: "create", ResourceRequest: true, APIVersion: "v1", Resource: "pods", Subresource: "exec",
		Namespace: "ns-3", Name: "api-0", Path: "/api/v1/namespaces/ns-3/pods/api-0/exec", At: noon,
	}
}

// BenchmarkDecide decides with a guardrail in Go, so that what a policy costs is left
// out: test/rbac has the same with CEL, beside Kubernetes' RBAC authorizer.
func BenchmarkDecide(b *testing.B) {
	noExec := refuses("no-exec", "no exec", func(in *guardrail.Input) bool { return in.Request.Subresource == "exec" && in.Request.Name == "api-0" })
	for _, n := range sizes {
		s := benchSnapshot(n)
		open := new(effective.Builder).Build(s)
		s.Guardrails = guardrail.NewSet([]*guardrail.Guardrail{noExec}, nil, guardrail.Options{})
		guarded := new(effective.Builder).Build(s)
		for _, tc := range []struct {
			name   string
			ix     *effective.Index
			change func(q *effective.Request)
			want   effective.Verdict
		}{
			{"Allowed", open, func(*effective.Request) {}, effective.Allowed},
			{"NotGranted", open, func(q *effective.Request) { q.Verb = "delete" }, effective.NotGranted},
			{"Denied", guarded, func(*effective.Request) {}, effective.Denied},
		} {
			b.Run(fmt.Sprintf("grants=%d/%s", n, tc.name), func(b *testing.B) {
				q := benchRequest()
				tc.change(q)
				percentiles(b, func() {
					if d := tc.ix.Decide(q); d.Verdict != tc.want {
						b.Fatal(told(d))
					}
				})
			})
		}
	}
}

// percentiles of how long one call takes.
func percentiles(b *testing.B, call func()) {
	b.Helper()
	took := make([]time.Duration, 0, 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		begin := time.Now()
		call()
		if len(took) < cap(took) {
			took = append(took, time.Since(begin))
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
}

// BenchmarkBuild makes an index of nothing but a snapshot, and says what it keeps,
// that which the Builder has for the next one included.
func BenchmarkBuild(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("grants=%d", n), func(b *testing.B) {
			s := benchSnapshot(n)
			before := live()
			var kept *effective.Builder
			for b.Loop() {
				kept = new(effective.Builder)
				kept.Build(s)
			}
			b.ReportMetric(float64(live()-before)/(1<<20), "MiB-live")
			runtime.KeepAlive(kept)
			runtime.KeepAlive(s)
		})
	}
}

func live() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkRebuild is what follows the change of one grant.
func BenchmarkRebuild(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("grants=%d", n), func(b *testing.B) {
			s := benchSnapshot(n)
			var builder effective.Builder
			builder.Build(s)
			i := 0
			percentiles(b, func() {
				i++
				changed := s.Grants[i%n].Spec.DeepCopy()
				changed.Subjects[1].Name = fmt.Sprintf("changed-%d", i)
				s.Grants[i%n].Spec = changed
				builder.Build(s)
			})
		})
	}
}

// BenchmarkWhoCan asks about the whole fleet and about one cluster, without guardrails
// on requests and with one.
func BenchmarkWhoCan(b *testing.B) {
	s := benchSnapshot(10_000)
	open := new(effective.Builder).Build(s)
	s.Guardrails = guardrail.NewSet([]*guardrail.Guardrail{refuses("no", "no", func(in *guardrail.Input) bool { return in.Request.Resource == "secrets" })}, nil, guardrail.Options{})
	guarded := new(effective.Builder).Build(s)
	for _, tc := range []struct {
		name, cluster string
		ix            *effective.Index
	}{{"fleet", "", open}, {"cluster", "cluster-0049", open}, {"guarded-fleet", "", guarded}, {"guarded-cluster", "cluster-0049", guarded}} {
		b.Run(tc.name, func(b *testing.B) {
			q := &effective.Query{Cluster: tc.cluster, Verb: "create", ResourceRequest: true, Resource: "pods", Subresource: "exec", Namespace: "ns-3", At: noon}
			percentiles(b, func() {
				if tc.ix.WhoCan(q) == nil {
					b.Fatal("nobody")
				}
			})
		})
	}
}

// BenchmarkCanI lists what alice may do on the fleet.
func BenchmarkCanI(b *testing.B) {
	s := benchSnapshot(10_000)
	s.Guardrails = guardrail.NewSet([]*guardrail.Guardrail{refuses("no", "no", func(in *guardrail.Input) bool { return in.Request.Subresource == "exec" })}, nil, guardrail.Options{})
	ix := new(effective.Builder).Build(s)
	u := benchRequest().User
	percentiles(b, func() {
		if ix.CanI(&u, "", noon) == nil {
			b.Fatal("nothing")
		}
	})
}
