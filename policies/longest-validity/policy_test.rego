package guardrails.longest_validity_test

import data.guardrails.longest_validity as policy

parameters := {"label": "env", "hours": {"prod": 8}, "otherwise": 24}

given(env, validity) := {
	"parameters": parameters, "now": "2026-01-05T10:00:00Z",
	"clusters": [{"labels": {"env": env}}, {"labels": {}}],
	"grant": {"spec": {"validity": validity}},
}

test_from_now if count(policy.deny) == 0 with input as given("prod", {"notAfter": "2026-01-05T18:00:00Z"})

test_too_long if {
	policy.deny == {{
		"message": "must end at most 8 hours after it begins; without spec.validity.notBefore it begins now",
		"field": "spec.validity",
	}} with input as given("prod", {"notAfter": "2026-01-05T18:00:01Z"})
}

test_from_the_beginning if {
	count(policy.deny) == 0 with input as given("prod", {"notBefore": "2026-02-01T00:00:00Z", "notAfter": "2026-02-01T08:00:00Z"})
}

test_no_end if count(policy.deny) == 1 with input as given("dev", {})

test_end_of_time if count(policy.deny) == 1 with input as given("dev", {"notAfter": "9999-12-31T23:59:59Z"})

test_other if count(policy.deny) == 0 with input as given("dev", {"notAfter": "2026-01-06T10:00:00Z"})

test_no_cluster if count(policy.deny) == 0 with input as object.remove(given("prod", {}), ["clusters"])

test_without_parameters if count(policy.deny) == 1 with input as object.remove(given("dev", {}), ["parameters"])
