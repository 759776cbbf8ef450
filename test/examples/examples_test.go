package examples_test

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/test/controlplane"
)

const examples = "../../gitops-examples"

// access is where each example keeps what it brings to the hub, in the order in
// which it is brought.
var access = map[string][]string{
	"plain":  {"."},
	"flux":   {"access/roles", "access/teams"},
	"argocd": {"access"},
}

// TestExamples: what every example brings to the hub is the same access, and the
// hub takes it as Flux, Argo CD and the built-in sync would bring it.
func TestExamples(t *testing.T) {
	folders, err := os.ReadDir(examples)
	if err != nil {
		t.Fatal(err)
	}
	hub := controlplane.ForTest(t, controlplane.Options{}).Hub
	if err := hub.InstallCRDs(t.Context(), "../../config/crd/bases"); err != nil {
		t.Fatal(err)
	}
	admin, err := client.New(hub.AdminConfig(), client.Options{Scheme: runtime.NewScheme()})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"AccessGrant payments/bob-dev", "AccessGrant payments/oncall", "AccessRole /pod-reader", "Namespace /payments"}
	for _, folder := range folders {
		if !folder.IsDir() {
			continue
		}
		t.Run(folder.Name(), func(t *testing.T) {
			paths, known := access[folder.Name()]
			if !known {
				t.Fatal("no test knows where this example keeps its access")
			}
			if _, err := os.Stat(filepath.Join(examples, folder.Name(), "README.md")); err != nil {
				t.Error(err)
			}
			var got []string
			for _, path := range paths {
				for _, object := range inOrder(build(t, filepath.Join(examples, folder.Name(), path))) {
					got = append(got, object.GetKind()+" "+object.GetNamespace()+"/"+object.GetName())
					// Apply refuses a field that the schema does not have.
					err := admin.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("test"), client.ForceOwnership)
					if err != nil {
						t.Errorf("cannot apply %s %q: %v", object.GetKind(), object.GetName(), err)
					}
				}
			}
			slices.Sort(got)
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
		})
	}
}

// TestArgoCDWaves: namespaces come before roles, and roles before grants.
func TestArgoCDWaves(t *testing.T) {
	got := map[string]string{}
	for _, object := range build(t, filepath.Join(examples, "argocd/access")) {
		got[object.GetKind()] = object.GetAnnotations()["argocd.argoproj.io/sync-wave"]
	}
	want := map[string]string{"Namespace": "-2", "AccessRole": "-1", "AccessGrant": ""}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("waves (-want +got):\n%s", diff)
	}
}

// TestFluxHub: the Kustomizations lead to folders that exist, roles before grants,
// prune, and wait for health.
func TestFluxHub(t *testing.T) {
	root := filepath.Join(examples, "flux")
	for _, object := range build(t, filepath.Join(root, "hub")) {
		if object.GetKind() != "Kustomization" {
			continue
		}
		spec := object.Object["spec"].(map[string]any)
		if _, err := os.Stat(filepath.Join(root, spec["path"].(string))); err != nil {
			t.Error(err)
		}
		if spec["prune"] != true || spec["wait"] != true {
			t.Errorf("%s: prune is %v and wait %v, want both", object.GetName(), spec["prune"], spec["wait"])
		}
		if _, depends := spec["dependsOn"]; depends != (object.GetName() == "access-grants") {
			t.Errorf("%s: dependsOn is set: %t", object.GetName(), depends)
		}
	}
}

func build(t *testing.T, folder string) []*unstructured.Unstructured {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatal(err)
	}
	var objects []*unstructured.Unstructured
	for _, r := range built.Resources() {
		object, err := r.Map()
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, &unstructured.Unstructured{Object: object})
	}
	return objects
}

func inOrder(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	rank := map[string]int{"Namespace": -2, "AccessRole": -1}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int {
		return cmp.Compare(rank[a.GetKind()], rank[b.GetKind()])
	})
	return objects
}

func read(t *testing.T, path string) *unstructured.Unstructured {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(examples, path))
	if err != nil {
		t.Fatal(err)
	}
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(content, &object.Object); err != nil {
		t.Fatal(err)
	}
	return object
}
