package guardrails.no_wildcards

deny contains {"message": message, "field": "spec.access"} if {
	fields := [entry.field | some entry in input.access; starred(entry)]
	count(fields) > 0
	message := sprintf("gives with a * what nobody has looked at: %s", [concat(", ", fields)])
}

deny contains {"message": message, "field": "spec.access"} if {
	fields := [entry.field | some entry in input.access; starred_path(entry)]
	count(fields) > 0
	message := sprintf("gives paths with a *: %s", [concat(", ", fields)])
}

deny contains {"message": message, "field": "spec.access"} if {
	names := [name | some entry in input.access; name := unknown(entry)]
	count(names) > 0
	message := sprintf("only the member knows what %s gives: use an AccessRole, whose rules can be judged", [concat(", ", names)])
}

deny contains "the parameters nonResourceURLs and memberRoles are not complete" if not complete

complete if {
	is_array(input.parameters.nonResourceURLs)
	is_array(input.parameters.memberRoles)
}

starred(entry) if {
	some rule in entry.rules
	"*" in rule.verbs
}

# A star that RBAC takes for a letter, as in *.example.com, shows what was meant.
starred(entry) if {
	some rule in entry.rules
	some field in ["apiGroups", "resources"]
	some word in rule[field]
	contains(word, "*")
}

starred_path(entry) if {
	some rule in entry.rules
	some path in rule.nonResourceURLs
	contains(path, "*")
	not path in input.parameters.nonResourceURLs
}

# unknown is what a role of the member is called that the parameters do not name.
unknown(entry) := sprintf("%s (%s)", [name, entry.field]) if {
	not entry.known
	name := concat("/", [entry.role.kind, entry.role.name])
	not "*" in input.parameters.memberRoles
	not name in input.parameters.memberRoles
}
