package snapshot

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

func TestAppliedBy(t *testing.T) {
	cases := map[string]struct {
		reason              string
		labels, annotations map[string]string
		want                *v1alpha1.GrantSource
	}{
		"Nobody":    {reason: "A grant that somebody applied by hand has no source."},
		"Flux":      {"Flux labels what a Kustomization applied.", map[string]string{kustomizeName: "access", kustomizeNamespace: "flux-system"}, nil, &v1alpha1.GrantSource{Kind: "Kustomization", Namespace: "flux-system", Name: "access"}},
		"Helm":      {"Likewise a HelmRelease.", map[string]string{helmName: "access", helmNamespace: "flux-system"}, nil, &v1alpha1.GrantSource{Kind: "HelmRelease", Namespace: "flux-system", Name: "access"}},
		"Argo":      {"Argo CD names the Application in its tracking id.", nil, map[string]string{argoTracking: "access:access.sallyport.dev/AccessGrant:team/g"}, &v1alpha1.GrantSource{Kind: "Application", Namespace: "argocd", Name: "access"}},
		"ArgoOther": {"An Application outside Argo CD's namespace has it in front.", nil, map[string]string{argoTracking: "team_access:access.sallyport.dev/AccessGrant:team/g"}, &v1alpha1.GrantSource{Kind: "Application", Namespace: "team", Name: "access"}},
		"GitSync": {"What the built-in sync applied comes from it, whatever labels were committed.",
			map[string]string{v1alpha1.ManagedByLabel: v1alpha1.SyncManagedByValue, kustomizeName: "forged"},
			map[string]string{v1alpha1.SyncAnnotation: "sallyport-system/sallyport-sync", v1alpha1.RevisionAnnotation: "main@sha1:1", v1alpha1.AuthorAnnotation: "A <a@b>"},
			&v1alpha1.GrantSource{Kind: "GitSync", Namespace: "sallyport-system", Name: "sallyport-sync", Revision: "main@sha1:1", Author: "A <a@b>"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			g := &v1alpha1.AccessGrant{ObjectMeta: metav1.ObjectMeta{Labels: c.labels, Annotations: c.annotations}}
			if diff := cmp.Diff(c.want, AppliedBy(g)); diff != "" {
				t.Errorf("%s\n%s", c.reason, diff)
			}
		})
	}
}
