package effective

// Connects reports whether a request asks for create by another name: a WebSocket to
// pods/exec is a GET, and does what a POST does. Kubernetes asks about both since 1.35.
func (q *Request) Connects() bool {
	if !q.ResourceRequest || q.Verb != "get" {
		return false
	}
	switch q.Subresource {
	case "exec", "attach", "portforward":
		return true
	}
	return false
}

// DecideConnect is Decide, and of a request that connects the worse of what is decided on
// it and on what it does: a guardrail that refuses to create pods/exec refuses both,
// whatever the member's version.
func (ix *Index) DecideConnect(q *Request) Decision {
	d := ix.Decide(q)
	if !q.Connects() || d.Verdict == Denied {
		return d
	}
	creates := *q
	creates.Verb = "create"
	worse, until := ix.Decide(&creates), d.Until
	if worse.Verdict >= d.Verdict {
		worse, until = d, worse.Until
	}
	worse.Until = earlier(worse.Until, until) // either may make it another
	return worse
}
