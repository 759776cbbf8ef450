package cel

import (
	"fmt"

	"github.com/sallyport-dev/sallyport/internal/policy/coverage"
)

// counted is a check that counts.
type counted struct{ *check }

func (r *reached) mark(held bool) {
	switch {
	case r == nil:
	case held:
		r.yes.Store(true)
	default:
		r.no.Store(true)
	}
}

// Coverage of each outcome of each validation, and of each messageExpression.
func (c counted) Coverage() coverage.Report {
	var out coverage.Report
	part := func(i int, hit bool, missed string) {
		out.Total++
		if hit {
			out.Reached++
			return
		}
		out.Missed = append(out.Missed, fmt.Sprintf("validations[%d]: %s", i, missed))
	}
	for i := range c.validations {
		v := &c.validations[i]
		part(i, v.reached.yes.Load(), "never true")
		part(i, v.reached.no.Load(), "never false")
		if v.says != nil {
			part(i, v.reached.said.Load(), "messageExpression never gave a message")
		}
	}
	return out
}
