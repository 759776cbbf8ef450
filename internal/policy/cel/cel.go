// Package cel evaluates guardrails in the Common Expression Language.
package cel

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// Options for the author of a policy.
type Options struct {
	// Coverage has the Check count, as a coverage.Counter.
	Coverage bool
}

// Compile a policy.
func Compile(at *field.Path, _ *v1alpha1.CELPolicy, _ map[string]any, _ Options) (guardrail.Check, field.ErrorList) {
	return nil, field.ErrorList{field.InternalError(at, nil)}
}
