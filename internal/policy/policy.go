// Package policy makes guardrails of their API form, with the engine that each is
// written for. What does not compile is told with field, line and column, and
// becomes a guardrail that nothing passes.
package policy

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy/ceiling"
	"github.com/sallyport-dev/sallyport/internal/policy/cel"
	"github.com/sallyport-dev/sallyport/internal/policy/rego"
)

// Options for the author of a policy. In force, a policy has none of them.
type Options struct {
	// Print is where print in Rego goes; nil for nowhere.
	Print io.Writer
	// Coverage has the Check count, as a coverage.Counter.
	Coverage bool
}

// Compile makes a guardrail. It returns one in any case: where there are errors,
// one that has no Check and cannot be passed.
func Compile(name string, spec *v1alpha1.GuardrailSpec, o Options) (*guardrail.Guardrail, field.ErrorList) {
	g, errs := Frame(name, spec)
	errs = append(engineProblems(spec), errs...)
	if len(errs) > 0 {
		return stalled(g, errs)
	}
	path := field.NewPath("spec")
	parameters, errs := Parameters(spec)
	if len(errs) > 0 {
		return stalled(g, errs)
	}
	switch {
	case spec.Ceiling != nil:
		g.Check, errs = ceiling.Compile(path.Child("ceiling"), spec.Ceiling)
	case spec.CEL != nil:
		g.Check, errs = cel.Compile(path.Child("cel"), spec.CEL, parameters, cel.Options{Coverage: o.Coverage})
	case spec.Rego != nil:
		g.Check, errs = rego.Compile(path.Child("rego", "module"), rego.Policy{
			Modules: map[string]string{name + ".rego": spec.Rego.Module}, Main: name + ".rego", Parameters: parameters,
		}, rego.Options{Print: o.Print, Coverage: o.Coverage})
	}
	if len(errs) > 0 {
		return stalled(g, errs)
	}
	return g, nil
}

// Frame is a guardrail without its policy, whether there are errors or not: what is
// stalled refuses what it matches, and everything where that is not known.
func Frame(name string, spec *v1alpha1.GuardrailSpec) (*guardrail.Guardrail, field.ErrorList) {
	g := &guardrail.Guardrail{
		Name: name, Digest: digest(spec), Enforcement: cmp.Or(spec.Enforcement, v1alpha1.EnforcementDeny),
		Points: guardrail.PointsOf(spec.Points),
		// Also one that does not compile: a namespace whose ceiling cannot be read is not
		// one without, of which the grants would be revoked.
		Ceiling: spec.Ceiling != nil,
	}
	if spec.Exceptions != nil {
		g.Exceptions.Longest = spec.Exceptions.MaxDuration.Duration
	}
	if slices.ContainsFunc(spec.Points, func(p v1alpha1.GuardrailPoint) bool { return !slices.Contains(points, p) }) {
		g.Points = guardrail.PointsOf(points) // rather than none
	}
	path := field.NewPath("spec")
	errs := Problems(path, spec)
	var err error
	if g.Match, err = guardrail.NewMatch(spec.Match); err != nil {
		errs = append(errs, field.Invalid(path.Child("match"), field.OmitValueType{}, err.Error()))
	}
	return g, errs
}

var (
	points       = []v1alpha1.GuardrailPoint{v1alpha1.PointPlan, v1alpha1.PointAdmission, v1alpha1.PointCompile, v1alpha1.PointRequest}
	enforcements = []v1alpha1.Enforcement{v1alpha1.EnforcementDeny, v1alpha1.EnforcementWarn, v1alpha1.EnforcementAudit}
)

func engineProblems(spec *v1alpha1.GuardrailSpec) field.ErrorList {
	engines := 0
	for _, has := range []bool{spec.Ceiling != nil, spec.CEL != nil, spec.Rego != nil} {
		if has {
			engines++
		}
	}
	if engines == 1 {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("spec"), field.OmitValueType{}, "must have exactly one of ceiling, cel and rego")}
}

// Problems that the API server refuses, for guardrails that come another way. Of
// what the engine is there is nothing in them.
func Problems(path *field.Path, spec *v1alpha1.GuardrailSpec) (errs field.ErrorList) {
	if spec.Enforcement != "" && !slices.Contains(enforcements, spec.Enforcement) {
		errs = append(errs, field.NotSupported(path.Child("enforcement"), spec.Enforcement, enforcements))
	}
	for i, p := range spec.Points {
		if !slices.Contains(points, p) {
			errs = append(errs, field.NotSupported(path.Child("points").Index(i), p, points))
		}
	}
	if spec.Ceiling != nil {
		errs = append(errs, ceilingProblems(path, spec)...)
	}
	return errs
}

// ceilingProblems are what a ceiling cannot have beside it.
func ceilingProblems(path *field.Path, spec *v1alpha1.GuardrailSpec) (errs field.ErrorList) {
	if slices.Contains(spec.Points, v1alpha1.PointRequest) {
		errs = append(errs, field.Forbidden(path.Child("points"), "a ceiling bounds grants: it is not asked about requests"))
	}
	if m := spec.Match; m != nil && (m.Subjects != nil || m.Clusters != nil || m.Verbs != nil) {
		errs = append(errs, field.Forbidden(path.Child("match"), "a ceiling is for namespaces: it matches nothing else, and says itself what it allows of subjects, clusters and verbs"))
	}
	if spec.Parameters != nil {
		errs = append(errs, field.Forbidden(path.Child("parameters"), "a ceiling has no parameters"))
	}
	return errs
}

// stalled is a guardrail that nothing passes.
func stalled(g *guardrail.Guardrail, errs field.ErrorList) (*guardrail.Guardrail, field.ErrorList) {
	g.Check, g.Err = nil, errs.ToAggregate()
	return g, errs
}

// Parameters of a guardrail: an object in any case.
func Parameters(spec *v1alpha1.GuardrailSpec) (map[string]any, field.ErrorList) {
	if spec.Parameters == nil {
		return map[string]any{}, nil
	}
	refuse := func(why string) field.ErrorList {
		return field.ErrorList{field.Invalid(field.NewPath("spec", "parameters"), field.OmitValueType{}, why)}
	}
	var out map[string]any
	d := json.NewDecoder(bytes.NewReader(spec.Parameters.Raw))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		return nil, refuse("must be an object: " + err.Error())
	}
	if _, err := d.Token(); out == nil || !errors.Is(err, io.EOF) {
		return nil, refuse("must be one object")
	}
	return out, nil
}

// digest of a guardrail: of all that its answer depends on.
func digest(spec *v1alpha1.GuardrailSpec) string {
	raw, err := json.Marshal(spec)
	if err != nil { // parameters that are no JSON: the guardrail is stalled as well
		rest := *spec
		rest.Parameters = nil
		raw = fmt.Appendf(nil, "%s %q %s", digest(&rest), spec.Parameters.Raw, err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
