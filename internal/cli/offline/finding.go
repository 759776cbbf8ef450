package offline

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy/manifest"
)

// Severity of a finding, the worst first.
type Severity uint8

// The severities.
const (
	// Refused: a guardrail denies.
	Refused Severity = iota
	// Invalid: what is committed could not be applied, or could not be judged.
	Invalid
	// Warning: for somebody to look at.
	Warning
	// Note: for the record, such as what an exception excuses.
	Note
)

var severities = [...]string{Refused: "refused", Invalid: "error", Warning: "warning", Note: "note"}

// String is the word for it in the output.
func (s Severity) String() string { return severities[s] }

// Finding is one thing to tell.
type Finding struct {
	Severity Severity
	Place    manifest.Place
	// Build is the folder whose kustomization brings the object, if one does.
	Build string
	// Object is kind and name; empty where it is about none.
	Object string
	// Field that it is about; may be empty.
	Field string
	// Reason is what a guardrail says, and until when an exception excuses it.
	Reason *guardrail.Reason
	Until  string
	// Message where there is no reason.
	Message string
}

// Compare sorts by place.
func (f *Finding) Compare(g *Finding) int {
	return cmp.Or(f.Place.Compare(g.Place), strings.Compare(f.Object, g.Object), cmp.Compare(f.Severity, g.Severity),
		strings.Compare(f.Text(), g.Text()), strings.Compare(f.Build, g.Build))
}

// Same reports whether two findings tell people the same: a base that two overlays
// use is wrong once.
func (f *Finding) Same(g *Finding) bool {
	return f.Severity == g.Severity && f.Place == g.Place && f.Object == g.Object && f.Text() == g.Text()
}

// Text is the finding in one line, safe for a terminal. What a guardrail says is
// worded as at admission.
func (f *Finding) Text() string {
	if f.Reason == nil {
		if f.Field != "" {
			return guardrail.OneLine(f.Field + ": " + f.Message)
		}
		return guardrail.OneLine(f.Message)
	}
	text := fmt.Sprintf("guardrail %q: %s", f.Reason.Guardrail, f.Reason.Message)
	if f.Reason.Field != "" {
		text += " (" + f.Reason.Field + ")"
	}
	if f.Reason.Detail != "" {
		text += ": " + f.Reason.Detail
	}
	if f.Reason.Exception != "" {
		text = fmt.Sprintf("excused by exception %q%s: %s", f.Reason.Exception, f.Until, text)
	}
	return guardrail.OneLine(text)
}
