package lint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/inventory"
	"github.com/sallyport-dev/sallyport/internal/policy/manifest"
	"github.com/sallyport-dev/sallyport/internal/schema"
	"github.com/sallyport-dev/sallyport/internal/source"
)

// object of this API, or a Namespace.
type object struct {
	kind, namespace, name string
	build                 string
	content               map[string]any
	// typed is what the content decodes to.
	typed any
	// invalid is what the API server would not take.
	invalid bool
	doc     *manifest.Document
	// within is where in the document the object is: "" or an item of a list.
	within string
	// place of the object, where there is no document for it.
	at manifest.Place
}

// label is the object as it is called in messages.
func (o *object) label() string {
	if o.namespace == "" {
		return o.kind + " " + o.name
	}
	return o.kind + " " + o.namespace + "/" + o.name
}

// place of a field, or of the part of it that is there.
func (o *object) place(field string) manifest.Place {
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

func (o *object) finding(s severity, field, format string, args ...any) finding {
	return finding{severity: s, place: o.place(field), build: o.build, object: o.label(), field: field, message: fmt.Sprintf(format, args...)}
}

// read is everything that files say.
type read struct {
	objects []*object
	// fleet objects, by kind.
	fleet    map[apischema.GroupKind][]unstructured.Unstructured
	findings []finding
	// inventoried is how many objects of the fleet there are.
	inventoried int

	kinds []apischema.GroupKind
	// kept are the objects by build and label.
	kept map[string]*object
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

func newRead() (*read, error) {
	schemas, err := schema.New()
	return &read{schemas: schemas, fleet: map[apischema.GroupKind][]unstructured.Unstructured{}, kinds: inventoryKinds(), kept: map[string]*object{}}, err
}

// tree is a file or folder, seen from the root of its repository, so that what it
// refers to is found, and nothing outside of the repository is.
type tree struct {
	fs.FS
	// at is the file or folder, from the root.
	at string
	// prefix leads from the working directory to the root.
	prefix string
	close  func()
}

// open finds the repository of a path: the innermost folder above it that is a Git
// work tree, else the path itself.
func open(name string) (*tree, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	absolute, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	root := absolute
	if !info.IsDir() {
		root = filepath.Dir(absolute)
	}
	for dir := root; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			root = dir
			break
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	at, err := filepath.Rel(root, absolute)
	if err != nil {
		return nil, err
	}
	prefix := root
	if working, err := os.Getwd(); err == nil && !filepath.IsAbs(name) {
		if relative, err := filepath.Rel(working, root); err == nil {
			prefix = relative
		}
	}
	opened, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	return &tree{FS: opened.FS(), at: filepath.ToSlash(at), prefix: filepath.ToSlash(prefix), close: func() { _ = opened.Close() }}, nil
}

// called is a file of the tree as messages name it.
func (t *tree) called(name string) string { return path.Join(t.prefix, name) }

// path adds what is in a file or folder. Of what is read beside the repository that
// is judged, only the kinds that are given count; nil is all.
func (r *read) path(name string, only []string) error {
	t, err := open(name)
	if err != nil {
		return err
	}
	defer t.close()
	contents := source.Read(t, t.at)
	for _, err := range contents.Errors {
		r.findings = append(r.findings, finding{severity: invalid, place: placeIn(t, err), message: messageOf(err)})
	}
	for _, skipped := range contents.Skipped {
		file, what, _ := strings.Cut(skipped, ": ")
		r.findings = append(r.findings, finding{severity: warning, place: manifest.Place{File: t.called(file)}, message: what + ": what it brings is not judged"})
	}
	files := documents{tree: t, read: map[string][]*manifest.Document{}}
	for i := range contents.Objects {
		r.add(&files, &contents.Objects[i], contents.Objects[i].Content, "", only)
	}
	return nil
}

// add an object, or the items of a list.
func (r *read) add(files *documents, f *source.Found, content map[string]any, within string, only []string) {
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
		r.fleet[gk] = append(r.fleet[gk], u)
		r.inventoried++
	case gk.Group == v1alpha1.GroupVersion.Group, gk == apischema.GroupKind{Kind: namespaceKind}:
		if only == nil || slices.Contains(only, gk.Kind) {
			r.own(files, f, &u, gv, within)
		}
	}
}

// own adds an object of this API, or a namespace.
func (r *read) own(files *documents, f *source.Found, u *unstructured.Unstructured, gv apischema.GroupVersion, within string) {
	o := &object{kind: u.GetKind(), namespace: u.GetNamespace(), name: u.GetName(), content: u.Object, within: within}
	o.at = manifest.Place{File: files.tree.called(f.File), Line: f.Line}
	if f.Build != "" {
		o.build = files.tree.called(f.Build)
	}
	o.doc = files.of(f, u)
	wrong := func(field, format string, args ...any) {
		r.findings = append(r.findings, o.finding(invalid, field, format, args...))
	}
	if o.name == "" {
		wrong("metadata", "a name is missing")
		return
	}
	if o.kind == namespaceKind {
		o.namespace = ""
		r.keep(o)
		return
	}
	k, known := kinds[o.kind]
	switch {
	case !known:
		wrong("kind", "there is no such kind in %s", v1alpha1.GroupVersion)
		return
	case gv != v1alpha1.GroupVersion:
		wrong("apiVersion", "must be %s", v1alpha1.GroupVersion)
		return
	case k.namespaced && o.namespace == "":
		wrong("metadata", "a namespace is missing")
		return
	case !k.namespaced:
		o.namespace = "" // kustomize gives one to every kind that it does not know
	}
	raw, err := json.Marshal(u.Object)
	if err != nil {
		wrong("", "cannot be read: %v", err)
		return
	}
	o.typed = k.empty()
	if errs := manifest.Strict(raw, o.typed); len(errs) > 0 {
		if o.doc != nil {
			o.doc.Explain(within, errs)
		}
		for _, e := range errs {
			field := strings.TrimPrefix(strings.TrimPrefix(e.Field, within), ".")
			r.findings = append(r.findings, o.finding(invalid, field, "%s", e.Err))
		}
		return
	}
	errs, err := r.schemas.Validate(context.Background(), o.kind, u.Object)
	if err != nil {
		wrong("", "%v", err)
	}
	for _, e := range errs {
		wrong(e.Field, "%s", schema.Refusal(e))
	}
	o.invalid = len(errs) > 0 || err != nil
	r.keep(o)
}

// keep an object unless it is there already. Two builds may each have it, as
// overlays of one base do.
func (r *read) keep(o *object) {
	key := o.build + "\x00" + o.label()
	if other, twice := r.kept[key]; twice {
		if !reflect.DeepEqual(other.content, o.content) {
			r.findings = append(r.findings, o.finding(invalid, "", "is already in %s, and is not the same there", other.place("")))
		}
		return
	}
	r.kept[key] = o
	r.objects = append(r.objects, o)
}

// placeIn takes the place from an error of the reader: file:line: message.
func placeIn(t *tree, err error) manifest.Place {
	file, rest, _ := strings.Cut(err.Error(), ":")
	p := manifest.Place{}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		p.File = t.called(pathError.Path)
		return p
	}
	p.File = t.called(file)
	if line, _, found := strings.Cut(rest, ":"); found {
		_, _ = fmt.Sscanf(line, "%d", &p.Line)
	}
	return p
}

// messageOf is the error without its place.
func messageOf(err error) string {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err.Error()
	}
	_, message, found := strings.Cut(err.Error(), ": ")
	if !found {
		return err.Error()
	}
	return message
}

// documents of files, each file read once.
type documents struct {
	tree *tree
	read map[string][]*manifest.Document
}

// of an object, nil if there is none to be found: for one that a kustomization
// brings, the document that it began as, whose name may have been another.
func (d *documents) of(f *source.Found, u *unstructured.Unstructured) *manifest.Document {
	docs, known := d.read[f.File]
	if !known {
		if data, err := fs.ReadFile(d.tree, f.File); err == nil {
			docs, _ = manifest.Documents(d.tree.called(f.File), data)
		}
		d.read[f.File] = docs
	}
	var similar *manifest.Document
	for _, doc := range docs {
		switch {
		case f.Line != 0:
			if doc.Place("").Line == f.Line {
				return doc
			}
		case doc.Value("kind") != u.GetKind():
		case doc.Value("metadata.name") == u.GetName():
			return doc
		case doc.Value("metadata.name") != "" && strings.Contains(u.GetName(), doc.Value("metadata.name")):
			similar = doc
		}
	}
	return similar
}
