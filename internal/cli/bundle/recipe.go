package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	packed "github.com/sallyport-dev/sallyport/internal/bundle"
	"github.com/sallyport-dev/sallyport/internal/policy/examples"
	"github.com/sallyport-dev/sallyport/internal/policy/manifest"
)

// recipe says which policies make a bundle.
type recipe struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// Policies are folders, or patterns of them.
	Policies []string `json:"policies"`
	// Engine whose guardrail is taken where a folder has two.
	Engine string `json:"engine,omitempty"`
	// Overrides by folder.
	Overrides map[string]override `json:"overrides,omitempty"`
}

// override is what a bundle says otherwise than the policy. What is absent stays.
type override struct {
	Enforcement v1alpha1.Enforcement      `json:"enforcement,omitempty"`
	Points      []v1alpha1.GuardrailPoint `json:"points,omitempty"`
	Match       *v1alpha1.GuardrailMatch  `json:"match,omitempty"`
	Exceptions  *v1alpha1.ExceptionTerms  `json:"exceptions,omitempty"`
	Parameters  *apiextensionsv1.JSON     `json:"parameters,omitempty"`
}

func (o *override) apply(to *v1alpha1.GuardrailSpec) {
	if o.Enforcement != "" {
		to.Enforcement = o.Enforcement
	}
	if o.Points != nil {
		to.Points = o.Points
	}
	if o.Match != nil {
		to.Match = o.Match
	}
	if o.Exceptions != nil {
		to.Exceptions = o.Exceptions
	}
	if o.Parameters != nil {
		to.Parameters = o.Parameters
	}
}

// The files of a policy that a bundle may be made of; the first is the usual one.
var guardrailFiles = []string{"guardrail.yaml", "guardrail.rego.yaml"}

// build the bundle of a recipe. Errors name file, line and field.
func build(file, policies, revision string) ([]byte, error) {
	b := builder{read: map[string][]byte{}}
	data, err := b.file(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read what the bundle is made of: %w", err)
	}
	doc, err := manifest.One(file, data)
	if err != nil {
		return nil, err
	}
	var r recipe
	if err := doc.Decode(&r); err != nil {
		return nil, err
	}
	m := packed.Manifest{Name: r.Name, Description: r.Description, Guardrails: map[string]v1alpha1.GuardrailSpec{}}
	if m.Name == "" {
		return nil, doc.Errorf("name", "is missing")
	}
	folders, err := b.folders(doc, &r, policies)
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		spec, err := b.guardrail(filepath.Join(policies, folder), r.Engine)
		if err != nil {
			return nil, err
		}
		if o, ok := r.Overrides[folder]; ok {
			o.apply(spec)
		}
		m.Guardrails[path.Base(folder)] = *spec
	}
	if revision == "" {
		if revision, err = b.commit(filepath.Dir(file)); err != nil {
			return nil, fmt.Errorf("cannot tell the revision: %w; commit, or give --revision", err)
		}
	}
	if m.Revision, err = packed.ParseRevision(revision); err != nil {
		return nil, fmt.Errorf("--revision: %w", err)
	}
	return packed.Build(m)
}

// builder keeps what it has read, by name.
type builder struct{ read map[string][]byte }

func (b *builder) file(name string) ([]byte, error) {
	data, err := os.ReadFile(name)
	if err == nil {
		b.read[name] = data
	}
	return data, err
}

// folders that a recipe selects, sorted.
func (b *builder) folders(doc *manifest.Document, r *recipe, policies string) ([]string, error) {
	all, err := examples.Find(os.DirFS(policies), ".")
	if err != nil {
		return nil, fmt.Errorf("cannot find the policies: %w", err)
	}
	found := map[string]bool{}
	for i, pattern := range r.Policies {
		at := fmt.Sprintf("policies[%d]", i)
		some := false
		for _, folder := range all {
			ok, err := path.Match(pattern, folder)
			if err != nil {
				return nil, doc.Errorf(at, "%q is no pattern", pattern)
			}
			if ok {
				some, found[folder] = true, true
			}
		}
		if !some {
			return nil, doc.Errorf(at, "%q is no policy in %s", pattern, policies)
		}
	}
	folders := slices.Sorted(maps.Keys(found))
	names := map[string]string{}
	for _, folder := range folders {
		if other, ok := names[path.Base(folder)]; ok {
			return nil, doc.Errorf("policies", "%s and %s have one name", other, folder)
		}
		names[path.Base(folder)] = folder
	}
	for _, folder := range slices.Sorted(maps.Keys(r.Overrides)) {
		if !found[folder] {
			return nil, doc.Errorf("overrides["+folder+"]", "is no policy of the bundle")
		}
	}
	return folders, nil
}

// guardrail of a folder: the one in that engine, or else the first.
func (b *builder) guardrail(folder, engine string) (*v1alpha1.GuardrailSpec, error) {
	var first *examples.Guardrail
	for _, base := range guardrailFiles {
		name := filepath.Join(folder, base)
		data, err := b.file(name)
		if errors.Is(err, fs.ErrNotExist) && (first != nil || base != guardrailFiles[len(guardrailFiles)-1]) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the policy: %w", err)
		}
		g, err := examples.ReadGuardrail(filepath.ToSlash(name), data)
		if err != nil {
			return nil, err
		}
		if g.Engine() == engine {
			return &g.Spec, nil
		}
		if first == nil {
			first = g
		}
	}
	return &first.Spec, nil
}
