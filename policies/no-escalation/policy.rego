package guardrails.no_escalation

import data.sallyport.rbac

deny contains {"message": message, "field": "spec.access"} if {
	fields := [entry.field | some entry in input.access; escalates(entry)]
	count(fields) > 0
	message := sprintf("gives escalate, bind or impersonate: %s", [concat(", ", fields)])
}

deny contains {"message": message, "field": "spec.access"} if {
	names := [name | some entry in input.access; name := unknown(entry)]
	count(names) > 0
	message := sprintf("only the member knows what %s gives: use an AccessRole, whose rules can be judged", [concat(", ", names)])
}

deny contains "the parameter memberRoles is missing or no list" if not complete

complete if is_array(input.parameters.memberRoles)

# The verbs by their names, on whatever they are.
escalates(entry) if {
	some rule in entry.rules
	some verb in rule.verbs
	escalating(verb)
}

# The verbs by a star, where they mean something.
escalates(entry) if {
	some rule in entry.rules
	"*" in rule.verbs
	some group, names in means
	some name in names
	rbac.allows(rule, "*", group, name)
}

# An extra attribute of a user is a subresource of any name.
escalates(entry) if {
	some rule in entry.rules
	"*" in rule.verbs
	some name in rule.resources
	strings.any_prefix_match(name, ["userextras/", "*/"])
}

escalating(verb) if verb in {"escalate", "bind", "impersonate"}

# The constrained forms of KEP-5284.
escalating(verb) if strings.any_prefix_match(verb, ["impersonate:", "impersonate-on:"])

means := {
	"rbac.authorization.k8s.io": {"roles", "clusterroles"},
	"": {"users", "groups", "serviceaccounts"},
	"authentication.k8s.io": {"users", "groups", "serviceaccounts", "nodes", "uids", "userextras"},
}

# unknown is what a role of the member is called that the parameters do not name.
unknown(entry) := sprintf("%s (%s)", [name, entry.field]) if {
	not entry.known
	name := concat("/", [entry.role.kind, entry.role.name])
	not "*" in input.parameters.memberRoles
	not name in input.parameters.memberRoles
}
