package main

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

const grants, members = 10_000, 1_000

// policies by which the same grants are compiled.
var policies = []struct {
	name string
	load func(b *testing.B) []*guardrail.Guardrail
}{
	{"none", func(*testing.B) []*guardrail.Guardrail { return nil }},
	{"library", func(b *testing.B) []*guardrail.Guardrail { return loaded(b, "guardrail.yaml", inForce, 20) }},
	{"rego", func(b *testing.B) []*guardrail.Guardrail { return loaded(b, "guardrail.rego.yaml", inRego, 20) }},
}

func setOf(guardrails ...*guardrail.Guardrail) *guardrail.Set {
	return guardrail.NewSet(guardrails, nil, guardrail.Options{})
}

// BenchmarkGuardedFull compiles and judges everything from nothing.
func BenchmarkGuardedFull(b *testing.B) {
	for _, p := range policies {
		b.Run(p.name, func(b *testing.B) {
			s := tenants(grants, members)
			s.Guardrails = setOf(p.load(b)...)
			var c *compile.Compiler
			var out compile.Output
			measure(b, func(int) {
				c = &compile.Compiler{}
				out = c.Grants(s)
			})
			judged(b, out)
			runtime.GC()
			var mem runtime.MemStats
			runtime.ReadMemStats(&mem)
			b.ReportMetric(float64(mem.HeapInuse)/(1<<20), "MiB-live")
			runtime.KeepAlive(c)
		})
	}
}

// BenchmarkGuardedOne changes one grant of those that stand.
func BenchmarkGuardedOne(b *testing.B) {
	for _, p := range policies {
		b.Run(p.name, func(b *testing.B) {
			s := tenants(grants, members)
			s.Guardrails = setOf(p.load(b)...)
			var c compile.Compiler
			judged(b, c.Grants(s))
			measure(b, func(i int) {
				changed := s.Grants[i%grants].Spec.DeepCopy()
				changed.Subjects[0].Name = fmt.Sprintf("changed-%d", i)
				s.Grants[i%grants].Spec = changed
				c.Grants(s)
			})
		})
	}
}

// BenchmarkGuardedMore puts one more guardrail in force, and takes it out again.
func BenchmarkGuardedMore(b *testing.B) {
	s := tenants(grants, members)
	all := loaded(b, "guardrail.yaml", inForce, 20)
	more := append(loaded(b, "guardrail.yaml", []string{"admin-expires"}, 1), all...)
	sets := []*guardrail.Set{setOf(all...), setOf(more...)}
	s.Guardrails = sets[0]
	var c compile.Compiler
	judged(b, c.Grants(s))
	measure(b, func(i int) {
		s.Guardrails = sets[i%2]
		c.Grants(s)
	})
}

// BenchmarkGuardedLater is a pass when every judgement that depends on the time has
// to be made again.
func BenchmarkGuardedLater(b *testing.B) {
	s := tenants(grants, members)
	s.Guardrails = setOf(loaded(b, "guardrail.yaml", inForce, 20)...)
	var c compile.Compiler
	judged(b, c.Grants(s))
	measure(b, func(i int) {
		s.Now = now.Add(time.Duration(i%300) * guardrail.Renewal) // the grants end after 360
		c.Grants(s)
	})
}

// measure what a call takes, the first of which is number 1, in time and in processor
// time. The timer is stopped after it.
func measure(b *testing.B, call func(i int)) {
	b.Helper()
	b.ReportAllocs()
	i, before := 0, processorTime()
	for b.Loop() {
		i++
		call(i)
	}
	b.StopTimer()
	b.ReportMetric(float64(processorTime()-before)/float64(i), "cpu-ns/op")
}
