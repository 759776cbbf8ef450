package guardrails.no_secrets_read

import data.sallyport.rbac

deny contains {"message": message, "field": "spec.access"} if {
	fields := [entry.field | some entry in input.access; gives(entry)]
	count(fields) > 0
	message := sprintf("reads Secrets in production: %s", [concat(", ", fields)])
}

deny contains {"message": message, "field": "spec.access"} if {
	names := [name | some entry in input.access; name := unknown(entry)]
	count(names) > 0
	message := sprintf("only the member knows what %s gives: use an AccessRole, whose rules can be judged", [concat(", ", names)])
}

deny contains {"message": message} if {
	input.request.apiGroup == ""
	asked == "secrets"
	input.request.verb in reading
	message := sprintf("reads Secrets in production: %s %s", [input.request.verb, asked])
}

deny contains "the parameter memberRoles is missing or no list" if not complete

complete if is_array(input.parameters.memberRoles)

# Verbs whose answer holds what is in a Secret: that of update and patch is the
# whole object, that of deletecollection all that it deletes.
reading := {"get", "list", "watch", "update", "patch", "deletecollection"}

# Verbs and resources of a rule are independent, and are looked at apart.
gives(entry) if {
	some rule in entry.rules
	some verb in rule.verbs
	verb in (reading | {"*"})
	rbac.allows(rule, verb, "", "secrets")
}

# unknown is what a role of the member is called that the parameters do not name.
unknown(entry) := sprintf("%s (%s)", [name, entry.field]) if {
	not entry.known
	name := concat("/", [entry.role.kind, entry.role.name])
	not "*" in input.parameters.memberRoles
	not name in input.parameters.memberRoles
}

asked := input.request.resource if input.request.subresource == ""

asked := concat("/", [input.request.resource, input.request.subresource]) if input.request.subresource != ""
