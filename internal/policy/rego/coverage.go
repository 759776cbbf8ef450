package rego

import (
	"fmt"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"

	"github.com/sallyport-dev/sallyport/internal/policy/coverage"
)

// counted is a check that counts the lines that it reaches.
type counted struct {
	*check
	cover *cover.Cover
	files map[string]*ast.Module // of the package
}

func newCounted(c *check, name string) *counted {
	out := &counted{check: c, cover: cover.New(), files: map[string]*ast.Module{}}
	for file, m := range c.modules.modules {
		if m.Package.Path.String() == name {
			out.files[file] = m
		}
	}
	c.tracer = out.cover
	return out
}

// Coverage by lines of the package's modules.
func (c *counted) Coverage() coverage.Report {
	report := c.cover.Report(c.files)
	var out coverage.Report
	for _, file := range slices.Sorted(maps.Keys(c.files)) {
		f := report.Files[file]
		reached := rows(f.Covered)
		missed := rows(f.NotCovered)
		maps.DeleteFunc(missed, func(row int, _ bool) bool { return reached[row] })
		out.Reached += len(reached)
		out.Total += len(reached) + len(missed)
		for _, row := range slices.Sorted(maps.Keys(missed)) {
			if len(c.files) == 1 {
				out.Missed = append(out.Missed, fmt.Sprintf("line %d", row))
			} else {
				out.Missed = append(out.Missed, fmt.Sprintf("%s line %d", file, row))
			}
		}
	}
	return out
}

func rows(ranges []cover.Range) map[int]bool {
	out := map[int]bool{}
	for _, r := range ranges {
		out[r.Start.Row] = true
	}
	return out
}
