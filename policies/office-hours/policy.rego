package guardrails.office_hours

deny contains {"message": message} if {
	changes
	not open
	message := sprintf("outside office hours production is for reading: %s %s", [input.request.verb, asked])
}

deny contains "the parameters utcOffset, from, to and days are not complete" if not complete

complete if {
	is_string(input.parameters.utcOffset)
	is_number(input.parameters.from)
	is_number(input.parameters.to)
	is_array(input.parameters.days)
}

changes if {
	not input.request.verb in {"get", "list", "watch"}
	not about_oneself
}

# Any verb: a shell or a tunnel over a WebSocket is a get.
changes if input.request.subresource in {"exec", "attach", "portforward", "proxy"}

# kubectl auth can-i, and whoami.
about_oneself if {
	input.request.apiGroup in {"authentication.k8s.io", "authorization.k8s.io"}
	startswith(input.request.resource, "selfsubject")
}

asked := input.request.path if not input.request.resourceRequest

asked := input.request.resource if {
	input.request.resourceRequest
	input.request.subresource == ""
}

asked := concat("/", [input.request.resource, input.request.subresource]) if {
	input.request.resourceRequest
	input.request.subresource != ""
}

local := time.parse_rfc3339_ns(input.now) + time.parse_duration_ns(input.parameters.utcOffset)

hour := time.clock(local)[0]

open if {
	time.weekday(local) in input.parameters.days
	within(hour, input.parameters.from, input.parameters.to)
}

within(at, from, to) if {
	from <= to
	at >= from
	at < to
}

# Past midnight.
within(at, from, to) if {
	from > to
	at >= from
}

within(at, from, to) if {
	from > to
	at < to
}
