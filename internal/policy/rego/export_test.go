package rego

import (
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// SetClock of a check, for its rests.
func SetClock(c guardrail.Check, now func() time.Time) { c.(*check).now = now }

// Askers that a check remembers.
func Askers(c guardrail.Check) int { return len(c.(*check).askers) }

// Rest is how long a policy rests, and Strikes after how many misses.
const (
	Rest    = rest
	Strikes = strikes
)
