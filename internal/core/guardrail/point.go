package guardrail

import "github.com/sallyport-dev/sallyport/api/v1alpha1"

// Point is a place at which guardrails are asked. It is not in the input: a policy
// cannot answer differently at one and at another.
type Point uint8

// The points. The zero Point is none.
const (
	_ Point = iota
	// Plan is before the commit.
	Plan
	// Admission is when the hub's API server takes a grant.
	Admission
	// Compile is on what a grant compiles to, as long as it stands.
	Compile
	// Request is on each request to a member.
	Request
)

var pointNames = [...]v1alpha1.GuardrailPoint{
	Plan: v1alpha1.PointPlan, Admission: v1alpha1.PointAdmission, Compile: v1alpha1.PointCompile, Request: v1alpha1.PointRequest,
}

// String is the point as the API spells it.
func (p Point) String() string {
	if p == 0 || int(p) >= len(pointNames) {
		return "Invalid"
	}
	return string(pointNames[p])
}

// Points is a set of points.
type Points uint8

// GrantPoints are those at which grants are judged, and the default.
const GrantPoints = 1<<Plan | 1<<Admission | 1<<Compile

// PointsOf are the points that the API names; GrantPoints if it names none.
func PointsOf(names []v1alpha1.GuardrailPoint) Points {
	if len(names) == 0 {
		return GrantPoints
	}
	var s Points
	for _, n := range names {
		for p := Plan; p <= Request; p++ {
			if pointNames[p] == n {
				s |= 1 << p
			}
		}
	}
	return s
}

// Has reports whether the point is in the set.
func (s Points) Has(p Point) bool { return p != 0 && s&(1<<p) != 0 }
