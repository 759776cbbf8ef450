package rego

import (
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// SetClock of a check, for its rests.
func SetClock(c guardrail.Check, now func() time.Time) { c.(*check).now = now }

// Rest is how long a policy rests.
const Rest = rest
