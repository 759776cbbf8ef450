package guardrails.separation_of_duties_test

import data.guardrails.separation_of_duties as policy

parameters := {
	"label": "duty",
	"duties": {"AccessRole/deployer": "deploy", "AccessRole/approver": "approve"},
	"pairs": [["approve", "deploy"]],
}

given(names, duty) := {
	"parameters": parameters,
	"grant": {"metadata": {"labels": {"duty": duty}}},
	"access": [{"role": {"kind": "AccessRole", "name": name}} | some name in names],
}

asked(duties) := {"parameters": parameters, "request": {}, "grants": [{"labels": {"duty": duty}} | some duty in duties]}

test_one if count(policy.deny) == 0 with input as given(["deployer"], "deploy")

test_two if count(policy.deny) == 2 with input as given(["deployer", "approver"], "deploy")

test_other_label if {
	policy.deny == {{
		"message": "gives the duty approve and must have the label duty: approve",
		"field": "metadata.labels",
	}} with input as given(["approver"], "deploy")
}

test_request_by_one if count(policy.deny) == 0 with input as asked(["deploy"])

test_request_by_two if {
	policy.deny == {{"message": "uses two duties that are never in one hand: approve and deploy"}} with input as asked(["approve", "deploy"])
}

test_without_parameters if count(policy.deny) == 1 with input as object.remove(asked([]), ["parameters"])
