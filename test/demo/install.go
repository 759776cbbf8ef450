package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/test/install"
)

// interval at which the sync looks for commits.
const interval = time.Second

// overlay is what somebody writes to install Sallyport with its own Git sync.
const overlay = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
- ../config/default
- ../config/gateway
components:
- ../config/components/git-sync
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
	return install.Build(ctx, filepath.Dir(w.dir), w.binary())
}

// install Sallyport on the hub, with its own sync, and return when it has synced the
// repository.
func (w *world) install(ctx context.Context) error {
	w.sallyport = &install.Installation{Fleet: w.fleet, Hub: w.hub, Root: filepath.Dir(w.dir), Binary: w.binary()}
	if err := w.sallyport.Apply(ctx, fmt.Sprintf(overlay, w.repo.url())); err != nil {
		return err
	}
	err := w.sallyport.StartController(ctx, "--git-url="+w.repo.url(), "--git-branch=main", "--git-interval="+interval.String())
	if err != nil {
		return err
	}
	err = install.Until(ctx, time.Minute, func(ctx context.Context) string { return w.notApplied(ctx, "bob-dev", "") })
	if err != nil {
		return fmt.Errorf("cannot sync the repository: %w", err)
	}
	return nil
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
