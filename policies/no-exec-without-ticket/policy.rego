package guardrails.no_exec_without_ticket

import data.sallyport.rbac

deny contains {"message": message, "field": "spec.reason"} if {
	not ticket
	fields := [entry.field | some entry in input.access; opens(entry)]
	count(fields) > 0
	message := sprintf("opens a shell in production without a ticket in spec.reason: %s", [concat(", ", fields)])
}

deny contains {"message": message, "field": "spec.reason"} if {
	not ticket
	names := [name | some entry in input.access; name := unknown(entry)]
	count(names) > 0
	message := sprintf("only the member knows whether %s opens a shell: name a ticket in spec.reason, or use an AccessRole", [concat(", ", names)])
}

deny contains {"message": message} if {
	not ticket
	input.request.apiGroup == ""
	asked := concat("/", [input.request.resource, input.request.subresource])
	asked in input.parameters.resources
	message := sprintf("opens a shell in production without a ticket in the reason of a grant: %s %s", [input.request.verb, asked])
}

deny contains "the parameters resources, ticket and memberRoles are not complete" if not complete

complete if {
	is_array(input.parameters.resources)
	is_string(input.parameters.ticket)
	is_array(input.parameters.memberRoles)
}

ticket if regex.match(input.parameters.ticket, input.grant.spec.reason)

ticket if {
	some grant in input.grants
	regex.match(input.parameters.ticket, grant.reason)
}

# Any verb, and so the first: a shell over a WebSocket may need no more than get.
opens(entry) if {
	some rule in entry.rules
	some resource in input.parameters.resources
	rbac.allows(rule, rule.verbs[0], "", resource)
}

# unknown is what a role of the member is called that the parameters do not name.
unknown(entry) := sprintf("%s (%s)", [name, entry.field]) if {
	not entry.known
	name := concat("/", [entry.role.kind, entry.role.name])
	not "*" in input.parameters.memberRoles
	not name in input.parameters.memberRoles
}
