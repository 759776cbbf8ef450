package guardrails.no_secrets_read_test

import data.guardrails.no_secrets_read as policy

parameters := {"memberRoles": ["ClusterRole/view"]}

given(rule) := {"parameters": parameters, "access": [{"field": "spec.access[0]", "known": true, "rules": [rule]}]}

bound(name) := {"parameters": parameters, "access": [{
	"field": "spec.access[0]", "known": false, "rules": [],
	"role": {"kind": "ClusterRole", "name": name},
}]}

asked(request) := {"parameters": parameters, "request": request}

test_refused if {
	policy.deny == {{"message": "reads Secrets in production: spec.access[0]", "field": "spec.access"}} with input as given({"apiGroups": [""], "resources": ["secrets"], "verbs": ["watch"]})
}

test_stars if count(policy.deny) == 1 with input as given({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]})

test_allowed if count(policy.deny) == 0 with input as given({"apiGroups": ["example.com"], "resources": ["secrets"], "verbs": ["get"]})

test_unknown_role if {
	some reason in policy.deny with input as bound("edit")
	contains(reason.message, "ClusterRole/edit")
}

test_trusted_role if count(policy.deny) == 0 with input as bound("view")

test_without_parameters if {
	count(policy.deny) == 1 with input as object.remove(bound("view"), ["parameters"])
}

test_refused_request if count(policy.deny) == 1 with input as asked({"apiGroup": "", "resource": "secrets", "subresource": "", "verb": "list"})

test_allowed_request if count(policy.deny) == 0 with input as asked({"apiGroup": "", "resource": "secrets", "subresource": "", "verb": "create"})
