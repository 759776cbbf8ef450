package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"reflect"
	"strings"

	kjson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// originAnnotation is where kustomize says from which file an object comes.
const originAnnotation = "config.kubernetes.io/origin"

// kustomizationIn returns the name of the kustomization in a folder, if any.
func kustomizationIn(files fs.FS, folder string) (string, error) {
	var found string
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		name = path.Join(folder, name)
		if _, err := fs.Stat(files, name); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return "", err
		}
		if found != "" {
			return "", fmt.Errorf("%s: %s is there as well: keep one", name, path.Base(found))
		}
		found = name
	}
	return found, nil
}

// runKustomize builds a folder with a kustomization.
func runKustomize(files *reader, folder string) (found []placed, err error) {
	o := overlay{files: files, fs: filesys.MakeFsInMemory(), seen: map[string]bool{}}
	return o.build(folder)
}

// build the kustomization in a folder.
func (o overlay) build(folder string) (found []placed, err error) {
	if err := o.addKustomization(folder, true); err != nil {
		return nil, err
	}
	// A commit must not be able to bring the controller down, and kustomize is
	// large.
	defer func() {
		if r := recover(); r != nil {
			found, err = nil, fmt.Errorf("%s: kustomize panicked", folder)
		}
	}()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(o.fs, path.Join("/", folder))
	if err != nil {
		return nil, fmt.Errorf("%s: %s", folder, printable(err.Error(), 1024))
	}
	if built.Size() > o.files.objects {
		return nil, fmt.Errorf("%s: %d objects are more than the %d that a commit may have", folder, built.Size(), o.files.objects)
	}
	for _, r := range built.Resources() {
		p, err := placeResource(folder, r)
		if err != nil {
			return nil, err
		}
		found = append(found, p)
	}
	return found, nil
}

// placeResource takes the file from the annotation that kustomize was told to set.
func placeResource(folder string, r *resource.Resource) (placed, error) {
	at := path.Join(folder, "kustomization.yaml")
	annotations := r.GetAnnotations()
	var origin resource.Origin
	if yaml.Unmarshal([]byte(annotations[originAnnotation]), &origin) == nil && origin.Path != "" {
		at = path.Join(folder, origin.Path)
	}
	delete(annotations, originAnnotation)
	if err := r.SetAnnotations(annotations); err != nil {
		return placed{}, fmt.Errorf("%s: %w", at, err)
	}
	data, err := r.MarshalJSON()
	if err != nil {
		return placed{}, fmt.Errorf("%s: %w", at, err)
	}
	p := placed{at: at}
	if err := kjson.Unmarshal(data, &p.content); err != nil {
		return placed{}, fmt.Errorf("%s: %w", at, err)
	}
	return p, nil
}

// overlay fills the file system that kustomize sees with the files that are
// reached from a kustomization, and nothing else. Kustomizations are written as
// they were understood here, with each path as "./…" or "../…" to something that
// exists: none of what kustomize would take for a URL and dial, or hand to a git
// binary, is left to it.
type overlay struct {
	files *reader
	fs    filesys.FileSystem
	seen  map[string]bool
	// reduce takes out of a kustomization what is not to be built; nil takes
	// nothing, so that it is refused.
	reduce func(file string, k *types.Kustomization)
}

func (o overlay) addKustomization(folder string, root bool) error {
	if o.seen[folder] {
		return nil
	}
	o.seen[folder] = true
	name, err := kustomizationIn(o.files, folder)
	if err != nil {
		return err
	}
	if name == "" {
		return fmt.Errorf("%s: no kustomization in this folder", folder)
	}
	data, err := o.files.readFile(name)
	if err != nil {
		return err
	}
	k, err := parseKustomization(name, data)
	if err != nil {
		return err
	}
	if o.reduce != nil {
		o.reduce(name, &k)
	}
	if field := refusedField(k); field != "" {
		return fmt.Errorf("%s: %q is refused: a commit may not run plugins, helm or generators, nor load schemas", name, field)
	}
	if err := o.addReferences(folder, &k); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if root {
		k.BuildMetadata = []string{types.OriginAnnotations}
	}
	// Empty lists are not written, and kustomize refuses a kustomization of
	// nothing at all.
	k.MetaData = &types.ObjectMeta{Name: "sallyport"}
	if data, err = json.Marshal(k); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return o.fs.WriteFile(path.Join("/", folder, konfig.DefaultKustomizationFileName()), data)
}

func parseKustomization(name string, data []byte) (types.Kustomization, error) {
	var k types.Kustomization
	docs := documents(data)
	if len(docs) != 1 {
		return k, fmt.Errorf("%s: one document is expected, not %d", name, len(docs))
	}
	if _, err := docs[0].decode(name); err != nil {
		return k, err
	}
	if err := k.Unmarshal(data); err != nil {
		return k, fmt.Errorf("%s: %w", name, err)
	}
	k.FixKustomization()
	if err := k.CheckEmpty(); err != nil {
		return k, fmt.Errorf("%s: empty", name)
	}
	return k, nil
}

