package guardrails.no_everyone_test

import data.guardrails.no_everyone as policy

parameters := {
	"groups": ["system:authenticated"],
	"prefixes": ["system:serviceaccounts:"],
	"users": ["system:anonymous"],
}

given(kind, name) := {"parameters": parameters, "grant": {"spec": {"subjects": [{"kind": kind, "name": name}]}}}

test_group if count(policy.deny) == 0 with input as given("Group", "payments")

test_everybody if {
	policy.deny == {{
		"message": "gives access to everybody: system:authenticated",
		"field": "spec.subjects",
	}} with input as given("Group", "system:authenticated")
}

test_prefix if count(policy.deny) == 1 with input as given("Group", "system:serviceaccounts:ci")

test_user if count(policy.deny) == 1 with input as given("User", "system:anonymous")

test_user_is_no_group if count(policy.deny) == 0 with input as given("User", "system:authenticated")

test_without_parameters if count(policy.deny) == 1 with input as object.remove(given("Group", "payments"), ["parameters"])
