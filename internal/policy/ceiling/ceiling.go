// Package ceiling decides whether a grant stays below the most that its namespace
// may grant.
package ceiling

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// Compile a ceiling.
func Compile(at *field.Path, _ *v1alpha1.Ceiling) (guardrail.Check, field.ErrorList) {
	return nil, field.ErrorList{field.InternalError(at, nil)}
}
