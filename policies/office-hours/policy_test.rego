package guardrails.office_hours_test

import data.guardrails.office_hours as policy

parameters := {"utcOffset": "1h", "from": 7, "to": 19, "days": ["Monday"]}

asked(now, verb, subresource) := {
	"parameters": parameters, "now": now,
	"request": {
		"verb": verb, "resourceRequest": true, "apiGroup": "", "resource": "pods",
		"subresource": subresource, "path": "/api/v1/pods",
	},
}

night := "2026-01-05T23:00:00Z"

test_by_day if count(policy.deny) == 0 with input as asked("2026-01-05T08:00:00Z", "delete", "")

test_at_night if {
	policy.deny == {{"message": "outside office hours production is for reading: delete pods"}} with input as asked(night, "delete", "")
}

test_on_sunday if count(policy.deny) == 1 with input as asked("2026-01-04T12:00:00Z", "delete", "")

test_reading if count(policy.deny) == 0 with input as asked(night, "list", "")

test_shell if count(policy.deny) == 1 with input as asked(night, "get", "exec")

test_oneself if {
	self := {"verb": "create", "resourceRequest": true, "apiGroup": "authorization.k8s.io", "resource": "selfsubjectaccessreviews", "subresource": ""}
	count(policy.deny) == 0 with input as object.union(asked(night, "create", ""), {"request": self})
}

test_path if {
	path := {"verb": "post", "resourceRequest": false, "apiGroup": "", "resource": "", "subresource": "", "path": "/custom"}
	policy.deny == {{"message": "outside office hours production is for reading: post /custom"}} with input as object.union(asked(night, "", ""), {"request": path})
}

test_past_midnight if {
	shift := {"parameters": {"utcOffset": "0h", "from": 22, "to": 6, "days": ["Monday"]}}
	count(policy.deny) == 0 with input as object.union(asked(night, "delete", ""), shift)
	count(policy.deny) == 0 with input as object.union(asked("2026-01-05T05:00:00Z", "delete", ""), shift)
	count(policy.deny) == 1 with input as object.union(asked("2026-01-05T12:00:00Z", "delete", ""), shift)
}

test_without_parameters if {
	count(policy.deny) > 0 with input as object.remove(asked("2026-01-05T08:00:00Z", "delete", ""), ["parameters"])
}
