package snapshot

import (
	"strings"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// GitSyncKind is the kind of the built-in sync in a GrantSource.
const GitSyncKind = "GitSync"

const (
	kustomizeName      = "kustomize.toolkit.fluxcd.io/name"
	kustomizeNamespace = "kustomize.toolkit.fluxcd.io/namespace"
	helmName           = "helm.toolkit.fluxcd.io/name"
	helmNamespace      = "helm.toolkit.fluxcd.io/namespace"
	argoTracking       = "argocd.argoproj.io/tracking-id"
)

// AppliedBy says what applied a grant, by its own labels and annotations; nil if they
// do not tell. The revision is known of the built-in sync only.
func AppliedBy(g *v1alpha1.AccessGrant) *v1alpha1.GrantSource {
	labels, annotations := g.GetLabels(), g.GetAnnotations()
	switch {
	// The built-in sync first: what it commits may carry others' labels, but not
	// its own label of ownership.
	case labels[v1alpha1.ManagedByLabel] == v1alpha1.SyncManagedByValue:
		namespace, name, _ := strings.Cut(annotations[v1alpha1.SyncAnnotation], "/")
		return &v1alpha1.GrantSource{
			Kind: GitSyncKind, Namespace: namespace, Name: name,
			Revision: annotations[v1alpha1.RevisionAnnotation], Author: annotations[v1alpha1.AuthorAnnotation],
		}
	case labels[kustomizeName] != "":
		return &v1alpha1.GrantSource{Kind: "Kustomization", Namespace: labels[kustomizeNamespace], Name: labels[kustomizeName]}
	case labels[helmName] != "":
		return &v1alpha1.GrantSource{Kind: "HelmRelease", Namespace: labels[helmNamespace], Name: labels[helmName]}
	case annotations[argoTracking] != "":
		// APP:GROUP/KIND:NAMESPACE/NAME, where APP may be NAMESPACE_NAME.
		app, _, _ := strings.Cut(annotations[argoTracking], ":")
		namespace, name, found := strings.Cut(app, "_")
		if !found {
			namespace, name = "argocd", app
		}
		return &v1alpha1.GrantSource{Kind: "Application", Namespace: namespace, Name: name}
	}
	return nil
}

// RecordedSource is what the controller recorded of this generation of a grant, if it
// is of what has applied the grant now; nil otherwise.
func RecordedSource(g *v1alpha1.AccessGrant, now *v1alpha1.GrantSource) *v1alpha1.GrantSource {
	was := g.Status.Source
	if was == nil || was.Kind != now.Kind || was.Namespace != now.Namespace || was.Name != now.Name || was.Generation != g.Generation {
		return nil
	}
	return was
}

// SourceOf a grant without asking who applied it: what its own annotations or else the
// controller's record say. Guardrails read it as input.source, and so come to the
// controller's own verdict once the controller has seen this generation of the grant.
// Until then the commit of what Flux or Argo CD applied is not known, and is told as
// such instead of being that of an earlier generation: a guardrail that asks for a
// commit refuses, and one that does not is not concerned.
func SourceOf(g *v1alpha1.AccessGrant) *v1alpha1.GrantSource {
	if g.Spec.Suspend && g.Status.Source != nil {
		return g.Status.Source // what stands comes from there
	}
	now := AppliedBy(g)
	if now == nil || now.Kind == GitSyncKind {
		return now
	}
	if was := RecordedSource(g, now); was != nil {
		return was
	}
	return now
}

// OriginOf a source as guardrails read it.
func OriginOf(s *v1alpha1.GrantSource) *guardrail.Source {
	if s == nil {
		return nil
	}
	return &guardrail.Source{Kind: s.Kind, Namespace: s.Namespace, Name: s.Name, Revision: s.Revision, Author: s.Author}
}

// SourceString is the source as generated objects carry it.
func SourceString(s *v1alpha1.GrantSource) string {
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
