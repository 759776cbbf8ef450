package lint

import (
	"errors"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// flaky fails so many times, and then objects.
type flaky struct{ left int }

func (f *flaky) Check(*guardrail.Input) ([]guardrail.Violation, error) {
	if f.left--; f.left >= 0 {
		return nil, errors.New("late")
	}
	return []guardrail.Violation{{Message: "no"}}, nil
}

func (*flaky) Timed() bool { return false }

// TestAskAgain: an answer is asked for again before it is said that there is
// none, and one that never comes stays a failure.
func TestAskAgain(t *testing.T) {
	for left, failed := range map[int]bool{0: false, 1: false, 2: false, 3: true, 100: true} {
		set := guardrail.NewSet([]*guardrail.Guardrail{{Name: "g", Points: guardrail.GrantPoints, Check: &flaky{left}}}, nil, guardrail.Options{})
		out := askAgain(compile.Snapshot{
			Grants: []compile.Grant{{Namespace: "a", Name: "b", Spec: &v1alpha1.AccessGrantSpec{}}}, Now: time.Unix(0, 0), Point: guardrail.Plan, Guardrails: set,
		})
		if r := out[0].Judgement.Reasons; len(r) != 1 || r[0].Failed != failed {
			t.Errorf("%d failures: %+v", left, r)
		}
	}
}
