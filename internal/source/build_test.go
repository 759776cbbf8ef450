package source

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func files(content map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range content {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

const kustomizationHead = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"

func TestBuild(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		files  map[string]string
		path   string
		want   []string // ref and place
		err    string
	}{
		"Plain": {
			reason: "All YAML and JSON below a folder, in the order of applying.",
			files: map[string]string{
				"grants/b.yaml":      grant("a", "two", "x") + "---\n" + grant("a", "one", "x"),
				"grants/ns.yml":      "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n",
				"grants/deep/r.json": `{"apiVersion": "access.sallyport.dev/v1alpha1", "kind": "AccessRole", "metadata": {"name": "r"}, "spec": {"rules": []}}`,
				"grants/README.md":   "no object",
				"elsewhere/c.yaml":   "no: object",
			},
			path: "grants",
			want: []string{"Namespace a grants/ns.yml:1", "AccessRole r grants/deep/r.json:1", "AccessGrant a/one grants/b.yaml:15", "AccessGrant a/two grants/b.yaml:1"},
		},
		"DotFiles": {
			reason: "Workflows of the Git server are no grants.",
			files:  map[string]string{"a.yaml": grant("a", "one", "x"), ".github/workflows/ci.yaml": "on: push", ".lint.yaml": "x: y"},
			want:   []string{"AccessGrant a/one a.yaml:1"},
		},
		"Empty": {
			reason: "A folder without objects is nothing to apply, and no error.",
			files:  map[string]string{"grants/.gitkeep": ""},
			path:   "grants",
		},
		"MissingPath": {
			reason: "A typing error must not look like an empty folder.",
			files:  map[string]string{"grants/.gitkeep": ""},
			path:   "grant",
			err:    "the commit has no such folder",
		},
		"PathIsFile": {
			reason: "A file is no folder.",
			files:  map[string]string{"grants": "x"},
			path:   "grants",
			err:    "not a folder",
		},
		"Upwards": {
			reason: "A path does not leave the repository.",
			path:   "../grants",
			err:    "downwards",
		},
		"Duplicate": {
			reason: "Which of two wins would depend on file names.",
			files:  map[string]string{"a.yaml": grant("a", "one", "x"), "b.yaml": "---\n" + grant("a", "one", "other")},
			err:    "b.yaml:2: AccessGrant a/one is already in a.yaml:1",
		},
		"UnknownField": {
			reason: "A misspelt field would change what is granted.",
			files:  map[string]string{"a.yaml": strings.Replace(grant("a", "one", "x"), "clusters:", "cluster:", 1)},
			err:    `a.yaml:1: AccessGrant "a/one": unknown field "spec.cluster"`,
		},
		"Secret": {
			reason: "Whoever can commit must not get the controller's other rights.",
			files:  map[string]string{"a.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: a}\n"},
			err:    `a.yaml:1: kind "Secret" of "v1" may not be applied`,
		},
		"ClusterRoleBinding": {
			reason: "RBAC of the hub is compiled, never committed.",
			files:  map[string]string{"a.yaml": "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: s}\n"},
			err:    `kind "ClusterRoleBinding"`,
		},
		"LookAlikeGroup": {
			reason: "S17: groups are matched exactly.",
			files:  map[string]string{"a.yaml": strings.Replace(grant("a", "one", "x"), "sallyport.dev/", "sallyport.dev.evil/", 1)},
			err:    "may not be applied",
		},
		"List": {
			reason: "What a List holds would not be looked at.",
			files:  map[string]string{"a.yaml": "apiVersion: v1\nkind: List\nitems: []\n"},
			err:    `kind "List"`,
		},
		"NoNamespace": {
			reason: "A default namespace would be somebody's tenancy.",
			files:  map[string]string{"a.yaml": strings.Replace(grant("a", "one", "x"), "  namespace: a\n", "", 1)},
			err:    "metadata.namespace is missing",
		},
		"Finalizer": {
			reason: "A finalizer could hold up a revocation.",
			files:  map[string]string{"a.yaml": strings.Replace(grant("a", "one", "x"), "spec:", "  finalizers: [x/y]\nspec:", 1)},
			err:    "metadata.finalizers is not for a commit to set",
		},
		"Status": {
			reason: "Status is the controller's word.",
			files:  map[string]string{"a.yaml": grant("a", "one", "x") + "status: {observedGeneration: 1}\n"},
			err:    "status is not for a commit to set",
		},
		"Generated": {
			reason: "Tools write creationTimestamp: null and status: {}.",
			files:  map[string]string{"a.yaml": strings.Replace(grant("a", "one", "x"), "spec:", "  creationTimestamp: null\nspec:", 1) + "status: {}\n"},
			want:   []string{"AccessGrant a/one a.yaml:1"},
		},
		"NameIsPath": {
			reason: "A name becomes a step of a URL.",
			files:  map[string]string{"a.yaml": grant("a", "../../secrets/x", "x")},
			err:    "a.yaml:1: ",
		},
		"Overlay": {
			reason: "A base within the repository is built, and errors would name its file.",
			files: map[string]string{
				"base/kustomization.yaml":   kustomizationHead + "resources: [grant.yaml]\n",
				"base/grant.yaml":           grant("a", "one", "x"),
				"grants/kustomization.yaml": kustomizationHead + "namespace: prod\nresources: [../base, role.yaml]\npatches:\n- path: patch.yaml\n- patch: '[{\"op\": \"add\", \"path\": \"/spec/suspend\", \"value\": true}]'\n  target: {kind: AccessGrant}\n",
				"grants/role.yaml":          "apiVersion: access.sallyport.dev/v1alpha1\nkind: AccessRole\nmetadata: {name: r}\nspec: {rules: []}\n",
				"grants/patch.yaml":         "apiVersion: access.sallyport.dev/v1alpha1\nkind: AccessGrant\nmetadata: {name: one, namespace: a}\nspec: {reason: patched}\n",
			},
			path: "grants",
			want: []string{"AccessRole r grants/role.yaml", "AccessGrant prod/one base/grant.yaml"},
		},
		"Component": {
			reason: "Components are a way to share.",
			files: map[string]string{
				"kustomization.yaml":   kustomizationHead + "resources: [grant.yaml]\ncomponents: [c]\n",
				"grant.yaml":           grant("a", "one", "x"),
				"c/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nnamePrefix: p-\n",
			},
			want: []string{"AccessGrant a/p-one grant.yaml"},
		},
		"NoResources": {
			reason: "A kustomization that says so is an empty folder.",
			files:  map[string]string{"kustomization.yaml": kustomizationHead + "resources: []\n"},
		},
		"EmptyKustomization": {
			reason: "A file that lost its content must not revoke everything.",
			files:  map[string]string{"kustomization.yaml": "\n"},
			err:    "kustomization.yaml: one document is expected",
		},
		"HeadOnly": {
			reason: "Kustomize refuses this as well.",
			files:  map[string]string{"kustomization.yaml": kustomizationHead},
			err:    "kustomization.yaml: empty",
		},
		"OverlaySecret": {
			reason: "What kustomize builds is held to the same kinds, and names the file.",
			files: map[string]string{
				"kustomization.yaml": kustomizationHead + "resources: [s.yaml]\n",
				"s.yaml":             "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: a}\n",
			},
			err: `s.yaml: kind "Secret" of "v1" may not be applied`,
		},
		"OverlaySyntax": {
			reason: "A line is told for files that kustomize reads.",
			files: map[string]string{
				"kustomization.yaml": kustomizationHead + "resources: [s.yaml]\n",
				"s.yaml":             "a: 1\nb: [\n",
			},
			err: "s.yaml:2: ",
		},
		"OverlayBomb": {
			reason: "Kustomize would expand aliases until memory ends.",
			files: map[string]string{
				"kustomization.yaml": kustomizationHead + "resources: [s.yaml]\n",
				"s.yaml":             bomb(),
			},
			err: "excessive aliasing",
		},
		"InlineBomb": {
			reason: "So it would in a patch.",
			files: map[string]string{
				"kustomization.yaml": kustomizationHead + "resources: [g.yaml]\npatches:\n- patch: |\n    " + strings.ReplaceAll(bomb(), "\n", "\n    ") + "\n",
				"g.yaml":             grant("a", "one", "x"),
			},
			err: "excessive aliasing",
		},
		"Cycle": {
			reason: "A cycle ends.",
			files: map[string]string{
				"a/kustomization.yaml": kustomizationHead + "resources: [../b]\n",
				"b/kustomization.yaml": kustomizationHead + "resources: [../a]\n",
			},
			path: "a",
			err:  "cycle",
		},
		"TwoKustomizations": {
			reason: "Which one is meant cannot be known.",
			files:  map[string]string{"kustomization.yaml": kustomizationHead, "kustomization.yml": kustomizationHead},
			err:    "keep one",
		},
		"NestedKustomization": {
			reason: "A plain folder does not build what is below.",
			files:  map[string]string{"a/kustomization.yaml": kustomizationHead + "resources: []\n"},
			err:    "a kustomization below a plain folder is not built",
		},
	} {
		t.Run(name, func(t *testing.T) {
			objects, err := Build(files(tc.files), tc.path)
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("%s\ngot error %v, want one with %q", tc.reason, err, tc.err)
			}
			var got []string
			for _, o := range objects {
				got = append(got, o.Ref().String()+" "+o.From)
			}
			if diff := cmp.Diff(tc.want, got); err == nil && diff != "" {
				t.Errorf("%s\n-want +got\n%s", tc.reason, diff)
			}
		})
	}
}

