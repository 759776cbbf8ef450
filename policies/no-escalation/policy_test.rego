package guardrails.no_escalation_test

import data.guardrails.no_escalation as policy

parameters := {"memberRoles": ["ClusterRole/view"]}

given(group, resource, verb) := {"parameters": parameters, "access": [{
	"field": "spec.access[0]", "known": true,
	"rules": [{"apiGroups": [group], "resources": [resource], "verbs": [verb]}],
}]}

bound(name) := {"parameters": parameters, "access": [{
	"field": "spec.access[0]", "known": false, "rules": [],
	"role": {"kind": "ClusterRole", "name": name},
}]}

test_allowed if count(policy.deny) == 0 with input as given("apps", "deployments", "patch")

test_by_name if {
	policy.deny == {{
		"message": "gives escalate, bind or impersonate: spec.access[0]",
		"field": "spec.access",
	}} with input as given("example.com", "anything", "bind")
}

test_constrained if {
	every verb in ["impersonate:user-info", "impersonate-on:user-info:get"] {
		count(policy.deny) == 1 with input as given("", "pods", verb)
	}
}

test_by_star if {
	every x in [["rbac.authorization.k8s.io", "roles"], ["", "serviceaccounts"], ["authentication.k8s.io", "userextras/scopes"], ["*", "*"]] {
		count(policy.deny) == 1 with input as given(x[0], x[1], "*")
	}
}

test_star_elsewhere if count(policy.deny) == 0 with input as given("", "pods", "*")

test_unknown_role if count(policy.deny) == 1 with input as bound("edit")

test_trusted_role if count(policy.deny) == 0 with input as bound("view")

test_without_parameters if count(policy.deny) == 1 with input as object.remove(bound("view"), ["parameters"])
