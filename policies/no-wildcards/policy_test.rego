package guardrails.no_wildcards_test

import data.guardrails.no_wildcards as policy

parameters := {"nonResourceURLs": ["/healthz/*"], "memberRoles": ["ClusterRole/view"]}

given(rule) := {"parameters": parameters, "access": [{"field": "spec.access[0]", "known": true, "rules": [rule]}]}

bound(name) := {"parameters": parameters, "access": [{
	"field": "spec.access[0]", "known": false, "rules": [],
	"role": {"kind": "ClusterRole", "name": name},
}]}

test_allowed if count(policy.deny) == 0 with input as given({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]})

test_verbs if count(policy.deny) == 1 with input as given({"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]})

test_resources if count(policy.deny) == 1 with input as given({"apiGroups": [""], "resources": ["*/exec"], "verbs": ["get"]})

test_groups if count(policy.deny) == 1 with input as given({"apiGroups": ["*"], "resources": ["pods"], "verbs": ["get"]})

test_paths if count(policy.deny) == 1 with input as given({"nonResourceURLs": ["*"], "verbs": ["get"]})

test_allowed_paths if count(policy.deny) == 0 with input as given({"nonResourceURLs": ["/healthz/*"], "verbs": ["get"]})

test_unknown_role if count(policy.deny) == 1 with input as bound("cluster-admin")

test_trusted_role if count(policy.deny) == 0 with input as bound("view")

test_without_parameters if count(policy.deny) == 1 with input as object.remove(bound("view"), ["parameters"])
