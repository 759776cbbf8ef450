package guardrails.longest_validity

deny contains {"message": message, "field": "spec.validity"} if {
	count(limits) > 0
	not in_time
	message := sprintf("must end at most %d hours after it begins; without spec.validity.notBefore it begins now", [min(limits)])
}

deny contains "the parameters label, hours and otherwise are not complete" if not complete

complete if {
	is_string(input.parameters.label)
	is_object(input.parameters.hours)
	is_number(input.parameters.otherwise)
}

limits := [limit(cluster) | some cluster in input.clusters]

limit(cluster) := named(cluster)

limit(cluster) := input.parameters.otherwise if not named(cluster)

named(cluster) := input.parameters.hours[cluster.labels[input.parameters.label]]

hour := ((60 * 60) * 1000) * 1000000

in_time if {
	countable(input.grant.spec.validity.notAfter)
	end := time.parse_rfc3339_ns(input.grant.spec.validity.notAfter)
	end - (min(limits) * hour) <= begin
	begin < end
}

begin := time.parse_rfc3339_ns(input.grant.spec.validity.notBefore) if countable(input.grant.spec.validity.notBefore)

begin := time.parse_rfc3339_ns(input.now) if not input.grant.spec.validity.notBefore

# Rego counts time in nanoseconds of 64 bits, which do for these years.
countable(instant) if {
	instant > "1678-01-01"
	instant < "2262-01-01"
}
