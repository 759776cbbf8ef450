package decisionlog

import (
	"slices"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
)

// Of is the entry of a decision, as it is by guardrails and grants alone: no grant is
// deny of the gateway, and no-opinion of the authorizer. A server that answers
// otherwise, by a layer that comes later or because it is not strict, says so in Verdict
// and Layer, and adds ID, latency, status and what it knows of the connection.
//
// What the request and the decision hold is shared with the entry.
func Of(server string, q *effective.Request, d *effective.Decision) *Entry {
	e := &Entry{
		Version: Version, Time: q.At.UTC(), Server: server, Event: EventRequest,
		User: User{Name: q.User.Name, UID: q.User.UID, Groups: q.User.Groups, Extra: q.User.Extra},
		Request: Request{
			Cluster: q.Cluster, Verb: q.Verb, APIGroup: q.APIGroup, APIVersion: q.APIVersion, Resource: q.Resource,
			Subresource: q.Subresource, Namespace: q.Namespace, Name: q.Name, Path: q.Path,
		},
		Snapshot: d.Snapshot, PolicyDigest: d.Policy,
	}
	e.Verdict, e.Layer = outcome(server, q, d)
	if len(d.Reasons) > 0 {
		e.Reasons = make([]Reason, len(d.Reasons))
	}
	for i := range d.Reasons {
		r := &d.Reasons[i]
		e.Reasons[i] = Reason{
			Guardrail: r.Guardrail, Enforcement: string(r.Enforcement), Message: r.Message, Failed: r.Failed, Detail: r.Detail, Exception: r.Exception,
		}
	}
	if len(d.Because) > 0 {
		e.Grants = make([]Grant, len(d.Because))
	}
	for i := range d.Because {
		b := &d.Because[i]
		e.Grants[i] = Grant{Namespace: b.Grant.Namespace, Name: b.Grant.Name, Role: b.Role, Rule: b.Rule, Revision: b.Grant.Revision}
	}
	return e
}

func outcome(server string, q *effective.Request, d *effective.Decision) (verdict, layer string) {
	switch d.Verdict {
	case effective.Allowed, effective.OnMember:
		return Allow, ""
	case effective.NotGranted:
		if server == Authorizer {
			return NoOpinion, LayerGrant
		}
		return Deny, LayerGrant
	}
	if q.User.Name == "" || slices.Contains(q.User.Groups, "") {
		return Deny, LayerIdentity
	}
	return Deny, LayerGuardrail
}

// isQuiet reports whether an entry is one of those that --decision-log-allowed=false
// leaves out: nobody objected. Where a guardrail had something to say, be it only that
// an exception excuses it, the entry is for the record.
func (e *Entry) isQuiet() bool {
	return e.Event == EventRequest && e.Layer == "" && e.Verdict != Deny && e.Verdict != "" && len(e.Reasons) == 0
}

// size is about what an entry takes in memory, and in the log.
func (e *Entry) size() int {
	n := 512 + len(e.ID) + len(e.User.Name) + len(e.User.UID) +
		len(e.Request.Cluster) + len(e.Request.Verb) + len(e.Request.APIGroup) + len(e.Request.APIVersion) + len(e.Request.Resource) +
		len(e.Request.Subresource) + len(e.Request.Namespace) + len(e.Request.Name) + len(e.Request.Path)
	for _, g := range e.User.Groups {
		n += 16 + len(g)
	}
	for k, values := range e.User.Extra {
		n += 48 + len(k)
		for _, v := range values {
			n += 16 + len(v)
		}
	}
	for i := range e.Reasons {
		r := &e.Reasons[i]
		n += 112 + len(r.Guardrail) + len(r.Message) + len(r.Detail)
	}
	return n + 96*len(e.Grants)
}
