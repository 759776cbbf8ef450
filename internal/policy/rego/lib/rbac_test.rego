package sallyport.rbac_test

import data.sallyport.rbac

pods := {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}

test_exact if {
	rbac.allows(pods, "get", "", "pods")
	rbac.allows(pods, "list", "", "pods")
}

test_other_verb if not rbac.allows(pods, "delete", "", "pods")

test_other_group if not rbac.allows(pods, "get", "apps", "pods")

test_other_resource if not rbac.allows(pods, "get", "", "secrets")

test_subresource_is_not_implied if not rbac.allows(pods, "get", "", "pods/exec")

test_resource_is_not_implied_by_subresource if {
	not rbac.allows({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/exec"]}, "get", "", "pods")
}

test_subresource if {
	rbac.allows({"verbs": ["create"], "apiGroups": [""], "resources": ["pods/exec"]}, "create", "", "pods/exec")
}

test_subresource_of_every_resource if {
	rule := {"verbs": ["create"], "apiGroups": [""], "resources": ["*/exec"]}
	rbac.allows(rule, "create", "", "pods/exec")
	not rbac.allows(rule, "create", "", "pods/attach")
	not rbac.allows(rule, "create", "", "pods")
}

test_every_verb if rbac.allows({"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]}, "impersonate", "", "pods")

test_every_group if rbac.allows({"verbs": ["get"], "apiGroups": ["*"], "resources": ["pods"]}, "get", "example.com", "pods")

test_every_resource if {
	rule := {"verbs": ["get"], "apiGroups": [""], "resources": ["*"]}
	rbac.allows(rule, "get", "", "secrets")
	rbac.allows(rule, "get", "", "pods/exec")
}

test_resource_names_are_left_aside if {
	rbac.allows(object.union(pods, {"resourceNames": ["one"]}), "get", "", "pods")
}

test_paths_are_no_resources if {
	not rbac.allows({"verbs": ["get"], "nonResourceURLs": ["*"]}, "get", "", "pods")
}
