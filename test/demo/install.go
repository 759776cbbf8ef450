package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// system is Sallyport's own namespace, and account its service account there, as
// config/ has them.
const (
	system  = "sallyport-system"
	account = "sallyport-controller"
)

// interval at which the sync looks for commits.
const interval = time.Second

// overlay is what somebody writes to install Sallyport with its own Git sync.
const overlay = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
- ../../config/default
components:
- ../../config/components/git-sync
configMapGenerator:
- name: sallyport-git-sync
  namespace: sallyport-system
  literals:
  - url=%s
  - branch=main
  - path=.
`

func (w *world) binary() string { return filepath.Join(w.dir, "bin", "sallyport") }

func (w *world) buildSallyport(ctx context.Context) error {
	// Stays when the demo ends, so that it is linked once, until something changes.
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", w.binary(), "./cmd/sallyport")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build sallyport: %w\n%s", err, out)
	}
	return nil
}

// install applies config/ to the hub, starts the controller with the rights of
// its service account and no others, and returns when it has synced the
// repository.
//
// Without a kubelet a Deployment brings no pods: it is left out, and the
// controller is a process. So the webhook's Service leads to this machine.
func (w *world) install(ctx context.Context) error {
	objects, err := build(filepath.Join(w.dir, "install"), fmt.Sprintf(overlay, w.repo.url()))
	if err != nil {
		return fmt.Errorf("cannot build config/: %w", err)
	}
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	for _, o := range objects {
		switch o.GetKind() {
		case "Deployment":
			continue
		case "Service":
			o.Object["spec"] = map[string]any{"type": "ExternalName", "externalName": "localhost"}
		case "ValidatingWebhookConfiguration":
			for _, hook := range o.Object["webhooks"].([]any) {
				if err := unstructured.SetNestedField(hook.(map[string]any), int64(port), "clientConfig", "service", "port"); err != nil {
					return err
				}
			}
		}
		// A kind is served a moment after its definition is there.
		err := until(ctx, time.Minute, func(ctx context.Context) string {
			err := w.hub.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner("demo"))
			if err != nil {
				return err.Error()
			}
			return ""
		})
		if err != nil {
			return fmt.Errorf("cannot apply %s %q: %w", o.GetKind(), o.GetName(), err)
		}
	}
	if err := w.startController(ctx, port); err != nil {
		return err
	}
	err = until(ctx, time.Minute, func(ctx context.Context) string { return w.notApplied(ctx, "bob-dev", "") })
	if err != nil {
		return fmt.Errorf("cannot sync the repository: %w", err)
	}
	return nil
}

// freePort is one that nobody listens on now.
func freePort(ctx context.Context) (int, error) {
	var loopback net.ListenConfig
	l, err := loopback.Listen(ctx, "tcp", "localhost:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func (w *world) startController(ctx context.Context, webhook int) error {
	config, err := w.fleet.Hub.ServiceAccount(ctx, system, account)
	if err != nil {
		return err
	}
	kubeconfig := filepath.Join(w.dir, "kubeconfigs", account+".kubeconfig")
	if err := w.fleet.Hub.WriteKubeconfig(kubeconfig, config, ""); err != nil {
		return err
	}
	return w.fleet.StartProgram(ctx, "sallyport-controller", w.binary(), "http", func(port int) []string {
		return []string{
			"controller", "--leader-elect",
			"--kubeconfig=" + kubeconfig, "--namespace=" + system,
			fmt.Sprintf("--webhook-addr=localhost:%d", webhook),
			"--metrics-addr=0", fmt.Sprintf("--health-addr=127.0.0.1:%d", port),
			"--git-url=" + w.repo.url(), "--git-branch=main", "--git-interval=" + interval.String(),
		}
	})
}

// build returns what "kubectl apply -k" would apply, what others need first.
func build(dir, kustomization string) ([]*unstructured.Unstructured, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(kustomization), 0o644); err != nil {
		return nil, err
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for _, r := range built.Resources() {
		object, err := r.Map()
		if err != nil {
			return nil, err
		}
		objects = append(objects, &unstructured.Unstructured{Object: object})
	}
	first := map[string]int{"Namespace": -2, "CustomResourceDefinition": -1}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int {
		return cmp.Compare(first[a.GetKind()], first[b.GetKind()])
	})
	return objects, nil
}

// grant reads a grant of the team.
func (w *world) grant(ctx context.Context, name string) (*v1alpha1.AccessGrant, error) {
	g := &v1alpha1.AccessGrant{}
	return g, w.hub.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, g)
}

// notApplied says what keeps a grant from being Ready, or "". With a commit, the
// grant must also come from there.
func (w *world) notApplied(ctx context.Context, name, commit string) string {
	g, err := w.grant(ctx, name)
	if err != nil {
		return err.Error()
	}
	if g.Status.Source == nil || !strings.HasSuffix(g.Status.Source.Revision, commit) {
		return fmt.Sprintf("grant %s does not say yet that it comes from %s", name, commit)
	}
	c := meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionReady)
	if c == nil || c.Status != "True" || c.ObservedGeneration != g.Generation {
		return fmt.Sprintf("grant %s is not ready: %+v", name, c)
	}
	return ""
}
