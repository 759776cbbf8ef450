package guardrail

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/sallyport-dev/sallyport/internal/cli/junit"
	"github.com/sallyport-dev/sallyport/internal/policy/examples"
)

// writeText is a line for each guardrail, and below it what is wrong.
func writeText(w io.Writer, all []tested, o testOptions) error {
	var lines, details []string
	for i := range all {
		t := &all[i]
		if t.err != nil {
			lines = append(lines, "FAIL\t"+t.folder+"\t\t\t")
			details = append(details, indent(t.err.Error()))
		}
		for j := range t.reports {
			r := &t.reports[j]
			lines = append(lines, line(r))
			details = append(details, detail(r, o.verbose))
		}
	}
	// What is aligned comes before what is not: details must not widen columns.
	var table strings.Builder
	tab := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for _, l := range lines {
		fmt.Fprintln(tab, l)
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	for i, l := range strings.Split(strings.TrimSuffix(table.String(), "\n"), "\n") {
		if _, err := fmt.Fprintf(w, "%s\n%s", strings.TrimRight(l, " "), details[i]); err != nil {
			return err
		}
	}
	return nil
}

func line(r *examples.Report) string {
	word := "ok"
	if !r.Passed() {
		word = "FAIL"
	}
	covered := ""
	if c := r.Coverage; c != nil {
		covered = fmt.Sprintf("coverage %d/%d", c.Reached, c.Total)
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", word, r.Guardrail.File, r.Guardrail.Engine(), count(len(r.Results), "example"), covered)
}

func detail(r *examples.Report, verbose bool) string {
	var b strings.Builder
	for _, err := range r.Problems {
		b.WriteString(indent(err.Error()))
	}
	for i := range r.Results {
		result := &r.Results[i]
		switch {
		case !result.Passed():
			b.WriteString(indent(fmt.Sprintf("%s: %s: %s", result.Place, result.Example.Name, strings.Join(result.Failures, "\n    "))))
		case verbose:
			b.WriteString(indent(fmt.Sprintf("%s: %s: ok", result.Place, result.Example.Name)))
		}
	}
	if r.Coverage != nil {
		for _, m := range r.Coverage.Missed {
			b.WriteString(indent("not reached: " + m))
		}
	}
	return b.String()
}

func indent(s string) string {
	return "      " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n      ") + "\n"
}

// The JSON output. Fields are added to it, and none is renamed or taken away.
type (
	results struct {
		Guardrails []guardrailResult `json:"guardrails"`
		Passed     bool              `json:"passed"`
	}
	guardrailResult struct {
		Folder string `json:"folder"`
		// Guardrail, File and Engine are absent where the folder cannot be read.
		Guardrail string          `json:"guardrail,omitempty"`
		File      string          `json:"file,omitempty"`
		Engine    string          `json:"engine,omitempty"`
		Passed    bool            `json:"passed"`
		Problems  []string        `json:"problems,omitempty"`
		Examples  []exampleResult `json:"examples,omitempty"`
		Coverage  *coverageResult `json:"coverage,omitempty"`
	}
	exampleResult struct {
		Name     string   `json:"name"`
		Why      string   `json:"why,omitempty"`
		Expect   string   `json:"expect"`
		File     string   `json:"file"`
		Line     int      `json:"line"`
		Passed   bool     `json:"passed"`
		Failures []string `json:"failures,omitempty"`
	}
	coverageResult struct {
		Reached int      `json:"reached"`
		Total   int      `json:"total"`
		Missed  []string `json:"missed,omitempty"`
	}
)

func writeJSON(w io.Writer, all []tested, _ testOptions) error {
	out := results{Guardrails: []guardrailResult{}, Passed: !summarize(all).failed()}
	for i := range all {
		t := &all[i]
		if t.err != nil {
			out.Guardrails = append(out.Guardrails, guardrailResult{Folder: t.folder, Problems: strings.Split(t.err.Error(), "\n")})
		}
		for j := range t.reports {
			r := &t.reports[j]
			g := guardrailResult{Folder: t.folder, Guardrail: r.Guardrail.Name, File: r.Guardrail.File, Engine: r.Guardrail.Engine(), Passed: r.Passed()}
			for _, err := range r.Problems {
				g.Problems = append(g.Problems, err.Error())
			}
			for k := range r.Results {
				x := &r.Results[k]
				g.Examples = append(g.Examples, exampleResult{
					Name: x.Example.Name, Why: x.Example.Why, Expect: string(x.Example.Expect),
					File: x.Place.File, Line: x.Place.Line, Passed: x.Passed(), Failures: x.Failures,
				})
			}
			if c := r.Coverage; c != nil {
				g.Coverage = &coverageResult{Reached: c.Reached, Total: c.Total, Missed: c.Missed}
			}
			out.Guardrails = append(out.Guardrails, g)
		}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(out)
}

// writeJUnit is a suite for each guardrail.
func writeJUnit(w io.Writer, all []tested, _ testOptions) error {
	var suites []junit.Suite
	for i := range all {
		t := &all[i]
		if t.err != nil {
			suites = append(suites, junit.Suite{Name: t.folder, Cases: []junit.Case{{Class: t.folder, Name: "read", File: t.folder, Failures: strings.Split(t.err.Error(), "\n")}}})
		}
		for j := range t.reports {
			r := &t.reports[j]
			s := junit.Suite{Name: r.Guardrail.File}
			if len(r.Problems) > 0 {
				c := junit.Case{Class: r.Guardrail.File, Name: "guardrail", File: r.Guardrail.File}
				for _, err := range r.Problems {
					c.Failures = append(c.Failures, err.Error())
				}
				s.Cases = append(s.Cases, c)
			}
			for k := range r.Results {
				x := &r.Results[k]
				s.Cases = append(s.Cases, junit.Case{
					Class: r.Guardrail.File, Name: x.Example.Name, File: x.Place.File, Line: x.Place.Line, Elapsed: x.Elapsed, Failures: x.Failures,
				})
			}
			suites = append(suites, s)
		}
	}
	return junit.Write(w, suites...)
}
