package guardrail

import "time"

// Answers are what guardrails said of one input. Asked again about the same input,
// a guardrail that has answered is not evaluated once more: only one that is new,
// that could not be evaluated, or that looks at the instant.
type Answers map[*Guardrail][]Reason

// reuse is what a guardrail said, and whether that still holds.
func (a Answers) reuse(g *Guardrail) ([]Reason, bool) {
	reasons, ok := a[g]
	if !ok || g.Check == nil || g.Check.Timed() || len(reasons) > 0 && reasons[0].Failed {
		return nil, false
	}
	return reasons, true
}

// Renewal is how long the judgement of a grant may be used whose guardrails look
// at the instant. Exceptions do not wait for it: Judgement.Next is exact.
const Renewal = time.Minute
