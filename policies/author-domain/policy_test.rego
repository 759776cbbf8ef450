package guardrails.author_domain_test

import data.guardrails.author_domain as policy

parameters := {"domains": ["example.com"], "required": true}

by(author) := {"parameters": parameters, "grant": {}, "source": {"author": author}}

test_ours if count(policy.deny) == 0 with input as by("Ann <ann@Example.com>")

test_others if {
	every author in ["Ann <ann@example.net>", "ann@example.com <ann@evil.net>", "ann@example.com", "<ann@example.com> <b@evil.net>"] {
		count(policy.deny) == 1 with input as by(author)
	}
}

test_unknown if count(policy.deny) == 1 with input as {"parameters": parameters, "grant": {}}

test_unknown_allowed if count(policy.deny) == 0 with input as {"parameters": {"domains": [], "required": false}, "grant": {}}

test_without_parameters if count(policy.deny) > 0 with input as {"grant": {}, "source": {"author": "Ann <ann@example.com>"}}
