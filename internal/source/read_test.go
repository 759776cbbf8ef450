package source

import (
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	object := func(name string) string {
		return "apiVersion: access.sallyport.dev/v1alpha1\nkind: AccessRole\nmetadata: {name: " + name + "}\n"
	}
	type tree map[string]string
	tests := map[string]struct {
		reason  string
		tree    tree
		want    []string
		skipped []string
		errs    []string
	}{
		"Plain": {
			reason: "YAML and JSON are read as they are, hidden files are not.",
			tree:   tree{"a.yaml": object("a") + "---\n" + object("b"), "sub/c.json": `{"kind":"C","metadata":{"name":"c"}}`, ".github/d.yaml": object("d")},
			want:   []string{"a a.yaml:1 ", "b a.yaml:5 ", "c sub/c.json:1 "},
		},
		"Roots": {
			reason: "A base is built where it is used, and its files are not read once more.",
			tree: tree{
				"base/kustomization.yaml": "resources: [a.yaml]", "base/a.yaml": object("a"),
				"prod/kustomization.yaml": "resources: [../base]\nnamePrefix: prod-", "loose.yaml": object("b"),
			},
			want: []string{"prod-a base/a.yaml:0 prod", "b loose.yaml:1 "},
		},
		"Patch": {
			reason: "A patch is no object.",
			tree: tree{
				"kustomization.yaml": "resources: [a.yaml]\npatches: [{path: p.yaml}]", "a.yaml": object("a"),
				"p.yaml": "apiVersion: access.sallyport.dev/v1alpha1\nkind: AccessRole\nmetadata: {name: a, labels: {x: y}}\n",
			},
			want: []string{"a a.yaml:0 ."},
		},
		"Component": {
			reason: "A component is nothing by itself.",
			tree: tree{
				"c/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [a.yaml]", "c/a.yaml": object("a"),
			},
		},
		"Remote": {
			reason:  "What is remote is skipped, and said to be.",
			tree:    tree{"kustomization.yaml": "resources: ['https://example.com/x.yaml', a.yaml]\nimages: [{name: x, newTag: v2}]", "a.yaml": object("a")},
			want:    []string{"a a.yaml:0 ."},
			skipped: []string{`kustomization.yaml: "https://example.com/x.yaml" is remote`},
		},
		"Generators": {
			reason: "What ConfigMaps are made of is no access.",
			tree:   tree{"kustomization.yaml": "resources: [a.yaml]\nconfigMapGenerator: [{name: x, files: [k=values.yaml]}]", "a.yaml": object("a"), "values.yaml": "a: [b"},
			want:   []string{"a a.yaml:0 ."},
		},
		"Templates": {
			reason: "Only a file that speaks of this API has to be YAML.",
			tree:   tree{"t/chart.yaml": "{{ if x }}\na: b", "u.yaml": "# access.sallyport.dev\na: [b"},
			errs:   []string{"u.yaml:2: did not find expected ',' or ']'"},
		},
		"GoesOn": {
			reason: "One kustomization that cannot be built hides nothing else.",
			tree:   tree{"x/kustomization.yaml": "resources: [../../etc]", "y/kustomization.yaml": "resources: [a.yaml]", "y/a.yaml": object("a")},
			want:   []string{"a y/a.yaml:0 y"},
			errs:   []string{`x/kustomization.yaml: "../../etc" is outside of the repository: a commit may refer only to its own files`},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			files := fstest.MapFS{}
			for name, text := range tc.tree {
				files[name] = &fstest.MapFile{Data: []byte(text)}
			}
			r := Read(files, ".")
			var got, errs []string
			for _, f := range r.Objects {
				metadata, _ := f.Content["metadata"].(map[string]any)
				got = append(got, fmt.Sprintf("%s %s:%d %s", metadata["name"], f.File, f.Line, f.Build))
			}
			for _, err := range r.Errors {
				errs = append(errs, err.Error())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\nobjects (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.skipped, r.Skipped); diff != "" {
				t.Errorf("%s\nskipped (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.errs, errs); diff != "" {
				t.Errorf("%s\nerrors (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}
