package replay

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
)

// difference between a decision that was logged and the one that is made anew. It is
// the JSON output too: fields are added to it, and none is renamed or taken away.
type difference struct {
	File    string              `json:"file"`
	Line    int                 `json:"line"`
	Time    time.Time           `json:"time"`
	ID      string              `json:"id,omitempty"`
	Event   string              `json:"event"`
	User    decisionlog.User    `json:"user"`
	Request decisionlog.Request `json:"request"`
	// What is another: verdict, reasons or grants, the first of these.
	What string  `json:"what"`
	Was  outcome `json:"was"`
	Now  outcome `json:"now"`
	// Because is why, in words.
	Because string `json:"because"`
}

// outcome of guardrails and grants.
type outcome struct {
	Verdict string               `json:"verdict"`
	Layer   string               `json:"layer,omitempty"`
	Reasons []decisionlog.Reason `json:"reasons,omitempty"`
	// Grants are namespace/name of those that give it.
	Grants []string `json:"grants,omitempty"`
}

func outcomeOf(e *decisionlog.Entry) outcome {
	o := outcome{Verdict: e.Verdict, Layer: e.Layer, Reasons: slices.Clone(e.Reasons)}
	slices.SortFunc(o.Reasons, compareReasons)
	for _, g := range e.Grants {
		o.Grants = append(o.Grants, g.Namespace+"/"+g.Name)
	}
	slices.Sort(o.Grants)
	o.Grants = slices.Compact(o.Grants)
	return o
}

// String is the verdict with the layer, if there is one.
func (o *outcome) String() string {
	if o.Layer == "" {
		return o.Verdict
	}
	return o.Verdict + " (" + o.Layer + ")"
}

// compareReasons by what people are told. The detail of a failure is left aside: it may
// be another each time.
func compareReasons(a, b decisionlog.Reason) int {
	failed := map[bool]int{true: 1}
	return cmp.Or(strings.Compare(a.Guardrail, b.Guardrail), strings.Compare(a.Enforcement, b.Enforcement), strings.Compare(a.Message, b.Message),
		strings.Compare(a.Exception, b.Exception), cmp.Compare(failed[a.Failed], failed[b.Failed]))
}

func sameReason(a, b decisionlog.Reason) bool { return compareReasons(a, b) == 0 }

// counts reports whether access is refused for the reason.
func counts(r decisionlog.Reason) bool {
	return (&guardrail.Reason{Exception: r.Exception, Enforcement: v1alpha1.Enforcement(r.Enforcement)}).Counts()
}

// compare what was logged with what is decided now; nil where they are the same. Which
// rule of which role gives it, and of which commit, is no part of it.
func compare(was, now *decisionlog.Entry) *difference {
	d := &difference{
		Time: was.Time, ID: was.ID, Event: was.Event, User: was.User, Request: was.Request, Was: outcomeOf(was), Now: outcomeOf(now),
	}
	if was.Layer == "" && len(was.Grants) == 0 && now.Layer == decisionlog.LayerGrant {
		d.Now.Layer = "" // a server that asks for no grant would not now
	}
	if d.Was.Layer == d.Now.Layer { // how it is answered then, is the server's
		d.Now.Verdict = d.Was.Verdict
	}
	gone, come := without(d.Was.Reasons, d.Now.Reasons, sameReason), without(d.Now.Reasons, d.Was.Reasons, sameReason)
	switch {
	case d.Was.Layer != d.Now.Layer:
		d.What, d.Because = "verdict", d.why()
	case len(gone)+len(come) > 0:
		d.What, d.Because = "reasons", changed(gone, come, reasonText)
	case !slices.Equal(d.Was.Grants, d.Now.Grants):
		same := func(a, b string) bool { return a == b }
		text := func(key string) string { return "grant " + key }
		d.What, d.Because = "grants", changed(without(d.Was.Grants, d.Now.Grants, same), without(d.Now.Grants, d.Was.Grants, same), text)
	default:
		return nil
	}
	return d
}

// why it is decided as it now is.
func (d *difference) why() string {
	switch d.Now.Layer {
	case "":
		if len(d.Now.Grants) == 0 {
			return "no guardrail refuses it"
		}
		return "given by " + strings.Join(d.Now.Grants, ", ")
	case decisionlog.LayerGrant:
		return "no active grant gives it"
	}
	var out []string
	for _, r := range d.Now.Reasons {
		if counts(r) {
			out = append(out, reasonText(r))
		}
	}
	if len(out) == 0 {
		return "the user has no name, or a group without one"
	}
	return strings.Join(out, "; ")
}

func reasonText(r decisionlog.Reason) string {
	text := (&guardrail.Reason{Guardrail: r.Guardrail, Message: r.Message}).String()
	if e := r.Enforcement; e != string(v1alpha1.EnforcementDeny) && e != "" {
		text += " (" + e + ")"
	}
	if r.Exception != "" {
		text = fmt.Sprintf("excused by exception %q: %s", r.Exception, text)
	}
	return text
}

// without is what of a sorted list is not in another.
func without[T any](list, other []T, same func(a, b T) bool) (out []T) {
	for _, x := range list {
		if !slices.ContainsFunc(other, func(y T) bool { return same(x, y) }) {
			out = append(out, x)
		}
	}
	return out
}

func changed[T any](gone, come []T, text func(T) string) string {
	var out []string
	for _, x := range gone {
		out = append(out, "no more: "+text(x))
	}
	for _, x := range come {
		out = append(out, "new: "+text(x))
	}
	return strings.Join(out, "; ")
}

// asked is the request in words.
func (d *difference) asked() string {
	q := &d.Request
	what := q.Path
	if q.Resource != "" {
		what = q.Resource
		if q.Subresource != "" {
			what += "/" + q.Subresource
		}
		if q.APIGroup != "" {
			what += "." + q.APIGroup
		}
		if q.Name != "" {
			what += " " + q.Name
		}
		if q.Namespace != "" {
			what += " in " + q.Namespace
		}
	}
	return q.Verb + " " + what + " on " + q.Cluster
}
