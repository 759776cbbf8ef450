package source

import (
	"bytes"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// Found is an object of a repository, of any kind.
type Found struct {
	Content map[string]any
	// File that it is in, and the line at which it begins, 0 if that is not known.
	File string
	Line int
	// Build is the folder whose kustomization brings the object; "" for one that is
	// read as it is.
	Build string
}

// Contents are what a folder of a repository holds.
type Contents struct {
	// Objects in the order in which they were found.
	Objects []Found
	// Skipped is what was not read, in words: it may bring objects, but not here.
	Skipped []string
	// Errors, each with its file.
	Errors []error
}

// localLimits are for a repository that the reader has in front of them: what it
// costs, it costs them.
var localLimits = limits{file: 16 << 20, total: 1 << 30, files: 1_000_000, objects: 1_000_000}

// Read all of a folder, or one file, for somebody who looks at a repository before
// it is applied. Each kustomization that no other refers to is built, in the same
// sandbox as Build; all other YAML and JSON is read as it is.
//
// Unlike Build it goes on after errors, and it is at home in repositories that hold
// more than access: images, replicas and generators are left out of kustomizations,
// as are remote resources, which are reported as skipped; and a file that is no YAML,
// such as a template, is an error only if it speaks of this API.
func Read(files fs.FS, folder string) Contents {
	r := survey{reader: &reader{FS: files, limits: localLimits}, referred: map[string]bool{}}
	r.walk(folder)
	slices.Sort(r.kustomizations)
	for _, k := range r.kustomizations {
		r.refer(k)
	}
	for _, k := range r.kustomizations {
		if !r.referred[k] {
			r.build(k)
		}
	}
	for _, name := range r.plain {
		if !r.referred[name] {
			r.read(name)
		}
	}
	slices.Sort(r.out.Skipped)
	r.out.Skipped = slices.Compact(r.out.Skipped)
	return r.out
}

type survey struct {
	*reader
	// kustomizations by folder, and all other files that may hold objects.
	kustomizations, plain []string
	// referred are the folders and files that some kustomization refers to, and the
	// components, which are nothing by themselves.
	referred map[string]bool
	out      Contents
}

func (r *survey) fail(err error) { r.out.Errors = append(r.out.Errors, err) }

func (r *survey) walk(folder string) {
	err := fs.WalkDir(r, folder, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			r.fail(err)
		case name != folder && strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
		case entry.IsDir():
			switch k, err := kustomizationIn(r, name); {
			case err != nil:
				r.fail(err)
			case k != "":
				r.kustomizations = append(r.kustomizations, name)
				r.referred[k] = true
			}
		case isManifest(name):
			r.plain = append(r.plain, name)
		}
		return nil
	})
	if err != nil {
		r.fail(err)
	}
}

// refer notes what a kustomization refers to. What is wrong with it, building tells.
func (r *survey) refer(folder string) {
	name, err := kustomizationIn(r, folder)
	if err != nil {
		return
	}
	data, err := fs.ReadFile(r, name)
	if err != nil {
		return
	}
	k, err := parseKustomization(name, data)
	if err != nil {
		return
	}
	if k.Kind == types.ComponentKind {
		r.referred[folder] = true
	}
	for _, reference := range references(&k) {
		if to, err := resolve(folder, reference); err == nil {
			r.referred[to] = true
		}
	}
}

// references of a kustomization to files and folders.
func references(k *types.Kustomization) []string {
	all := slices.Concat(k.Resources, k.Components, k.Configurations, k.Crds, k.Generators, k.Transformers, k.Validators)
	for _, p := range k.PatchesStrategicMerge {
		all = append(all, string(p))
	}
	for _, p := range slices.Concat(k.Patches, k.PatchesJson6902) {
		all = append(all, p.Path)
	}
	for _, p := range k.Replacements {
		all = append(all, p.Path)
	}
	for _, h := range k.HelmCharts {
		all = append(append(all, h.ValuesFile), h.AdditionalValuesFiles...)
	}
	for _, g := range k.ConfigMapGenerator {
		all = append(all, generated(g.GeneratorArgs)...)
	}
	for _, g := range k.SecretGenerator {
		all = append(all, generated(g.GeneratorArgs)...)
	}
	return all
}

// generated is what a generator reads: file, or key=file.
func generated(g types.GeneratorArgs) []string {
	var all []string
	for _, file := range slices.Concat(g.FileSources, g.EnvSources) {
		if _, after, found := strings.Cut(file, "="); found {
			file = after
		}
		all = append(all, file)
	}
	return all
}

func (r *survey) build(folder string) {
	o := overlay{files: r.reader, fs: filesys.MakeFsInMemory(), seen: map[string]bool{}, reduce: r.reduce}
	found, err := o.build(folder)
	if err != nil {
		r.fail(err)
		return
	}
	for _, p := range found {
		r.out.Objects = append(r.out.Objects, Found{Content: p.content, File: p.at, Build: folder})
	}
}

// reduce a kustomization to what can bring or change objects of this API.
func (r *survey) reduce(file string, k *types.Kustomization) {
	skip := func(what string) { r.out.Skipped = append(r.out.Skipped, file+": "+what) }
	isRemote := func(reference string) bool {
		if !remote(reference) {
			return false
		}
		skip(fmt.Sprintf("%q is remote", reference))
		return true
	}
	k.Resources = slices.DeleteFunc(k.Resources, isRemote)
	k.Components = slices.DeleteFunc(k.Components, isRemote)
	if len(k.HelmCharts) > 0 || len(k.HelmChartInflationGenerator) > 0 {
		skip("helm charts are not rendered")
	}
	if len(k.Generators) > 0 {
		skip("generators are not run")
	}
	k.HelmCharts, k.HelmChartInflationGenerator, k.HelmGlobals, k.Generators = nil, nil, nil, nil
	k.ConfigMapGenerator, k.SecretGenerator, k.GeneratorOptions = nil, nil, nil
	k.Images, k.ImageTags, k.Replicas = nil, nil, nil
	k.Validators, k.Crds, k.BuildMetadata = nil, nil, nil
}

func (r *survey) read(name string) {
	data, err := r.readFile(name)
	if err != nil {
		r.fail(err)
		return
	}
	found, err := decodeFile(name, data)
	if err != nil {
		if bytes.Contains(data, []byte(v1alpha1.GroupVersion.Group)) {
			r.fail(err)
		}
		return
	}
	for _, p := range found {
		line, _ := strconv.Atoi(strings.TrimPrefix(p.at, name+":"))
		r.out.Objects = append(r.out.Objects, Found{Content: p.content, File: name, Line: line})
	}
}
