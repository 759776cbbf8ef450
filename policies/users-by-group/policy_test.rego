package guardrails.users_by_group_test

import data.guardrails.users_by_group as policy

given(subject) := {"parameters": {"users": ["emergency"]}, "grant": {"spec": {"subjects": [subject]}}}

test_group if count(policy.deny) == 0 with input as given({"kind": "Group", "name": "payments"})

test_user if {
	policy.deny == {{
		"message": "names people, who come and go: name a group instead of ann",
		"field": "spec.subjects",
	}} with input as given({"kind": "User", "name": "ann"})
}

test_allowed_user if count(policy.deny) == 0 with input as given({"kind": "User", "name": "emergency"})

test_without_parameters if {
	count(policy.deny) == 1 with input as object.remove(given({"kind": "User", "name": "emergency"}), ["parameters"])
}
