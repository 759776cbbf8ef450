package guardrails.no_rbac_writes

import data.sallyport.rbac

deny contains {"message": message, "field": "spec.access"} if {
	fields := [entry.field | some entry in input.access; gives(entry)]
	count(fields) > 0
	message := sprintf("changes RBAC on the member: %s", [concat(", ", fields)])
}

deny contains {"message": message, "field": "spec.access"} if {
	names := [name | some entry in input.access; name := unknown(entry)]
	count(names) > 0
	message := sprintf("only the member knows what %s gives: use an AccessRole, whose rules can be judged", [concat(", ", names)])
}

deny contains {"message": message} if {
	input.request.apiGroup in groups
	asked in objects
	input.request.verb in writing
	message := sprintf("changes RBAC on the member: %s %s", [input.request.verb, asked])
}

deny contains "the parameter memberRoles is missing or no list" if not complete

complete if is_array(input.parameters.memberRoles)

writing := {"create", "update", "patch", "delete", "deletecollection"}

# OpenShift serves RBAC under a group of its own as well.
groups := {"rbac.authorization.k8s.io", "authorization.openshift.io"}

objects := {"roles", "rolebindings", "clusterroles", "clusterrolebindings"}

# Verbs and resources of a rule are independent, and are looked at apart.
gives(entry) if {
	some rule in entry.rules
	writes(rule)
	some group in groups
	some resource in objects
	rbac.allows(rule, rule.verbs[0], group, resource)
}

writes(rule) if {
	some verb in rule.verbs
	verb in (writing | {"*"})
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