// TestBuildReachesNothing proves that nothing a kustomization can name is dialled,
// run or read from disk: a server counts requests, a fake git on the PATH leaves a
// trace, and the files outside are real.
func TestBuildReachesNothing(t *testing.T) {
	var dialled atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		dialled.Add(1)
		fmt.Fprint(w, grant("a", "stolen", "x"))
	}))
	defer server.Close()
	bin := t.TempDir()
	trace := filepath.Join(bin, "trace")
	for _, name := range []string{"git", "helm", "plugin"} {
		script := "#!/bin/sh\necho $0 \"$@\" >> " + trace + "\nexit 1\n"
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
	outside := filepath.Join(bin, "grant.yaml")
	if err := os.WriteFile(outside, []byte(grant("a", "outside", "x")), 0o644); err != nil {
		t.Fatal(err)
	}
	remoteRefused, fieldRefused := "is remote: a commit may refer only to its own files", "is refused: a commit may not run plugins"
	url := server.URL

	for name, tc := range map[string]struct{ kustomization, want string }{
		"RemoteFile":          {"resources: [" + url + "/grant.yaml]", remoteRefused},
		"RemoteBase":          {"resources: [\"" + url + "/org/repo?ref=main\"]", remoteRefused},
		"RemoteBases":         {"bases: [\"" + url + "/org/repo//base?ref=main\"]", remoteRefused},
		"GitHub":              {"resources: [github.com/org/repo]", "does not exist in the repository; if it is remote, it is refused"},
		"GitHubRef":           {"resources: [\"github.com/org/repo?ref=v1\"]", remoteRefused},
		"SCP":                 {"resources: [git@127.0.0.1:org/repo.git]", remoteRefused},
		"OtherUser":           {"resources: [org-1@127.0.0.1:org/repo.git]", "does not exist"},
		"GoGetter":            {"resources: [\"git::" + url + "/org/repo\"]", remoteRefused},
		"FileURL":             {"resources: [file://" + bin + "]", remoteRefused},
		"UpperCase":           {"RESOURCES: [" + url + "/grant.yaml]", remoteRefused},
		"RemoteComponent":     {"components: [" + url + "/org/repo]", remoteRefused},
		"RemotePatch":         {"resources: [g.yaml]\npatches: [{path: " + url + "/p.yaml}]", remoteRefused},
		"RemotePatchCase":     {"resources: [g.yaml]\npatches: [{Path: " + url + "/p.yaml}]", remoteRefused},
		"RemoteStrategic":     {"resources: [g.yaml]\npatchesStrategicMerge: [" + url + "/p.yaml]", remoteRefused},
		"RemoteJSONPatch":     {"resources: [g.yaml]\npatchesJson6902: [{path: " + url + "/p.yaml, target: {kind: AccessGrant, name: one}}]", remoteRefused},
		"RemoteReplacement":   {"resources: [g.yaml]\nreplacements: [{path: " + url + "/p.yaml}]", remoteRefused},
		"RemoteConfiguration": {"resources: [g.yaml]\nconfigurations: [" + url + "/p.yaml]", remoteRefused},
		"RemoteOpenAPI":       {"resources: [g.yaml]\nopenapi: {path: " + url + "/p.json}", `"openapi" ` + fieldRefused},
		"RemoteCRD":           {"resources: [g.yaml]\ncrds: [" + url + "/p.json]", `"crds" ` + fieldRefused},
		"RemoteConfigMap":     {"configMapGenerator: [{name: x, files: [" + url + "/p.json]}]", `"configMapGenerator" ` + fieldRefused},
		"RemoteSecret":        {"secretGenerator: [{name: x, envs: [" + url + "/p.env]}]", `"secretGenerator" ` + fieldRefused},
		"Helm":                {"helmCharts: [{name: x, repo: " + url + "}]", `"helmCharts" ` + fieldRefused},
		"HelmInflation":       {"helmChartInflationGenerator: [{chartName: x, chartRepoUrl: " + url + "}]", `"helmCharts" ` + fieldRefused},
		"HelmGlobals":         {"helmGlobals: {chartHome: /}", `"helmGlobals" ` + fieldRefused},
		"Generator":           {"generators: [plugin.yaml]", `"generators" ` + fieldRefused},
		"Transformer":         {"resources: [g.yaml]\ntransformers: [plugin.yaml]", `"transformers" ` + fieldRefused},
		"InlineTransformer":   {"resources: [g.yaml]\ntransformers: ['{apiVersion: builtin, kind: PatchTransformer, metadata: {name: x}, path: " + url + "/p.yaml}']", `"transformers" ` + fieldRefused},
		"Validator":           {"resources: [g.yaml]\nvalidators: [plugin.yaml]", `"validators" ` + fieldRefused},
		"Nested":              {"resources: [nested]", remoteRefused},
		"AbsoluteFile":        {"resources: [" + outside + "]", "is absolute"},
		"AbsoluteFolder":      {"resources: [" + bin + "]", "is absolute"},
		"Upwards":             {"resources: [../../../../../../../../" + outside + "]", "is outside of the repository"},
		"Root":                {"resources: [..]", "is outside of the repository"},
		"UpwardsPatch":        {"resources: [g.yaml]\npatches: [{path: ../p.yaml}]", "is outside of the repository"},
		"Plugin":              {"resources: [plugin.yaml]", "may not be applied"},
		"DuplicateKey":        {"resources: [g.yaml]\nresources: [" + url + "/grant.yaml]", "already set"},
		"SecondDocument":      {"resources: [g.yaml]\n---\nresources: [" + url + "/grant.yaml]", "one document is expected"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Build(files(map[string]string{
				"kustomization.yaml":        tc.kustomization + "\n",
				"g.yaml":                    grant("a", "one", "x"),
				"plugin.yaml":               "apiVersion: example.org/v1\nkind: Plugin\nmetadata:\n  name: x\n  annotations:\n    config.kubernetes.io/function: |\n      exec: {path: " + filepath.Join(bin, "plugin") + "}\n",
				"nested/kustomization.yaml": "resources: [\"" + url + "/org/repo?ref=main\"]\n",
			}), ".")
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got error %v, want one with %q", err, tc.want)
			}
		})
	}
	// A folder that looks like a URL is a folder: kustomize would clone it.
	t.Run("FolderNamedLikeHost", func(t *testing.T) {
		objects, err := Build(files(map[string]string{
			"kustomization.yaml":                     "resources: [github.com/org/repo]\n",
			"github.com/org/repo/kustomization.yaml": "resources: [g.yaml]\n",
			"github.com/org/repo/g.yaml":             grant("a", "one", "x"),
		}), ".")
		if err != nil || len(objects) != 1 {
			t.Errorf("got %d objects and error %v", len(objects), err)
		}
	})
	if n := dialled.Load(); n != 0 {
		t.Errorf("%d requests were made", n)
	}
	if ran, err := os.ReadFile(trace); err == nil {
		t.Errorf("commands were run:\n%s", ran)
	}
}

