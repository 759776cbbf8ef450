package grant

import (
	"context"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
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
	now := appliedBy(g)
	if now == nil {
		return nil
	}
	now.Generation = g.Generation
	if now.Kind == gitSyncKind {
		return now
	}
	if was := g.Status.Source; was != nil && was.Kind == now.Kind && was.Namespace == now.Namespace && was.Name == now.Name &&
		was.Generation == g.Generation && was.Revision != "" {
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

const (
	gitSyncKind = "GitSync"

	kustomizeName      = "kustomize.toolkit.fluxcd.io/name"
	kustomizeNamespace = "kustomize.toolkit.fluxcd.io/namespace"
	helmName           = "helm.toolkit.fluxcd.io/name"
	helmNamespace      = "helm.toolkit.fluxcd.io/namespace"
	argoTracking       = "argocd.argoproj.io/tracking-id"
)

func appliedBy(g *v1alpha1.AccessGrant) *v1alpha1.GrantSource {
	labels, annotations := g.GetLabels(), g.GetAnnotations()
	switch {
	// The built-in sync first: what it commits may carry others' labels, but not
	// its own label of ownership.
	case labels[v1alpha1.ManagedByLabel] == v1alpha1.SyncManagedByValue:
		namespace, name, _ := strings.Cut(annotations[v1alpha1.SyncAnnotation], "/")
		return &v1alpha1.GrantSource{
			Kind: gitSyncKind, Namespace: namespace, Name: name,
			Revision: annotations[v1alpha1.RevisionAnnotation], Author: annotations[v1alpha1.AuthorAnnotation],
		}
	case labels[kustomizeName] != "":
		return &v1alpha1.GrantSource{Kind: KustomizationKind.Kind, Namespace: labels[kustomizeNamespace], Name: labels[kustomizeName]}
	case labels[helmName] != "":
		return &v1alpha1.GrantSource{Kind: HelmReleaseKind.Kind, Namespace: labels[helmNamespace], Name: labels[helmName]}
	case annotations[argoTracking] != "":
		// APP:GROUP/KIND:NAMESPACE/NAME, where APP may be NAMESPACE_NAME.
		app, _, _ := strings.Cut(annotations[argoTracking], ":")
		namespace, name, found := strings.Cut(app, "_")
		if !found {
			namespace, name = "argocd", app
		}
		return &v1alpha1.GrantSource{Kind: ApplicationKind.Kind, Namespace: namespace, Name: name}
	}
	return nil
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
	s := appliedBy(g)
	if s != nil && s.Kind != gitSyncKind {
		s.Revision = r.revisionOf(ctx, s)
	}
	return originOf(s)
}

// originOf is the source as guardrails read it.
func originOf(s *v1alpha1.GrantSource) *guardrail.Source {
	if s == nil {
		return nil
	}
	return &guardrail.Source{Kind: s.Kind, Namespace: s.Namespace, Name: s.Name, Revision: s.Revision, Author: s.Author}
}

// sourceString is the source as generated objects carry it.
func sourceString(s *v1alpha1.GrantSource) string {
	if s == nil {
		return ""
	}
	name := s.Name
	if s.Namespace != "" {
		name = s.Namespace + "/" + name
	}
	out := s.Kind + " " + name
	if s.Revision != "" {
		out += "@" + s.Revision
	}
	return out
}
