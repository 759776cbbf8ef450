package bundle

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	opa "github.com/open-policy-agent/opa/v1/bundle"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy"
	"github.com/sallyport-dev/sallyport/internal/policy/rego"
)

// Entry is a guardrail in a bundle, at data.sallyport.guardrails[NAME]: the spec of
// a Guardrail, but that Rego is named by its package and is in the modules.
type Entry struct {
	v1alpha1.GuardrailSpec `json:",inline"`
	// Package whose deny is asked, such as data.guardrails.no_prod_exec.
	Package string `json:"package,omitempty"`
}

// Engine that the guardrail is written for, as its field in the API is called.
func (e *Entry) Engine() string {
	switch {
	case e.Ceiling != nil:
		return "ceiling"
	case e.CEL != nil:
		return "cel"
	}
	return "rego"
}

// Content is what a bundle holds for Sallyport.
type Content struct {
	// Entries by the name of the guardrail. Those that the bundle does not have
	// itself are its packages with a set deny, without anything but the package.
	Entries map[string]*Entry

	modules  map[string]string
	data     map[string]any
	packages []string // those that have a set deny
}

// maxGuardrails is how many the status of a GuardrailBundle can list.
const maxGuardrails = 256

var guardrailName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$`)

// reserved is what Sallyport has below data: the entries, and its library for Rego,
// which is always the one that is compiled in.
const reserved = "sallyport"

// Content parses the bundle. Errors are worded to follow its name.
func (b *Bundle) Content() (*Content, error) {
	loaded, err := b.load()
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	c := &Content{Entries: map[string]*Entry{}, modules: b.modules(), data: loaded.Data}
	if c.packages, err = rego.Packages(c.modules); err != nil {
		return nil, fmt.Errorf("has modules that cannot be read: %w", err)
	}
	entries, own, err := entriesOf(loaded)
	if err != nil {
		return nil, err
	}
	delete(c.data, reserved)
	if own {
		c.Entries = entries
		return c, c.check()
	}
	for _, at := range c.packages {
		name := nameOf(at)
		if other, ok := c.Entries[name]; ok {
			return nil, fmt.Errorf("has two guardrails of the name %q: %s and %s", name, other.Package, at)
		}
		c.Entries[name] = &Entry{Package: at}
	}
	return c, c.check()
}

// nameOf the guardrail that a package is: data.a["b-c"] is a.b-c.
func nameOf(at string) string {
	return strings.NewReplacer(`["`, ".", `"]`, "").Replace(strings.TrimPrefix(at, "data."))
}

func entriesOf(b *opa.Bundle) (entries map[string]*Entry, own bool, err error) {
	ours, own := b.Data[reserved]
	if !own {
		return nil, false, nil
	}
	raw, err := json.Marshal(ours)
	if err != nil {
		return nil, true, err
	}
	var data struct {
		Guardrails map[string]*Entry `json:"guardrails"`
	}
	strict, err := kjson.UnmarshalStrict(raw, &data)
	if err := errors.Join(append(strict, err)...); err != nil {
		return nil, true, fmt.Errorf("has data.%s that cannot be read: %w", reserved, err)
	}
	return data.Guardrails, true, nil
}

// check what the API server checks of a Guardrail, as far as the engines do not.
func (c *Content) check() error {
	if len(c.Entries) == 0 {
		return fmt.Errorf("holds no guardrails: neither data.%s.guardrails nor a package with a set deny", reserved)
	}
	if len(c.Entries) > maxGuardrails {
		return fmt.Errorf("holds %d guardrails; the most is %d", len(c.Entries), maxGuardrails)
	}
	for _, name := range c.Names() {
		if !guardrailName.MatchString(name) {
			return fmt.Errorf("has a guardrail of the name %q, which has to consist of letters, digits, '.', '_' and '-'", name)
		}
		if err := c.checkEntry(c.Entries[name]); err != nil {
			return fmt.Errorf("has the guardrail %q, in which %w", name, err)
		}
	}
	return nil
}

// Names of the guardrails, sorted.
func (c *Content) Names() []string { return slices.Sorted(maps.Keys(c.Entries)) }

func (c *Content) checkEntry(e *Entry) error {
	engines := 0
	for _, has := range []bool{e.Ceiling != nil, e.CEL != nil, e.Package != ""} {
		if has {
			engines++
		}
	}
	switch {
	case e.Rego != nil:
		return errors.New("rego: a module is a file of the bundle, and its package is named by package")
	case engines != 1:
		return errors.New("there is not exactly one of ceiling, cel and package")
	case e.Package != "" && !slices.Contains(c.packages, e.Package):
		return fmt.Errorf("package: %q has no set deny", e.Package)
	case e.Exceptions != nil && e.Exceptions.MaxDuration.Duration <= 0:
		return errors.New("exceptions.maxDuration: must be positive")
	}
	return policy.Problems(nil, &e.GuardrailSpec).ToAggregate()
}

// Guardrails of a bundle, as a GuardrailBundle of that name puts them in force,
// sorted by name. Where one does not compile, there are none. Errors are worded to
// follow the name of the bundle.
func (b *Bundle) Guardrails(name string, spec *v1alpha1.GuardrailBundleSpec) ([]*guardrail.Guardrail, error) {
	c, err := b.Content()
	if err != nil {
		return nil, err
	}
	narrow, err := guardrail.NewMatch(spec.Match)
	if err != nil {
		return nil, fmt.Errorf("cannot be put in force: %w", err)
	}
	modules, errs := rego.CompileModules(field.NewPath("modules"), c.modules, c.data, rego.Options{})
	if len(errs) > 0 {
		return nil, fmt.Errorf("has modules that do not compile: %w", errs.ToAggregate())
	}
	var out []*guardrail.Guardrail
	for _, entry := range c.Names() {
		full := withDefaults(c.Entries[entry], spec)
		g, problems := compile(name+"/"+entry, full, modules)
		for _, p := range problems {
			p.Field = entry + ": " + p.Field
		}
		errs = append(errs, problems...)
		if len(problems) > 0 {
			continue
		}
		g.Digest = digestOf(b.Digest, g.Name, spec)
		g.Match = guardrail.Both(narrow, g.Match)
		out = append(out, g)
	}
	if err := errs.ToAggregate(); err != nil {
		return nil, fmt.Errorf("has guardrails that do not compile: %w", err)
	}
	return out, nil
}

// withDefaults is an entry with what the GuardrailBundle says for those that do not
// say themselves.
func withDefaults(e *Entry, spec *v1alpha1.GuardrailBundleSpec) *Entry {
	out := *e
	out.Enforcement = cmp.Or(e.Enforcement, spec.Enforcement)
	if len(e.Points) == 0 {
		out.Points = slices.Clone(spec.Points)
		if e.Ceiling != nil { // which has to do with grants only
			out.Points = slices.DeleteFunc(out.Points, func(p v1alpha1.GuardrailPoint) bool { return p == v1alpha1.PointRequest })
		}
	}
	if e.Exceptions == nil {
		out.Exceptions = spec.Exceptions
	}
	return &out
}

func compile(name string, e *Entry, modules *rego.Modules) (*guardrail.Guardrail, field.ErrorList) {
	if e.Package == "" {
		return policy.Compile(name, &e.GuardrailSpec, policy.Options{})
	}
	g, errs := policy.Frame(name, &e.GuardrailSpec)
	parameters, problems := policy.Parameters(&e.GuardrailSpec)
	if errs = append(errs, problems...); len(errs) > 0 {
		return nil, errs
	}
	g.Check, errs = modules.Check(field.NewPath("package"), e.Package, parameters)
	return g, errs
}

// digestOf a guardrail of a bundle: of all that its answer depends on.
func digestOf(bundle, name string, spec *v1alpha1.GuardrailBundleSpec) string {
	raw, err := json.Marshal([]any{bundle, name, spec.Enforcement, spec.Points, spec.Match, spec.Exceptions})
	if err != nil { // there is nothing in it that cannot be marshalled
		raw = fmt.Appendf(nil, "%s %s %+v", bundle, name, spec)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// InForce are the guardrails of a GuardrailBundle, from the archive that its status
// names. Where there is none, or not that one, it is one guardrail of the bundle's
// name that nothing passes of what the bundle matches.
func InForce(b *v1alpha1.GuardrailBundle, archive []byte) []*guardrail.Guardrail {
	out, err := inForce(b, archive)
	if err == nil {
		return out
	}
	// What the bundle says of enforcement and points is for those guardrails that do
	// not say themselves. These are not known: there may be one that denies, one that
	// is asked at any point, and one that is a ceiling.
	g := &guardrail.Guardrail{
		Name: b.Name, Digest: digestOf("none: "+err.Error(), b.Name, &b.Spec), Enforcement: v1alpha1.EnforcementDeny,
		Points: guardrail.GrantPoints | 1<<guardrail.Request, Ceiling: true, Err: err,
	}
	// A match that cannot be read is that of everything.
	g.Match, _ = guardrail.NewMatch(b.Spec.Match)
	return []*guardrail.Guardrail{g}
}

func inForce(b *v1alpha1.GuardrailBundle, archive []byte) ([]*guardrail.Guardrail, error) {
	active := b.Status.Active
	if active == nil {
		return nil, fmt.Errorf("no bundle %q has been accepted yet", b.Name)
	}
	if archive == nil {
		return nil, fmt.Errorf("the archive of bundle %q, %s, is not there", b.Name, active.Digest)
	}
	if d := Digest(archive); d != active.Digest {
		return nil, fmt.Errorf("the archive of bundle %q is %s, and %s was accepted", b.Name, d, active.Digest)
	}
	opened, err := Open(archive)
	if err != nil {
		return nil, fmt.Errorf("bundle %q %w", b.Name, err)
	}
	out, err := opened.Guardrails(b.Name, &b.Spec)
	if err != nil {
		return nil, fmt.Errorf("bundle %q %w", b.Name, err)
	}
	return out, nil
}

// ArchiveName is that of the ConfigMap in Sallyport's own namespace that holds an
// archive of a GuardrailBundle. Each archive has one of its own, which is never
// changed: so that naming another digest in the status puts another bundle in force
// at once and as a whole.
func ArchiveName(bundle, digest string) string {
	short := strings.TrimPrefix(digest, "sha256:")
	return "sallyport-bundle-" + bundle + "-" + short[:min(len(short), 16)]
}

// ArchiveKey is where in binaryData the archive is.
const ArchiveKey = "bundle.tar.gz"
