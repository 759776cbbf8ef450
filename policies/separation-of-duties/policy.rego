package guardrails.separation_of_duties

deny contains {"message": message, "field": "spec.access"} if {
	some pair in input.parameters.pairs
	pair[0] in given
	pair[1] in given
	message := sprintf("gives two duties that are never in one hand: %s and %s", [pair[0], pair[1]])
}

deny contains {"message": message, "field": "metadata.labels"} if {
	some duty in given
	not labelled(duty)
	message := sprintf("gives the duty %s and must have the label %s: %s", [duty, input.parameters.label, duty])
}

deny contains {"message": message} if {
	some pair in input.parameters.pairs
	pair[0] in used
	pair[1] in used
	message := sprintf("uses two duties that are never in one hand: %s and %s", [pair[0], pair[1]])
}

deny contains "the parameters label, duties and pairs are not complete" if not complete

complete if {
	is_string(input.parameters.label)
	is_object(input.parameters.duties)
	is_array(input.parameters.pairs)
}

given contains duty if {
	some entry in input.access
	duty := input.parameters.duties[concat("/", [entry.role.kind, entry.role.name])]
}

labelled(duty) if input.grant.metadata.labels[input.parameters.label] == duty

# At request time a grant's label is all that is known of its duty.
used contains grant.labels[input.parameters.label] if some grant in input.grants
