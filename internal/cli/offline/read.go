package offline

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/inventory"
	"github.com/sallyport-dev/sallyport/internal/policy/manifest"
	"github.com/sallyport-dev/sallyport/internal/schema"
	"github.com/sallyport-dev/sallyport/internal/source"
)

// Object of this API, or a Namespace.
type Object struct {
	Kind, Namespace, Name string
	// Build is the folder whose kustomization brings it; empty for none.
	Build   string
	content map[string]any
	// Typed is what the content decodes to; nil for a Namespace.
	Typed any
	// Invalid is what the API server would not take.
	Invalid bool
	doc     *manifest.Document
	// within is where in the document the object is: "" or an item of a list.
	within string
	// place of the object, where there is no document for it.
	at manifest.Place
}

// Label is the object as it is called in messages.
func (o *Object) Label() string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// Place of a field, or of the part of it that is there.
func (o *Object) Place(field string) manifest.Place {
	if o.doc == nil {
		return o.at
	}
	return o.doc.Place(join(o.within, field))
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "." + b
}

// Finding about a field of the object.
func (o *Object) Finding(s Severity, field, format string, args ...any) Finding {
	return Finding{Severity: s, Place: o.Place(field), Build: o.Build, Object: o.Label(), Field: field, Message: fmt.Sprintf(format, args...)}
}

// Repository is everything that files say.
type Repository struct {
	Objects  []*Object
	Findings []Finding
	// Fleet and Placements are there after Prepare.
	Fleet      *fleet.Fleet
	Placements map[types.NamespacedName][]string

	// inventory is the objects of the fleet, by kind, and inventoried how many.
	inventory   map[apischema.GroupKind][]unstructured.Unstructured
	inventoried int
	// bundled are the guardrails of bundles, and the names of these.
	bundled  []*guardrail.Guardrail
	bundles  map[string]bool
	compiled map[*Object]*guardrail.Guardrail

	kinds []apischema.GroupKind
	// kept are the objects by build and label.
	kept map[string]*Object
	// schemas of this API.
	schemas *schema.Schemas
}

// kind of this API that is read.
type kind struct {
	namespaced bool
	empty      func() any
}

var kinds = map[string]kind{
	v1alpha1.AccessGrantKind:        {namespaced: true, empty: func() any { return &v1alpha1.AccessGrant{} }},
	v1alpha1.AccessRoleKind:         {empty: func() any { return &v1alpha1.AccessRole{} }},
	v1alpha1.GuardrailKind:          {empty: func() any { return &v1alpha1.Guardrail{} }},
	v1alpha1.GuardrailBundleKind:    {empty: func() any { return &v1alpha1.GuardrailBundle{} }},
	v1alpha1.GuardrailExceptionKind: {namespaced: true, empty: func() any { return &v1alpha1.GuardrailException{} }},
}

const namespaceKind = "Namespace"

// beside are the kinds that count of what is read beside the repository that is judged.
var beside = []string{v1alpha1.GuardrailKind, v1alpha1.AccessRoleKind, v1alpha1.GuardrailBundleKind, namespaceKind}

// Beside is what is read beside a repository, as the flags of commands name it.
type Beside struct {
	// Guardrails and Fleet are files and folders, Bundles are NAME=FILE.
	Guardrails, Fleet, Bundles []string
	// Trusted is who has to have signed the bundles, if it is not nil.
	Trusted *v1alpha1.BundleVerification
}

// ReadBeside reads it.
func (r *Repository) ReadBeside(b Beside) error {
	for _, p := range b.Guardrails {
		if err := r.Read(p, beside); err != nil {
			return fmt.Errorf("cannot read --guardrails %q: %w", p, err)
		}
	}
	for _, p := range b.Fleet {
		before := r.inventoried
		if err := r.Read(p, []string{}); err != nil {
			return fmt.Errorf("cannot read --fleet %q: %w", p, err)
		}
		if r.inventoried == before {
			return fmt.Errorf("cannot read --fleet %q: there is no cluster in it", p)
		}
	}
	for _, flag := range b.Bundles {
		if err := r.bundle(flag, b.Trusted); err != nil {
			return err
		}
	}
	return nil
}

// New is a Repository of nothing.
func New() (*Repository, error) {
	schemas, err := schema.New()
	return &Repository{
		schemas: schemas, inventory: map[apischema.GroupKind][]unstructured.Unstructured{}, kinds: inventoryKinds(), kept: map[string]*Object{},
		bundles: map[string]bool{}, compiled: map[*Object]*guardrail.Guardrail{},
	}, err
}

// Read adds what is in a file or folder. Of what is read beside the repository that
// is judged, only the kinds that are given count; nil is all.
func (r *Repository) Read(name string, only []string) error {
	t, err := open(name)
	if err != nil {
		return err
	}
	defer t.close()
	r.read(t, only)
	return nil
}

