package offline

import (
	"fmt"
	"os"
	"strings"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/bundle"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy/manifest"
)

// bundle adds the guardrails of the bundle that a flag NAME=FILE is about. Who has to
// have signed it is what the GuardrailBundle of that name says, if there is one, and
// what trusted says, if it is not nil. One that is not so signed adds no guardrail, and
// is a finding.
func (r *Repository) bundle(flag string, trusted *v1alpha1.BundleVerification) error {
	name, file, found := strings.Cut(flag, "=")
	if !found || name == "" {
		return fmt.Errorf("cannot read --bundle %q: name=file is expected", flag)
	}
	archive, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("cannot read --bundle %q: %w", flag, err)
	}
	opened, err := bundle.Open(archive)
	if err != nil {
		return fmt.Errorf("cannot read --bundle %q: bundle %q %w", flag, name, err)
	}
	spec, place := &v1alpha1.GuardrailBundleSpec{}, manifest.Place{File: file}
	verify := func() error { return nil }
	for _, o := range r.Of(v1alpha1.GuardrailBundleKind) {
		if o.Name == name {
			spec, place = &o.Typed.(*v1alpha1.GuardrailBundle).Spec, o.Place("")
			verify = func() error { return verified(opened, spec) }
		}
	}
	var guardrails []*guardrail.Guardrail
	problem := verify()
	if problem == nil && trusted != nil {
		_, problem = opened.Verify(trusted)
	}
	if problem == nil {
		guardrails, problem = opened.Guardrails(name, spec)
	}
	r.bundles[name] = true
	r.bundled = append(r.bundled, guardrails...)
	if problem != nil {
		r.Tell(Finding{Severity: Invalid, Place: place, Object: v1alpha1.GuardrailBundleKind + " " + name, Message: problem.Error()})
	}
	return nil
}

// verified as the GuardrailBundle says.
func verified(b *bundle.Bundle, spec *v1alpha1.GuardrailBundleSpec) error {
	if spec.Verification == nil {
		return b.VerifyUnsigned()
	}
	_, err := b.Verify(spec.Verification)
	return err
}
