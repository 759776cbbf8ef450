package guardrails.author_domain

deny contains message if {
	input.source.author
	not ours
	message := sprintf("comes from a commit by somebody outside the domains: %s", [input.source.author])
}

deny contains "comes from nobody knows whom: the author of the commit is not known" if {
	input.grant
	not input.source.author
	not input.parameters.required == false
}

deny contains "the parameters domains and required are not complete" if not complete

complete if {
	is_array(input.parameters.domains)
	is_boolean(input.parameters.required)
}

# NAME <LOCAL@DOMAIN>, of which the name is not believed.
ours if {
	found := regex.find_all_string_submatch_n(`^[^<>]*<[^<>@\s]+@([A-Za-z0-9.-]+)>$`, input.source.author, 1)
	lower(found[0][1]) in input.parameters.domains
}