func (r *Repository) read(t *tree, only []string) {
	contents := source.Read(t, t.at)
	for _, err := range contents.Errors {
		r.Findings = append(r.Findings, Finding{Severity: Invalid, Place: placeIn(t, err), Message: messageOf(err)})
	}
	for _, skipped := range contents.Skipped {
		file, what, _ := strings.Cut(skipped, ": ")
		r.Findings = append(r.Findings, Finding{Severity: Warning, Place: manifest.Place{File: t.called(file)}, Message: what + ": what it brings is not judged"})
	}
	files := documents{tree: t, read: map[string][]*manifest.Document{}}
	for i := range contents.Objects {
		r.add(&files, &contents.Objects[i], contents.Objects[i].Content, "", only)
	}
}

// add an object, or the items of a list.
func (r *Repository) add(files *documents, f *source.Found, content map[string]any, within string, only []string) {
	u := unstructured.Unstructured{Object: content}
	if items, isList := content["items"].([]any); isList && strings.HasSuffix(u.GetKind(), "List") {
		for i, item := range items {
			if item, isObject := item.(map[string]any); isObject {
				r.add(files, f, item, fmt.Sprintf("%s[%d]", join(within, "items"), i), only)
			}
		}
		return
	}
	gv, err := apischema.ParseGroupVersion(u.GetAPIVersion())
	if err != nil {
		return
	}
	gk := gv.WithKind(u.GetKind()).GroupKind()
	switch {
	case slices.Contains(r.kinds, gk):
		if gk == inventory.ClusterProfileKind.GroupKind() && u.GetNamespace() == "" {
			u.SetNamespace(inventory.DefaultProfileNamespace)
		}
		r.inventory[gk] = append(r.inventory[gk], u)
		r.inventoried++
	case gk.Group == v1alpha1.GroupVersion.Group, gk == apischema.GroupKind{Kind: namespaceKind}:
		if only == nil || slices.Contains(only, gk.Kind) {
			r.own(files, f, &u, gv, within)
		}
	}
}

// own adds an object of this API, or a namespace.
func (r *Repository) own(files *documents, f *source.Found, u *unstructured.Unstructured, gv apischema.GroupVersion, within string) {
	o := &Object{Kind: u.GetKind(), Namespace: u.GetNamespace(), Name: u.GetName(), content: u.Object, within: within}
	o.at = manifest.Place{File: files.tree.called(f.File), Line: f.Line}
	if f.Build != "" {
		o.Build = files.tree.called(f.Build)
	}
	o.doc = files.of(f, u)
	wrong := func(field, format string, args ...any) {
		r.Findings = append(r.Findings, o.Finding(Invalid, field, format, args...))
	}
	if o.Name == "" {
		wrong("metadata", "a name is missing")
		return
	}
	if o.Kind == namespaceKind {
		o.Namespace = ""
		r.keep(o)
		return
	}
	k, known := kinds[o.Kind]
	switch {
	case !known:
		wrong("kind", "there is no such kind in %s", v1alpha1.GroupVersion)
		return
	case gv != v1alpha1.GroupVersion:
		wrong("apiVersion", "must be %s", v1alpha1.GroupVersion)
		return
	case k.namespaced && o.Namespace == "":
		wrong("metadata", "a namespace is missing")
		return
	case !k.namespaced:
		o.Namespace = "" // kustomize gives one to every kind that it does not know
	}
	raw, err := json.Marshal(u.Object)
	if err != nil {
		wrong("", "cannot be read: %v", err)
		return
	}
	o.Typed = k.empty()
	if errs := manifest.Strict(raw, o.Typed); len(errs) > 0 {
		if o.doc != nil {
			o.doc.Explain(within, errs)
		}
		for _, e := range errs {
			field := strings.TrimPrefix(strings.TrimPrefix(e.Field, within), ".")
			r.Findings = append(r.Findings, o.Finding(Invalid, field, "%s", e.Err))
		}
		return
	}
	errs, err := r.schemas.Validate(context.Background(), o.Kind, u.Object)
	if err != nil {
		wrong("", "%v", err)
	}
	for _, e := range errs {
		wrong(e.Field, "%s", schema.Refusal(e))
	}
	o.Invalid = len(errs) > 0 || err != nil
	r.keep(o)
}

// keep an object unless it is there already. Two builds may each have it, as
// overlays of one base do.
func (r *Repository) keep(o *Object) {
	key := o.Build + "\x00" + o.Label()
	if other, twice := r.kept[key]; twice {
		if !reflect.DeepEqual(other.content, o.content) {
			r.Findings = append(r.Findings, o.Finding(Invalid, "", "is already in %s, and is not the same there", other.Place("")))
		}
		return
	}
	r.kept[key] = o
	r.Objects = append(r.Objects, o)
}
