package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	opa "github.com/open-policy-agent/opa/v1/bundle"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/policy/rego"
)

// Manifest says what a bundle is made of.
type Manifest struct {
	// Name and Description of the bundle, for people.
	Name, Description string
	Revision          Revision
	// Guardrails by name, as the API has them.
	Guardrails map[string]v1alpha1.GuardrailSpec
}

// Build a bundle. It is unsigned, the same for the same manifest, and compiles.
func Build(m Manifest) ([]byte, error) {
	files := map[string][]byte{}
	entries := map[string]*Entry{}
	owner := map[string]string{} // of each package
	roots := map[string]bool{reserved + "/guardrails": true}
	for _, name := range slices.Sorted(maps.Keys(m.Guardrails)) {
		e := &Entry{GuardrailSpec: m.Guardrails[name]}
		entries[name] = e
		if e.Rego == nil {
			continue
		}
		pkg, err := packageOf(name, e.Rego.Module)
		if err != nil {
			return nil, fmt.Errorf("cannot build the bundle: guardrail %q: %w", name, err)
		}
		if other, ok := owner[pkg]; ok {
			return nil, fmt.Errorf("cannot build the bundle: guardrails %q and %q are both of the package %s", other, name, pkg)
		}
		owner[pkg] = name
		files[rootOf(pkg)+"/policy.rego"] = []byte(e.Rego.Module)
		roots[rootOf(pkg)] = true
		e.Rego, e.Package = nil, pkg
	}
	if len(owner) > 0 {
		for name, module := range rego.Library() { // for others than Sallyport
			files[name] = []byte(module)
			roots[strings.TrimSuffix(name, opa.RegoExt)] = true
		}
	}
	var err error
	if files["data.json"], err = json.MarshalIndent(map[string]any{reserved: map[string]any{"guardrails": entries}}, "", "  "); err != nil {
		return nil, fmt.Errorf("cannot build the bundle: %w", err)
	}
	if files[manifestFile], err = manifest(m, narrowest(roots)); err != nil {
		return nil, fmt.Errorf("cannot build the bundle: %w", err)
	}
	archive, err := pack(files)
	if err != nil {
		return nil, fmt.Errorf("cannot build the bundle: %w", err)
	}
	return archive, builds(archive)
}

// builds reports why a bundle would be refused by those it is for.
func builds(archive []byte) error {
	b, err := Open(archive)
	if err == nil {
		_, err = b.Revision()
	}
	if err == nil {
		_, err = b.Guardrails("bundle", &v1alpha1.GuardrailBundleSpec{})
	}
	if err != nil {
		return fmt.Errorf("cannot build the bundle: it %w", err)
	}
	return nil
}

func manifest(m Manifest, roots []string) ([]byte, error) {
	out := opa.Manifest{Revision: m.Revision.String(), Roots: &roots, Metadata: map[string]any{"name": m.Name}}
	if m.Description != "" {
		out.Metadata["description"] = m.Description
	}
	out.SetRegoVersion(ast.RegoV1)
	return json.Marshal(out)
}

var packageName = regexp.MustCompile(`^data(\.[A-Za-z_][A-Za-z0-9_]*)+$`)

// packageOf a module, such as data.guardrails.no_prod_exec.
func packageOf(name, module string) (string, error) {
	packages, err := rego.Packages(map[string]string{name + opa.RegoExt: module})
	switch {
	case err != nil:
		return "", err
	case len(packages) != 1:
		return "", errors.New("the module has no set deny")
	case !packageName.MatchString(packages[0]):
		return "", fmt.Errorf("the name of package %s has a part that is no word", packages[0])
	}
	return packages[0], nil
}

// rootOf a package is where OPA has it, and its file is by custom.
func rootOf(pkg string) string {
	return strings.ReplaceAll(strings.TrimPrefix(pkg, "data."), ".", "/")
}

// narrowest are the roots that are in no other: OPA allows no overlap.
func narrowest(roots map[string]bool) []string {
	var out []string
	for _, root := range slices.Sorted(maps.Keys(roots)) {
		if !opa.RootPathsContain(out, root) { // a root sorts before those in it
			out = append(out, root)
		}
	}
	return out
}
