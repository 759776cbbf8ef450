package guardrails.few_clusters_test

import data.guardrails.few_clusters as policy

given(names) := {"parameters": {"most": 1}, "clusters": [{"name": name} | some name in names]}

test_few if count(policy.deny) == 0 with input as given(["a"])

test_many if {
	policy.deny == {{
		"message": "gives access on 2 clusters, and one grant may give it on 1",
		"field": "spec.clusters",
	}} with input as given(["a", "b"])
}

test_without_parameters if count(policy.deny) == 1 with input as object.remove(given(["a"]), ["parameters"])
