package guardrails.users_by_group

deny contains {"message": message, "field": "spec.subjects"} if {
	names := [subject.name | some subject in input.grant.spec.subjects; named(subject)]
	count(names) > 0
	message := sprintf("names people, who come and go: name a group instead of %s", [concat(", ", names)])
}

deny contains "the parameter users is missing or no list" if not complete

complete if is_array(input.parameters.users)

named(subject) if {
	subject.kind == "User"
	not subject.name in input.parameters.users
}
