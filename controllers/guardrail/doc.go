// Package guardrail tells, in their statuses, which guardrails are in force and which
// exceptions are honoured. It decides nothing: what is in force is what the policy
// snapshot says, and this is its word to people and to kstatus.
package guardrail
