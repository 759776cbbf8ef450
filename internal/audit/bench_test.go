package audit

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkReports is a pass in which nothing changed: what each of the grants'
// own passes costs.
func BenchmarkReports(b *testing.B) {
	for name, violations := range map[string]int{"Compliant": 0, "Violations5": 5} {
		b.Run(name, func(b *testing.B) {
			a := fleetOf(10_000, violations)
			b.ReportAllocs()
			for b.Loop() {
				Reports(a)
			}
		})
	}
}

// BenchmarkRender is what a new leader does once: every report as it is written.
func BenchmarkRender(b *testing.B) {
	reports := Reports(fleetOf(10_000, 5))
	b.ReportAllocs()
	for b.Loop() {
		for _, r := range reports {
			results := r.Results()
			date(results, metav1.Timestamp{Seconds: 1})
		}
	}
}
