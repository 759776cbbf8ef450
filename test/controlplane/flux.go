package controlplane

import (
	"context"
	"embed"
	"fmt"
	"path"
	"path/filepath"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
)

// fluxSourceCRDs are the CRDs of the sources that kustomize-controller watches. Flux ships them in source-controller's own
// main module, which is not to be had everywhere; so they are generated here from the types in its api module.
//
//go:generate ./generate_flux_crds.sh
//go:embed crds/source.toolkit.fluxcd.io_*.yaml
var fluxSourceCRDs embed.FS

var gitRepositories = schema.GroupVersionResource{Group: "source.toolkit.fluxcd.io", Version: "v1", Resource: "gitrepositories"}

// StartKustomizeController installs Flux's CRDs for Kustomizations and their sources on the hub and starts
// kustomize-controller there, as cluster-admin. Nothing fetches from Git: source-controller is not run, and
// SetGitRepository takes its place.
func (f *Fleet) StartKustomizeController(ctx context.Context) error {
	sources, err := fluxSourceCRDs.ReadDir("crds")
	if err != nil {
		return err
	}
	for _, source := range sources {
		content, err := fluxSourceCRDs.ReadFile(path.Join("crds", source.Name()))
		if err != nil {
			return err
		}
		crds, err := decodeCRDs(content)
		if err != nil {
			return fmt.Errorf("cannot read CRD %q: %w", source.Name(), err)
		}
		if err := f.Hub.InstallCRDObjects(ctx, crds...); err != nil {
			return err
		}
	}
	module, err := moduleFiles(ctx, "flux", "github.com/fluxcd/kustomize-controller")
	if err != nil {
		return err
	}
	if err := f.Hub.InstallCRDs(ctx, filepath.Join(module, "config", "crd", "bases")); err != nil {
		return err
	}
	return f.startAgent(ctx, "kustomize-controller", KustomizeController, "http", func(port int) []string {
		return []string{
			"--health-addr=" + address(port), "--metrics-addr=0",
			"--watch-all-namespaces",
			"--requeue-dependency=1s", "--min-retry-delay=100ms", "--max-retry-delay=5s", "--http-retry=2",
			"--log-encoding=console",
		}
	})
}

// StopKustomizeController stops it. Stopping one that does not run does nothing.
func (f *Fleet) StopKustomizeController() error { return f.stopAgent("kustomize-controller") }

// SetGitRepository creates a GitRepository on the hub, or gives one a new revision, whose artifact is what dir holds now,
// as source-controller would after a fetch. revision has Flux's form, such as main@sha1:<commit>, and must change with the
// content. The namespace is made if need be. The artifact is served by this process, also when the fleet is detached.
// StartKustomizeController must have been called.
func (f *Fleet) SetGitRepository(ctx context.Context, namespace, name, dir, revision string) error {
	if err := f.setGitRepository(ctx, namespace, name, dir, revision); err != nil {
		return fmt.Errorf("cannot set GitRepository %s/%s: %w", namespace, name, err)
	}
	return nil
}

func (f *Fleet) setGitRepository(ctx context.Context, namespace, name, dir, revision string) error {
	artifact, err := f.ServeArtifact(dir)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(f.Hub.AdminConfig())
	if err != nil {
		return err
	}
	if err := ensureNamespace(ctx, client, namespace); err != nil {
		return err
	}
	objects, err := dynamic.NewForConfig(f.Hub.AdminConfig())
	if err != nil {
		return err
	}
	api := objects.Resource(gitRepositories).Namespace(namespace)
	_, err = api.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": gitRepositories.GroupVersion().String(),
		"kind":       "GitRepository",
		"metadata":   map[string]any{"name": name},
		"spec":       map[string]any{"interval": "1h", "url": "https://git.invalid/" + name},
	}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		live, err := api.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		now := time.Now().UTC().Format(time.RFC3339)
		live.Object["status"] = map[string]any{
			"observedGeneration": live.GetGeneration(),
			"artifact": map[string]any{
				"path": artifact.Path, "url": artifact.URL, "digest": artifact.Digest, "size": artifact.Size,
				"revision": revision, "lastUpdateTime": now,
			},
			"conditions": []any{map[string]any{
				"type": "Ready", "status": "True", "reason": "Succeeded", "observedGeneration": live.GetGeneration(),
				"message": "stored artifact for revision '" + revision + "'", "lastTransitionTime": now,
			}},
		}
		_, err = api.UpdateStatus(ctx, live, metav1.UpdateOptions{})
		return err
	})
}