// refusedField returns the name of a field that may not be used. It takes out
// what is allowed and looks at what is left, so that a field that a later
// kustomize brings is refused until somebody has thought about it.
func refusedField(k types.Kustomization) string {
	k.TypeMeta, k.MetaData = types.TypeMeta{}, nil
	k.Resources, k.Components = nil, nil
	k.Namespace, k.NamePrefix, k.NameSuffix = "", "", ""
	k.Labels, k.CommonLabels, k.CommonAnnotations = nil, nil, nil
	k.Patches, k.PatchesStrategicMerge, k.PatchesJson6902 = nil, nil, nil
	k.Replacements, k.Configurations, k.SortOptions = nil, nil, nil
	v := reflect.ValueOf(k)
	for i := range v.NumField() {
		field := v.Field(i)
		// FixKustomization makes empty lists of absent ones.
		if empty := field.Kind() == reflect.Slice && field.Len() == 0; !empty && !field.IsZero() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			return name
		}
	}
	return ""
}

// addReferences adds everything that a kustomization refers to and rewrites the
// references.
func (o overlay) addReferences(folder string, k *types.Kustomization) error {
	for i := range k.Resources {
		if err := o.add(folder, &k.Resources[i], true); err != nil {
			return err
		}
	}
	for i := range k.Components {
		if err := o.add(folder, &k.Components[i], true); err != nil {
			return err
		}
	}
	for i := range k.Configurations {
		if err := o.add(folder, &k.Configurations[i], false); err != nil {
			return err
		}
	}
	for i := range k.PatchesStrategicMerge {
		if err := o.add(folder, (*string)(&k.PatchesStrategicMerge[i]), false); err != nil {
			return fmt.Errorf("%w; an inline patch belongs under patches", err)
		}
	}
	for _, patches := range [][]types.Patch{k.Patches, k.PatchesJson6902} {
		for i := range patches {
			if err := o.addPatch(folder, &patches[i]); err != nil {
				return err
			}
		}
	}
	for i := range k.Replacements {
		if k.Replacements[i].Path == "" {
			continue
		}
		if err := o.add(folder, &k.Replacements[i].Path, false); err != nil {
			return err
		}
	}
	return nil
}

func (o overlay) addPatch(folder string, p *types.Patch) error {
	if p.Path != "" {
		return o.add(folder, &p.Path, false)
	}
	return checkYAML("inline patch", []byte(p.Patch))
}

// add adds what a kustomization in a folder refers to, and rewrites the reference.
func (o overlay) add(folder string, reference *string, folderAllowed bool) error {
	name, err := resolve(folder, *reference)
	if err != nil {
		return err
	}
	info, err := fs.Stat(o.files, name)
	if err != nil {
		return missing(*reference, err)
	}
	if info.IsDir() {
		if !folderAllowed {
			return fmt.Errorf("%q is a folder", *reference)
		}
		err = o.addKustomization(name, false)
	} else {
		err = o.addFile(name)
	}
	if err != nil {
		return err
	}
	relative, err := filepath.Rel(folder, name)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(relative, "../") && relative != ".." {
		relative = "./" + relative
	}
	*reference = relative
	return nil
}

func (o overlay) addFile(name string) error {
	data, err := o.files.readFile(name)
	if err != nil {
		return err
	}
	if err := checkYAML(name, data); err != nil {
		return err
	}
	return o.fs.WriteFile(path.Join("/", name), data)
}

// checkYAML finds errors where they are, which kustomize does not, and aliases
// that multiply, which kustomize would expand until memory ends.
func checkYAML(name string, data []byte) error {
	for _, doc := range documents(data) {
		if _, err := yaml.YAMLToJSONStrict(doc.text); err != nil {
			return doc.yamlError(name, err)
		}
	}
	return nil
}

// resolve returns where in the repository a reference leads.
func resolve(folder, reference string) (string, error) {
	if remote(reference) {
		return "", fmt.Errorf("%q is remote: a commit may refer only to its own files", reference)
	}
	if path.IsAbs(reference) {
		return "", fmt.Errorf("%q is absolute: a commit may refer only to its own files", reference)
	}
	name := path.Join(folder, reference)
	if reference == "" || !fs.ValidPath(name) {
		return "", fmt.Errorf("%q is outside of the repository: a commit may refer only to its own files", reference)
	}
	return name, nil
}

// remote tells what kustomize could take for a URL. It is there for a good
// message: what keeps kustomize from dialling is that nothing which is no file of
// the commit gets past add.
func remote(reference string) bool {
	for _, sign := range []string{"://", "git::", "git@", "?", "_git/"} {
		if strings.Contains(reference, sign) {
			return true
		}
	}
	return false
}

func missing(reference string, err error) error {
	if host, _, deep := strings.Cut(reference, "/"); deep && strings.ContainsAny(strings.Trim(host, "."), ".:") {
		return fmt.Errorf("%q does not exist in the repository; if it is remote, it is refused", reference)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%q does not exist in the repository", reference)
	}
	return err
}
