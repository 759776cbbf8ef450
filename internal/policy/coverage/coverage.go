// Package coverage says which parts of a policy its examples have reached. Engines
// count where they are asked to, which is when an author tests a policy and never
// when the policy is in force.
package coverage

// Report is what was reached.
type Report struct {
	// Reached of Total parts: lines of Rego that can be evaluated, or each outcome,
	// true and false, of each validation in CEL.
	Reached, Total int
	// Missed parts, in the order of the policy, each in words that lead an author to
	// it, such as "line 12" or "validations[1]: never false".
	Missed []string
}

// Counter is a check that counts.
type Counter interface {
	// Coverage by all evaluations so far.
	Coverage() Report
}
