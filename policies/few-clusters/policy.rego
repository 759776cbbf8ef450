package guardrails.few_clusters

deny contains {"message": message, "field": "spec.clusters"} if {
	count(input.clusters) > input.parameters.most
	message := sprintf("gives access on %d clusters, and one grant may give it on %d", [count(input.clusters), input.parameters.most])
}

deny contains "the parameter most is missing or no number" if not complete

complete if is_number(input.parameters.most)
