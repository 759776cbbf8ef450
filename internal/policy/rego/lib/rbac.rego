# The library of Kubernetes' RBAC, for every policy that says
#
#   import data.sallyport.rbac
package sallyport.rbac

# allows is true where a PolicyRule gives the verb on the resource in the API
# group to some object. A resource is one such as "pods", or a subresource such as
# "pods/exec", which "pods" does not imply. The meaning is that of Kubernetes'
# authorizer: "*" is every verb, group and resource, and "*/exec" the subresource
# exec of every resource. resourceNames are left aside.
allows(rule, verb, api_group, resource) if {
	_has(rule.verbs, verb)
	_has(rule.apiGroups, api_group)
	_has_resource(rule.resources, resource)
}

_has(list, _) if "*" in list

_has(list, x) if x in list

_has_resource(list, resource) if _has(list, resource)

_has_resource(list, resource) if {
	slash := indexof(resource, "/")
	slash >= 0
	concat("", ["*", substring(resource, slash, -1)]) in list
}
