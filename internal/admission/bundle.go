package admission

import (
	"context"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/bundle"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// bundle is refused if no bundle could ever be verified with its keys, or if its
// match cannot be read.
func (h *Handler) bundle(_ context.Context, b *v1alpha1.GuardrailBundle) answer {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if _, err := guardrail.NewMatch(b.Spec.Match); err != nil {
		errs = append(errs, field.Invalid(path.Child("match"), field.OmitValueType{}, err.Error()))
	}
	if v := b.Spec.Verification; v != nil {
		for i := range v.Keys {
			if err := bundle.CheckKey(&v.Keys[i]); err != nil {
				errs = append(errs, field.Invalid(path.Child("verification", "keys").Index(i).Child("publicKey"), field.OmitValueType{}, err.Error()))
			}
		}
	}
	if len(errs) > 0 {
		return refuseFields(v1alpha1.GroupVersion.WithKind(v1alpha1.GuardrailBundleKind).GroupKind(), b.Name, errs)
	}
	return allow()
}
