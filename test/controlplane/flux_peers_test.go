//go:build peers

package controlplane

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// What a revision holds is applied, labelled and reported; what the next one lacks is pruned.
func TestFlux(t *testing.T) {
	f := ForTest(t, Options{})
	ctx := t.Context()
	began := time.Now()
	if err := f.StartKustomizeController(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("kustomize-controller was ready in %s", time.Since(began).Round(time.Millisecond))

	repository := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(repository, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("first.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: first, namespace: default}\n")
	first := "main@sha1:1111111111111111111111111111111111111111"
	if err := f.SetGitRepository(ctx, "flux-system", "access", repository, first); err != nil {
		t.Fatal(err)
	}

	client, err := dynamic.NewForConfig(f.Hub.AdminConfig())
	if err != nil {
		t.Fatal(err)
	}
	kustomizations := client.Resource(schema.GroupVersionResource{
		Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Resource: "kustomizations",
	}).Namespace("flux-system")
	_, err = kustomizations.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "kustomize.toolkit.fluxcd.io/v1",
		"kind":       "Kustomization",
		"metadata":   map[string]any{"name": "access"},
		"spec": map[string]any{
			"interval": "1h", "prune": true, "path": "./",
			"sourceRef": map[string]any{"kind": "GitRepository", "name": "access"},
		},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	applied := func(revision string) func(context.Context) (bool, error) {
		return func(ctx context.Context) (bool, error) {
			live, err := kustomizations.Get(ctx, "access", metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			got, _, err := unstructured.NestedString(live.Object, "status", "lastAppliedRevision")
			return got == revision, err
		}
	}
	configMaps := clientset(t, f.Hub.AdminConfig()).CoreV1().ConfigMaps("default")
	eventually(t, "the first revision is applied", applied(first))
	made, err := configMaps.Get(ctx, "first", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := made.Labels["kustomize.toolkit.fluxcd.io/name"]; got != "access" {
		t.Errorf("label of the Kustomization: got %q, want access", got)
	}

	write("second.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: second, namespace: default}\n")
	if err := os.Remove(filepath.Join(repository, "first.yaml")); err != nil {
		t.Fatal(err)
	}
	second := "main@sha1:2222222222222222222222222222222222222222"
	if err := f.SetGitRepository(ctx, "flux-system", "access", repository, second); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second revision is applied", applied(second))
	eventually(t, "what it lacks is gone", gone(configMaps.Get, "first"))
	if _, err := configMaps.Get(ctx, "second", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}
