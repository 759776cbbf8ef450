package guardrails.reason_pattern

deny contains {"message": message, "field": "spec.reason"} if {
	input.grant
	not matches
	message := concat(": ", ["spec.reason says too little", input.parameters.hint])
}

deny contains "the parameters pattern and hint are not complete" if not complete

complete if {
	is_string(input.parameters.pattern)
	is_string(input.parameters.hint)
}

matches if regex.match(input.parameters.pattern, input.grant.spec.reason)
