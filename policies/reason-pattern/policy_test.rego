package guardrails.reason_pattern_test

import data.guardrails.reason_pattern as policy

given(reason) := {"parameters": {"pattern": "^PAY-[0-9]+$", "hint": "name a ticket"}, "grant": {"spec": {"reason": reason}}}

test_matches if count(policy.deny) == 0 with input as given("PAY-1")

test_differs if {
	policy.deny == {{"message": "spec.reason says too little: name a ticket", "field": "spec.reason"}} with input as given("PAY-x")
}

test_without_parameters if count(policy.deny) == 1 with input as object.remove(given("PAY-1"), ["parameters"])
