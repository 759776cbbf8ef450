package lint

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/cli/junit"
	"github.com/sallyport-dev/sallyport/internal/cli/offline"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// writeText is a line for each finding: place, severity, object, what it is. What
// is about no file comes last.
func writeText(w io.Writer, j *judge) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var general []string
	for i := range j.Findings {
		f := &j.Findings[i]
		if f.Place.File == "" {
			general = append(general, fmt.Sprintf("%s: %s\n", f.Severity, f.Text()))
			continue
		}
		text := f.Text()
		if f.Build != "" {
			text += " [built by " + guardrail.OneLine(f.Build) + "]"
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\n", guardrail.OneLine(f.Place.String()), f.Severity, cmp.Or(guardrail.OneLine(f.Object), "-"), text)
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, strings.Join(general, ""))
	return err
}

// The JSON output. Fields are added to it, and none is renamed or taken away.
type (
	results struct {
		Summary  summary       `json:"summary"`
		Findings []findingJSON `json:"findings"`
	}
	findingJSON struct {
		// Severity is refused, error, warning or note.
		Severity string `json:"severity"`
		File     string `json:"file,omitempty"`
		Line     int    `json:"line,omitempty"`
		Column   int    `json:"column,omitempty"`
		// Build is the folder whose kustomization brings the object.
		Build string `json:"build,omitempty"`
		// Object is kind and name.
		Object string `json:"object,omitempty"`
		Field  string `json:"field,omitempty"`
		// Guardrail and Enforcement where it is a guardrail that objects.
		Guardrail   string `json:"guardrail,omitempty"`
		Enforcement string `json:"enforcement,omitempty"`
		// Message is that of the guardrail, or what is wrong.
		Message string `json:"message"`
		// Failed: the guardrail could not be evaluated, for what Detail says.
		Failed bool   `json:"failed,omitempty"`
		Detail string `json:"detail,omitempty"`
		// Exception that excuses it.
		Exception string `json:"exception,omitempty"`
	}
)

func writeJSON(w io.Writer, j *judge) error {
	out := results{Summary: j.summarize(), Findings: []findingJSON{}}
	for i := range j.Findings {
		f := &j.Findings[i]
		x := findingJSON{
			Severity: f.Severity.String(), File: f.Place.File, Line: f.Place.Line, Column: f.Place.Column,
			Build: f.Build, Object: f.Object, Field: f.Field, Message: f.Message,
		}
		if r := f.Reason; r != nil {
			x.Guardrail, x.Enforcement, x.Message = r.Guardrail, string(r.Enforcement), r.Message
			x.Failed, x.Detail, x.Exception = r.Failed, r.Detail, r.Exception
		}
		out.Findings = append(out.Findings, x)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(out)
}

// writeJUnit is a case for each grant, and one for each thing else that has a
// finding.
func writeJUnit(w io.Writer, j *judge) error {
	s := junit.Suite{Name: "sallyport lint"}
	cases := map[string]int{}
	add := func(object, file string, line int) int {
		i, known := cases[object+"\x00"+file]
		if !known {
			i = len(s.Cases)
			cases[object+"\x00"+file] = i
			s.Cases = append(s.Cases, junit.Case{Class: cmp.Or(guardrail.OneLine(file), "lint"), Name: cmp.Or(guardrail.OneLine(object), "repository"), File: guardrail.OneLine(file), Line: line})
		}
		return i
	}
	for _, o := range j.Of(v1alpha1.AccessGrantKind) {
		p := o.Place("")
		add(o.Label(), p.File, p.Line)
	}
	for i := range j.Findings {
		f := &j.Findings[i]
		c := &s.Cases[add(f.Object, f.Place.File, f.Place.Line)]
		text := f.Text()
		if f.Place.File != "" {
			text = guardrail.OneLine(f.Place.String()) + ": " + text
		}
		if f.Severity <= offline.Invalid {
			c.Failures = append(c.Failures, text)
		} else {
			c.Notes = append(c.Notes, f.Severity.String()+": "+text)
		}
	}
	return junit.Write(w, s)
}
