package guardrails.no_everyone

deny contains {"message": message, "field": "spec.subjects"} if {
	names := [subject.name | some subject in input.grant.spec.subjects; everybody(subject)]
	count(names) > 0
	message := sprintf("gives access to everybody: %s", [concat(", ", names)])
}

deny contains "the parameters groups, prefixes and users are not complete" if not complete

complete if {
	is_array(input.parameters.groups)
	is_array(input.parameters.prefixes)
	is_array(input.parameters.users)
}

everybody(subject) if {
	subject.kind == "Group"
	subject.name in input.parameters.groups
}

everybody(subject) if {
	subject.kind == "Group"
	some prefix in input.parameters.prefixes
	startswith(subject.name, prefix)
}

everybody(subject) if {
	subject.kind == "User"
	subject.name in input.parameters.users
}
