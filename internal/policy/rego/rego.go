// Package rego evaluates guardrails in OPA's language.
package rego

import (
	"io"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// Policy is a package of modules whose rule deny is asked.
type Policy struct {
	// Modules by file name.
	Modules map[string]string
	// Main is the file whose package is asked; or Package names it, such as
	// data.guardrails.exec.
	Main, Package string
	// Data that the modules read.
	Data map[string]any
	// Parameters are input.parameters.
	Parameters map[string]any
}

// Options for the author of a policy.
type Options struct {
	// Print is where print goes; nil for nowhere.
	Print io.Writer
	// Coverage has the Check count, as a coverage.Counter.
	Coverage bool
}

// Compile a policy. Errors are at the path, with file, line and column.
func Compile(at *field.Path, _ Policy, _ Options) (guardrail.Check, field.ErrorList) {
	return nil, field.ErrorList{field.InternalError(at, nil)}
}
