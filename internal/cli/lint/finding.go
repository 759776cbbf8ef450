package lint

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy/manifest"
)

// severity of a finding, the worst first.
type severity uint8

const (
	// refused: a guardrail denies.
	refused severity = iota
	// invalid: what is committed could not be applied, or could not be judged.
	invalid
	// warning: for somebody to look at.
	warning
	// note: for the record, such as what an exception excuses.
	note
)

var severities = [...]string{refused: "refused", invalid: "error", warning: "warning", note: "note"}

// String is the word for it in the output.
func (s severity) String() string { return severities[s] }

// finding is one thing to tell.
type finding struct {
	severity severity
	place    manifest.Place
	// build is the folder whose kustomization brings the object, if one does.
	build string
	// object is kind and name; empty where it is about none.
	object string
	// field that it is about; may be empty.
	field string
	// reason is what a guardrail says, and until when an exception excuses it.
	reason *guardrail.Reason
	until  string
	// message where there is no reason.
	message string
}

func (f *finding) compare(g *finding) int {
	return cmp.Or(f.place.Compare(g.place), strings.Compare(f.object, g.object), cmp.Compare(f.severity, g.severity),
		strings.Compare(f.text(), g.text()), strings.Compare(f.build, g.build))
}

// same reports whether two findings tell people the same: a base that two overlays
// use is wrong once.
func (f *finding) same(g *finding) bool {
	return f.severity == g.severity && f.place == g.place && f.object == g.object && f.text() == g.text()
}

// text is the finding in one line, safe for a terminal. What a guardrail says is
// worded as at admission.
func (f *finding) text() string {
	if f.reason == nil {
		if f.field != "" {
			return guardrail.OneLine(f.field + ": " + f.message)
		}
		return guardrail.OneLine(f.message)
	}
	text := fmt.Sprintf("guardrail %q: %s", f.reason.Guardrail, f.reason.Message)
	if f.reason.Field != "" {
		text += " (" + f.reason.Field + ")"
	}
	if f.reason.Detail != "" {
		text += ": " + f.reason.Detail
	}
	if f.reason.Exception != "" {
		text = fmt.Sprintf("excused by exception %q%s: %s", f.reason.Exception, f.until, text)
	}
	return guardrail.OneLine(text)
}
