// Package cel evaluates guardrails in the Common Expression Language: Kubernetes'
// own environment, as a ValidatingAdmissionPolicy has it, with the variable input,
// typed after guardrail.Input so that a misspelt field is an error when the policy
// is compiled, and the function rbac.allows.
//
// Programs are planned by this package and not by cel-go's Program, for two
// reasons. The first is safety: cel-go charges a call after it has run, so that one
// call can do all the harm that the limit is there to prevent, and it counts each
// expression by itself. Here what a call will cost is charged before it is made,
// and one budget is for a policy and all its variables. Work is counted and not
// timed, so that a policy that is cut off is cut off on every machine. The second
// is speed: counting that way costs a comparison of two strings nothing.
//
// The same input always has the same answer, so that a request which was passed is passed
// again without an evaluation where all is the same that the policy can look at. Nothing
// may be put into the environment that has a state or a clock of its own.
//
// Values are views of the Go types, made where they are looked at and kept with the
// input, so that many guardrails convert it once. There is no JSON on the way, but
// what is absent is what is absent in JSON: policies in Rego see that document, and
// both have to agree.
package cel
