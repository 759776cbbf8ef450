package examples

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/policy/manifest"
)

// The files of a policy folder.
const (
	guardrailFile = "guardrail.yaml"
	twinFile      = "guardrail.rego.yaml"
	examplesFile  = "examples.yaml"
	moduleFile    = "policy.rego"
)

// Policy is a folder: a guardrail, with a twin if it has one, and the examples for
// both.
type Policy struct {
	Folder     string
	Guardrails []*Guardrail
	Examples   *File
}

// Guardrail of a policy.
type Guardrail struct {
	*v1alpha1.Guardrail
	File string

	content map[string]any
	doc     *manifest.Document
}

// Engine that the guardrail is written for: ceiling, cel or rego.
func (g *Guardrail) Engine() string {
	switch {
	case g.Spec.Ceiling != nil:
		return "ceiling"
	case g.Spec.CEL != nil:
		return "cel"
	}
	return "rego"
}

// Find the policy folders at or below a folder, sorted. Folders whose names begin
// with a dot are left out.
func Find(files fs.FS, root string) ([]string, error) {
	var found []string
	err := fs.WalkDir(files, root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != root && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case !entry.IsDir() && (entry.Name() == guardrailFile || entry.Name() == examplesFile):
			found = append(found, path.Dir(name))
		}
		return nil
	})
	slices.Sort(found)
	return slices.Compact(found), err
}

// Load a policy folder, which messages call by the name that is given. Errors name
// file, line and field.
func Load(files fs.FS, folder, called string) (*Policy, error) {
	p := &Policy{Folder: called}
	name := path.Join(called, examplesFile)
	data, err := fs.ReadFile(files, path.Join(folder, examplesFile))
	if err != nil {
		return nil, missing(name, "a guardrail without examples is not tested", err)
	}
	p.Examples, err = Read(name, data)
	errs := []error{err}
	for _, base := range []string{guardrailFile, twinFile} {
		name := path.Join(called, base)
		data, err := fs.ReadFile(files, path.Join(folder, base))
		if errors.Is(err, fs.ErrNotExist) && base == twinFile {
			continue
		}
		if err != nil {
			errs = append(errs, missing(name, "there is nothing to test", err))
			continue
		}
		g, err := ReadGuardrail(name, data)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.Guardrails = append(p.Guardrails, g)
	}
	errs = append(errs, p.checkModule(files, folder))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, nil
}

func missing(file, so string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: not there: %s", file, so)
	}
	return fmt.Errorf("%s: %w", file, err)
}

// ReadGuardrail reads a file that holds one Guardrail.
func ReadGuardrail(file string, data []byte) (*Guardrail, error) {
	doc, err := manifest.One(file, data)
	if err != nil {
		return nil, err
	}
	g := &Guardrail{Guardrail: &v1alpha1.Guardrail{}, File: file, doc: doc}
	if err := doc.Decode(g.Guardrail); err != nil {
		return nil, err
	}
	if err := doc.Decode(&g.content); err != nil {
		return nil, err
	}
	switch {
	case g.APIVersion != v1alpha1.GroupVersion.String():
		err = doc.Errorf("apiVersion", "must be %s", v1alpha1.GroupVersion)
	case g.Kind != v1alpha1.GuardrailKind:
		err = doc.Errorf("kind", "must be %s", v1alpha1.GuardrailKind)
	case g.Name == "":
		err = doc.Errorf("metadata", "needs a name")
	}
	return g, err
}

// checkModule: what opa tests is what is in force.
func (p *Policy) checkModule(files fs.FS, folder string) error {
	name := path.Join(p.Folder, moduleFile)
	data, err := fs.ReadFile(files, path.Join(folder, moduleFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	i := slices.IndexFunc(p.Guardrails, func(g *Guardrail) bool { return g.Spec.Rego != nil })
	if i < 0 {
		return fmt.Errorf("%s: no guardrail of the folder is written in Rego", name)
	}
	g := p.Guardrails[i]
	if module := []byte(g.Spec.Rego.Module); !bytes.Equal(data, module) {
		theirs := bytes.Split(module, []byte("\n"))
		for n, line := range bytes.Split(data, []byte("\n")) {
			if n >= len(theirs) || !bytes.Equal(line, theirs[n]) {
				return &manifest.Error{Place: manifest.Place{File: name, Line: n + 1}, Err: fmt.Errorf("differs from the module in %s", g.File)}
			}
		}
		return fmt.Errorf("%s: shorter than the module in %s", name, g.File)
	}
	return nil
}

// position is how the engines say where in a text something is wrong.
var position = regexp.MustCompile(`^(?:\S+\.rego:)?(\d+):(\d+): `)

// problems places what keeps the guardrail from compiling in its file: at line and
// column of the text of the policy where the engine tells them.
func (g *Guardrail) problems(errs field.ErrorList) []error {
	placed := Problems(g.doc, "", errs)
	out := make([]error, 0, len(placed))
	for _, e := range placed {
		out = append(out, e)
	}
	return out
}

// Problems places what keeps a guardrail from compiling in its document, which may
// be nil; within is where in the document the guardrail is, "" for all of it.
func Problems(doc *manifest.Document, within string, errs field.ErrorList) []*manifest.Error {
	placed := make([]*manifest.Error, 0, len(errs))
	for _, e := range errs {
		line, column, text := 0, 0, e.Detail
		if at := position.FindStringSubmatch(text); at != nil {
			line, _ = strconv.Atoi(at[1])
			column, _ = strconv.Atoi(at[2])
		}
		at := strings.Join(nonEmpty(within, e.Field), ".")
		var p manifest.Place
		switch {
		case doc == nil:
		case line == 0:
			p = doc.Place(at)
		default:
			p, text = doc.Within(at, line, column), position.ReplaceAllString(text, "")
		}
		placed = append(placed, &manifest.Error{Place: p, Field: e.Field, Err: errors.New(cmp.Or(text, e.ErrorBody()))})
	}
	slices.SortStableFunc(placed, func(a, b *manifest.Error) int { return a.Place.Compare(b.Place) })
	return placed
}