func TestBuildLimits(t *testing.T) {
	many := map[string]string{}
	for i := range 4 {
		many[fmt.Sprintf("%d.yaml", i)] = grant("a", fmt.Sprint("g", i), "x") + "---\n" + grant("b", fmt.Sprint("g", i), "x")
	}
	for name, tc := range map[string]struct {
		reason string
		change func(*limits)
		want   string
	}{
		"File":    {"A file has a size.", func(l *limits) { l.file = 100 }, "bytes are more than the 100 that a file may have"},
		"Files":   {"A commit has a number of files.", func(l *limits) { l.files = 3 }, "3.yaml: one file more than the 3"},
		"Total":   {"All files have a size.", func(l *limits) { l.total = 1000 }, "more than the 1000 bytes that a commit may have"},
		"Objects": {"A commit has a number of objects.", func(l *limits) { l.objects = 5 }, "2.yaml: one object more than the 5"},
	} {
		t.Run(name, func(t *testing.T) {
			lim := defaultLimits
			tc.change(&lim)
			_, err := build(&reader{FS: files(many), limits: lim}, ".")
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s\ngot error %v, want one with %q", tc.reason, err, tc.want)
			}
		})
	}
}

// watched reports every path that is opened.
type watched struct {
	fs.FS
	opened func(string)
}

func (w watched) Open(name string) (fs.File, error) {
	w.opened(name)
	return w.FS.Open(name)
}

// FuzzBuildStaysInside: whatever a kustomization says, nothing is opened by a path
// that could leave the commit, and nothing panics.
func FuzzBuildStaysInside(f *testing.F) {
	for _, seed := range []string{"../base", "../../x", "/etc/passwd", "https://127.0.0.1:1/x", "git@host:x", "./..//../base", "base/../../..", "", ".", "..", "a?ref=b", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, reference string) {
		if strings.ContainsAny(reference, "\n\r") {
			return
		}
		commit := files(map[string]string{
			"grants/kustomization.yaml": fmt.Sprintf("resources: [%q]\n", reference),
			"base/kustomization.yaml":   fmt.Sprintf("resources: [g.yaml]\npatches: [{path: %q}]\n", reference),
			"base/g.yaml":               grant("a", "one", "x"),
		})
		_, _ = Build(watched{commit, func(name string) {
			if !fs.ValidPath(name) {
				t.Errorf("reference %q opened %q", reference, name)
			}
		}}, "grants")
	})
}
