package guardrails.no_rbac_writes_test

import data.guardrails.no_rbac_writes as policy

parameters := {"memberRoles": ["ClusterRole/view", "ClusterRole/edit"]}

given(rule) := {"parameters": parameters, "access": [{"field": "spec.access[0]", "known": true, "rules": [rule]}]}

bound(name) := {"parameters": parameters, "access": [{
	"field": "spec.access[0]", "known": false, "rules": [],
	"role": {"kind": "ClusterRole", "name": name},
}]}

asked(request) := {"parameters": parameters, "request": request}

test_refused if {
	policy.deny == {{"message": "changes RBAC on the member: spec.access[0]", "field": "spec.access"}} with input as given({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["patch"]})
}

test_stars if count(policy.deny) == 1 with input as given({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]})

test_allowed if count(policy.deny) == 0 with input as given({"apiGroups": ["rbac.example.com"], "resources": ["roles"], "verbs": ["patch"]})

test_unknown_role if {
	some reason in policy.deny with input as bound("admin")
	contains(reason.message, "ClusterRole/admin")
}

test_trusted_role if count(policy.deny) == 0 with input as bound("view")

test_without_parameters if {
	count(policy.deny) == 1 with input as object.remove(bound("view"), ["parameters"])
}

test_refused_request if count(policy.deny) == 1 with input as asked({"apiGroup": "authorization.openshift.io", "resource": "rolebindings", "subresource": "", "verb": "create"})

test_allowed_request if count(policy.deny) == 0 with input as asked({"apiGroup": "rbac.authorization.k8s.io", "resource": "roles", "subresource": "", "verb": "get"})
