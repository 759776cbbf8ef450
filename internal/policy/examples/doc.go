// Package examples tests guardrails by examples: grants and requests that a policy
// has to allow, and such as it has to refuse, with the messages that people get.
//
// # A policy folder
//
//	guardrail.yaml       the Guardrail, in any engine
//	guardrail.rego.yaml  optional: the same policy in Rego, held to the same examples
//	examples.yaml        the examples
//	policy.rego          optional: the module of the Guardrail, for opa; byte for byte the same
//	policy_test.rego     optional: tests for opa
//	README.md            the risk and the source
//
// # examples.yaml
//
//	now: "2026-01-05T10:00:00Z"        # the instant; an example may have its own
//	roles:                             # AccessRoles by name, each with its rules
//	  pod-operator:
//	  - {apiGroups: [""], resources: [pods/exec], verbs: [create]}
//	fleet:                             # clusters; one that an example names has to be here
//	- {name: prod-eu-1, labels: {env: prod}, claims: {region: eu}}
//	namespaces:                        # labels of the hub's namespaces
//	  payments: {labels: {tier: tenant}}
//	examples:
//	- name: exec without a ticket      # unique in the file
//	  why: One sentence for the page of the policy.
//	  grant:                           # an AccessGrant; apiVersion and kind may be left out
//	    metadata: {name: oncall, namespace: payments}
//	    spec: {…}
//	  source: {kind: GitSync, name: hub, author: "Ann <ann@example.com>"}   # optional
//	  expect: refused
//	  messages:                        # all that the guardrail says, in any order
//	  - exec in prod needs a ticket
//	  - {message: "exec in prod needs a ticket", field: spec.reason}        # the field as well
//	- name: exec at night
//	  why: A request has the grants that would allow it instead of a grant.
//	  now: "2026-01-05T23:00:00Z"
//	  request:
//	    user: {name: ann, groups: [oncall]}
//	    cluster: prod-eu-1
//	    verb: create
//	    resource: pods                 # without resource: path
//	    subresource: exec
//	    namespace: payments
//	    name: api-0
//	  grants:
//	  - {namespace: payments, name: oncall, reason: "PAY-1"}
//	  parameters: {from: 9, to: 17}    # optional, instead of the Guardrail's own
//	  expect: refused
//	  messages: ["…"]
//
// An example expects that the guardrail has nothing to say (allowed), that it
// objects (refused, whatever its enforcement), that it cannot be evaluated (failed),
// or that by its match or points it is not asked (unasked). A guardrail without an
// allowed and a refused example is not tested: one proves nothing without the other.
//
// A grant goes through the compiler and the Set that judge grants in force, at a
// point that the guardrail has, so that what is tested is what will be.
package examples
