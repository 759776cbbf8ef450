package guardrails.no_exec_without_ticket_test

import data.guardrails.no_exec_without_ticket as policy

parameters := {"resources": ["pods/exec"], "ticket": "^[A-Z]+-[0-9]+$", "memberRoles": ["ClusterRole/view"]}

given(reason, entry) := {
	"parameters": parameters, "grant": {"spec": {"reason": reason}},
	"access": [object.union({"field": "spec.access[0]", "known": true, "rules": []}, entry)],
}

shell := {"rules": [{"apiGroups": [""], "resources": ["*/exec"], "verbs": ["get"]}]}

edit := {"known": false, "role": {"kind": "ClusterRole", "name": "edit"}}

asked(resource, reason) := {
	"parameters": parameters, "grants": [{"reason": reason}],
	"request": {"apiGroup": "", "resource": "pods", "subresource": resource, "verb": "get"},
}

test_ticket if count(policy.deny) == 0 with input as given("PAY-1", shell)

test_no_ticket if {
	policy.deny == {{
		"message": "opens a shell in production without a ticket in spec.reason: spec.access[0]",
		"field": "spec.reason",
	}} with input as given("why not", shell)
}

test_unknown_role if count(policy.deny) == 1 with input as given("why not", edit)

test_trusted_role if {
	view := object.union(edit, {"role": {"kind": "ClusterRole", "name": "view"}})
	count(policy.deny) == 0 with input as given("why not", view)
}

test_unknown_role_with_ticket if count(policy.deny) == 0 with input as given("PAY-1", edit)

test_without_parameters if count(policy.deny) > 0 with input as object.remove(given("PAY-1", shell), ["parameters"])

test_request_without_ticket if count(policy.deny) == 1 with input as asked("exec", "why not")

test_request_with_ticket if count(policy.deny) == 0 with input as asked("exec", "PAY-1")

test_logs if count(policy.deny) == 0 with input as asked("log", "why not")
