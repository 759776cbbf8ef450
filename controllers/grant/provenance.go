package grant

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
	"github.com/sallyport-dev/sallyport/internal/snapshot"
)

// The kinds that apply grants.
var (
	KustomizationKind = schema.GroupVersionKind{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Kind: "Kustomization"}
	HelmReleaseKind   = schema.GroupVersionKind{Group: "helm.toolkit.fluxcd.io", Version: "v2", Kind: "HelmRelease"}
	ApplicationKind   = schema.GroupVersionKind{Group: "argoproj.io", Version: "v1alpha1", Kind: "Application"}
)

// sourceOf says which Flux object, Argo CD Application or built-in sync applied a
// grant, and the commit that brought this generation of it. A commit that leaves
// the grant alone does not change its source: else every commit would rewrite
// every object of the fleet.
//
// People read it, and guardrails do, as input.source. Of the built-in sync it can be
// relied on: an admission policy lets nobody else write what it is read from. What
// it says of the others is worth what the labels are, and whoever may write the grant
// may write these.
func (r *Reconciler) sourceOf(ctx context.Context, seen *observation, g *v1alpha1.AccessGrant) *v1alpha1.GrantSource {
	now := snapshot.AppliedBy(g)
	if now == nil {
		return nil
	}
	now.Generation = g.Generation
	if now.Kind == snapshot.GitSyncKind {
		return now
	}
	if was := snapshot.RecordedSource(g, now); was != nil && was.Revision != "" {
		return was
	}
	applier := v1alpha1.GrantSource{Kind: now.Kind, Namespace: now.Namespace, Name: now.Name}
	revision, read := seen.revisions[applier]
	if !read {
		revision = r.revisionOf(ctx, now)
		seen.revisions[applier] = revision
	}
	now.Revision = revision
	return now
}

// revisionOf reads, past the cache, the commit that an applier is at: it writes
// down what it is about to apply before it applies it, so that what is read after
// the grant was seen is not older than the grant.
func (r *Reconciler) revisionOf(ctx context.Context, s *v1alpha1.GrantSource) string {
	gvk := map[string]schema.GroupVersionKind{
		KustomizationKind.Kind: KustomizationKind, HelmReleaseKind.Kind: HelmReleaseKind, ApplicationKind.Kind: ApplicationKind,
	}[s.Kind]
	if r.Kinds.Status(gvk.GroupKind()).State == served.Absent {
		return ""
	}
	applier := &unstructured.Unstructured{}
	applier.SetGroupVersionKind(gvk)
	if err := r.Live.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: s.Name}, applier); err != nil {
		ctrl.LoggerFrom(ctx).V(1).Info("Cannot read what applied a grant", "kind", s.Kind, "namespace", s.Namespace, "name", s.Name, "error", err.Error())
		return ""
	}
	for _, path := range [][]string{
		{"status", "lastAttemptedRevision"}, {"status", "lastAppliedRevision"}, // Flux
		{"status", "operationState", "syncResult", "revision"}, {"status", "sync", "revision"}, // Argo CD
	} {
		if v, ok, err := unstructured.NestedString(applier.Object, path...); err == nil && ok && v != "" {
			return v
		}
	}
	return ""
}

// Origin of a grant that somebody is about to apply, as the compiler will be told it.
func (r *Reconciler) Origin(ctx context.Context, g *v1alpha1.AccessGrant) *guardrail.Source {
	s := snapshot.AppliedBy(g)
	if s != nil && s.Kind != snapshot.GitSyncKind {
		s.Revision = r.revisionOf(ctx, s)
	}
	return snapshot.OriginOf(s)
}
