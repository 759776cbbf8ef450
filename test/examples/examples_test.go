package examples_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/internal/cli/lint"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

const examples = "../../gitops-examples"

var update = flag.Bool("update", false, "copy the guardrails of policies/ into the examples")

// access is where each example keeps what it brings to the hub, in the order in
// which it is brought.
var access = map[string][]string{
	"plain":  {"."},
	"flux":   {"access/guardrails", "access/roles", "access/teams"},
	"argocd": {"access"},
}

// guardrails is where each example keeps its guardrails. The demo adds
// no-secrets-read to the plain one.
var guardrails = map[string]string{"plain": "guardrails", "flux": "access/guardrails", "argocd": "access/guardrails"}

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
	want := []string{
		"AccessGrant payments/bob-dev", "AccessGrant payments/oncall", "AccessRole /pod-reader",
		"Guardrail /no-secrets-read", "Guardrail /payments-ceiling", "Guardrail /reason-pattern", "Namespace /payments",
	}
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
			want := want
			if folder.Name() == "plain" {
				want = slices.DeleteFunc(slices.Clone(want), func(s string) bool { return s == "Guardrail /no-secrets-read" })
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
		})
	}
}

// TestGuardrailsAreTheLibrarys: what an example has of policies/ is that, to the
// byte, and the ceiling is the same in all of them.
func TestGuardrailsAreTheLibrarys(t *testing.T) {
	const ceiling = "payments-ceiling.yaml"
	for example, folder := range guardrails {
		t.Run(example, func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join(examples, example, folder, "*.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			copied := 0
			for _, file := range files {
				original := filepath.Join("../../policies", strings.TrimSuffix(filepath.Base(file), ".yaml"), "guardrail.yaml")
				switch filepath.Base(file) {
				case "kustomization.yaml", "payments-namespace.yaml":
					continue
				case ceiling:
					original = filepath.Join(examples, "plain/guardrails", ceiling)
				}
				want, err := os.ReadFile(original)
				if err != nil {
					t.Fatal(err)
				}
				if *update {
					if err := os.WriteFile(file, want, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				got, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if diff := gocmp.Diff(string(want), string(got)); diff != "" {
					t.Errorf("%s is not %s; -update copies it (-want +got):\n%s", file, original, diff)
				}
				copied++
			}
			if copied < 2 {
				t.Errorf("there are %d guardrails, want two at least", copied)
			}
		})
	}
}

// fleet is what kubectl get managedclusters -o yaml says of a hub that the examples
// are for.
const fleet = `apiVersion: v1
kind: List
items:
- apiVersion: cluster.open-cluster-management.io/v1
  kind: ManagedCluster
  metadata: {name: prod-eu-1, labels: {env: prod}}
  spec: {hubAcceptsClient: true}
- apiVersion: cluster.open-cluster-management.io/v1
  kind: ManagedCluster
  metadata: {name: dev-1, labels: {env: dev}}
  spec: {hubAcceptsClient: true}
`

// TestLint: what the examples say is what sallyport lint accepts, without a word, and
// what their guardrails are for is refused.
func TestLint(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.yaml")
	if err := os.WriteFile(file, []byte(fleet), 0o600); err != nil {
		t.Fatal(err)
	}
	judge := func(folder string) (string, error) {
		var out strings.Builder
		c := lint.Command()
		c.SilenceUsage, c.SilenceErrors = true, true
		c.SetOut(&out)
		c.SetErr(&out)
		c.SetArgs([]string{folder, "--fleet", file, "--require-ceiling"})
		err := c.Execute()
		return out.String(), err
	}
	for example, folder := range guardrails {
		t.Run(example, func(t *testing.T) {
			all, err := os.ReadDir(filepath.Join(examples, example, folder))
			if err != nil {
				t.Fatal(err)
			}
			count := len(slices.DeleteFunc(all, func(f os.DirEntry) bool {
				return f.Name() == "kustomization.yaml" || f.Name() == "payments-namespace.yaml"
			}))
			want := fmt.Sprintf("2 grants, %d guardrails: nothing is refused\n", count)
			if got, err := judge(filepath.Join(examples, example)); err != nil || got != want {
				t.Errorf("got %s%v\nwant %s", got, err, want)
			}

			copied := t.TempDir()
			if err := os.CopyFS(copied, os.DirFS(filepath.Join(examples, example))); err != nil {
				t.Fatal(err)
			}
			grant := filepath.Join(copied, filepath.Dir(folder), "teams/payments/oncall.yaml")
			content, err := os.ReadFile(grant)
			if err != nil {
				t.Fatal(err)
			}
			wider := strings.NewReplacer("PAY-1234", "soon", "[pods/log]", "[pods/exec]").Replace(string(content))
			if err := os.WriteFile(grant, []byte(wider), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := judge(copied)
			if err == nil {
				t.Error("a grant that guardrails refuse passes")
			}
			for _, text := range []string{"guardrail \"reason-pattern\"", "guardrail \"payments-ceiling\"", "pods/exec"} {
				if !strings.Contains(got, text) {
					t.Errorf("it does not say %s:\n%s", text, got)
				}
			}
		})
	}
}

// TestArgoCDWaves: namespaces come before guardrails and their exceptions, these
// before roles, and roles before grants (S26).
func TestArgoCDWaves(t *testing.T) {
	got := map[string]string{}
	for _, object := range build(t, filepath.Join(examples, "argocd/access")) {
		got[object.GetKind()] = object.GetAnnotations()["argocd.argoproj.io/sync-wave"]
	}
	want := map[string]string{"Namespace": "-3", "Guardrail": "-2", "AccessRole": "-1", "AccessGrant": ""}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("waves (-want +got):\n%s", diff)
	}
}

// TestFluxHub: the Kustomizations lead to folders that exist, guardrails before roles
// and roles before grants (S26), and prune. Roles and grants are waited for; for
// guardrails being there is enough, and nothing is to wait for a bundle.
func TestFluxHub(t *testing.T) {
	root := filepath.Join(examples, "flux")
	got := map[string]string{}
	for _, object := range build(t, filepath.Join(root, "hub")) {
		if object.GetKind() != "Kustomization" {
			continue
		}
		spec := object.Object["spec"].(map[string]any)
		if _, err := os.Stat(filepath.Join(root, spec["path"].(string))); err != nil {
			t.Error(err)
		}
		after, _, err := unstructured.NestedSlice(object.Object, "spec", "dependsOn")
		if err != nil {
			t.Fatal(err)
		}
		got[object.GetName()] = fmt.Sprintf("after %v, prune %v, wait %v", after, spec["prune"], spec["wait"])
	}
	want := map[string]string{
		"access-guardrails": "after [], prune true, wait false",
		"access-roles":      "after [map[name:access-guardrails]], prune true, wait true",
		"access-grants":     "after [map[name:access-guardrails] map[name:access-roles]], prune true, wait true",
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
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
	rank := map[string]int{"Namespace": -3, "Guardrail": -2, "AccessRole": -1}
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
