package config_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

// testForgery: S25. What Sallyport alone may say, nobody says in its place, whatever
// RBAC gives them: here it gives everything.
func testForgery(t *testing.T, hub *controlplane.ControlPlane, admin, sallyport client.Client) {
	ctx := t.Context()
	for _, group := range []string{"openreports.io_reports", "openreports.io_clusterreports", "wgpolicyk8s.io_policyreports", "wgpolicyk8s.io_clusterpolicyreports"} {
		if err := hub.InstallCRDs(ctx, "../controlplane/crds/"+group+".yaml"); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := hub.User("mallory")
	if err != nil {
		t.Fatal(err)
	}
	mallory := clientFor(t, cfg)
	everything := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "everything"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{
			{APIGroup: rbacv1.GroupName, Kind: "User", Name: "mallory"},
			{Kind: "ServiceAccount", Namespace: namespace, Name: account},
		},
	}
	tenant := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "forgery"}}
	if err := errors.Join(admin.Create(ctx, everything), admin.Create(ctx, tenant)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(admin.Delete(ctx, everything), admin.Delete(ctx, tenant)); err != nil {
			t.Error(err)
		}
	}()
	synced := func(o *unstructured.Unstructured) {
		o.SetLabels(map[string]string{v1alpha1.ManagedByLabel: v1alpha1.SyncManagedByValue, "team": "payments"})
		o.SetAnnotations(map[string]string{
			v1alpha1.SyncAnnotation: namespace + "/default", v1alpha1.RevisionAnnotation: "main@sha1:1", v1alpha1.AuthorAnnotation: "Carol <carol@example.com>",
		})
	}
	objects := map[string]*unstructured.Unstructured{
		"grant":  accessGrant("plain", func(*unstructured.Unstructured) {}),
		"synced": accessGrant("synced", synced),
		"state":  object("v1", "ConfigMap", namespace, "sallyport-bundle-platform", nil),
	}
	for _, kind := range [][2]string{
		{"openreports.io/v1alpha1", "Report"}, {"openreports.io/v1alpha1", "ClusterReport"},
		{"wgpolicyk8s.io/v1alpha2", "PolicyReport"}, {"wgpolicyk8s.io/v1alpha2", "ClusterPolicyReport"},
	} {
		in := "forgery"
		if strings.HasPrefix(kind[1], "Cluster") {
			in = ""
		}
		objects[kind[1]] = object(kind[0], kind[1], in, "sallyport", func(o *unstructured.Unstructured) { o.SetLabels(own("").Labels) })
	}
	for what, o := range objects {
		if err := sallyport.Create(ctx, o.DeepCopy()); err != nil {
			t.Fatalf("Sallyport's own %s: %v", what, err)
		}
	}
	// The policies take a moment to be in force.
	last := ""
	if err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		last = ""
		for _, o := range []*unstructured.Unstructured{renamed(objects["synced"]), renamed(objects["state"]), renamed(objects["Report"])} {
			if err := mallory.Create(ctx, o, client.DryRunAll); !apierrors.IsInvalid(err) {
				last = fmt.Sprintf("%s: %v", o.GetKind(), err)
			}
		}
		err := mallory.Status().Patch(ctx, objects["grant"].DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"status":{}}`)), client.DryRunAll)
		return last == "" && apierrors.IsInvalid(err), nil
	}); err != nil {
		t.Fatalf("the policies are not in force: %s", last)
	}

	merge := func(patch string) client.Patch { return client.RawPatch(types.MergePatchType, []byte(patch)) }
	of := func(what, patch string) func(client.Client) error {
		return func(c client.Client) error {
			return c.Patch(ctx, objects[what].DeepCopy(), merge(patch), client.DryRunAll)
		}
	}
	create := func(o *unstructured.Unstructured) func(client.Client) error {
		return func(c client.Client) error { return c.Create(ctx, o.DeepCopy(), client.DryRunAll) }
	}
	remove := func(what string) func(client.Client) error {
		return func(c client.Client) error { return c.Delete(ctx, objects[what].DeepCopy(), client.DryRunAll) }
	}
	const suspended = `{"spec":{"suspend":true}}`
	tests := map[string]struct {
		reason  string
		try     func(client.Client) error
		refused string // to others; "" if it is everybody's
	}{
		"Status": {"What stands and what was judged is Sallyport's to say.", func(c client.Client) error {
			return c.Status().Patch(ctx, objects["grant"].DeepCopy(), merge(`{"status":{"conditions":[]}}`), client.DryRunAll)
		}, "only Sallyport says what it observed"},
		"Plain":        {"Grants of others are theirs to make.", create(renamed(objects["grant"])), ""},
		"PlainChanged": {"And to change.", of("grant", suspended), ""},
		"Claimed": {"A grant is not the sync's because somebody says so.", create(accessGrant("a", func(o *unstructured.Unstructured) {
			o.SetLabels(map[string]string{v1alpha1.ManagedByLabel: v1alpha1.SyncManagedByValue})
		})), "only Sallyport's sync says what it applied"},
		"ClaimedLater": {"Nor later.", of("grant", `{"metadata":{"labels":{"app.kubernetes.io/managed-by":"sallyport-sync"}}}`), "only Sallyport's sync says what it applied"},
		"Disclaimed":   {"What the sync applied stays its own.", of("synced", `{"metadata":{"labels":{"app.kubernetes.io/managed-by":null}}}`), "only Sallyport's sync says what it applied"},
		"Author": {"Guardrails may ask whose commit it is.", create(accessGrant("a", func(o *unstructured.Unstructured) {
			o.SetAnnotations(map[string]string{v1alpha1.AuthorAnnotation: "carol"})
		})), "only Sallyport's sync says from which commit"},
		"AuthorLater":       {"Nor is it anybody's later.", of("grant", `{"metadata":{"annotations":{"access.sallyport.dev/author":"carol"}}}`), "only Sallyport's sync says from which commit"},
		"AnotherAuthor":     {"One author is not another.", of("synced", `{"metadata":{"annotations":{"access.sallyport.dev/author":"dave"}}}`), "only Sallyport's sync says from which commit"},
		"Revision":          {"Nor one commit another.", of("synced", `{"metadata":{"annotations":{"access.sallyport.dev/revision":"main@sha1:2"}}}`), "only Sallyport's sync says from which commit"},
		"Sync":              {"Nor one sync another.", of("synced", `{"metadata":{"annotations":{"access.sallyport.dev/sync":null}}}`), "only Sallyport's sync says from which commit"},
		"InCarolsName":      {"Who changes a grant is not the author of the commit.", of("synced", suspended), "the grant is from a commit: change it there"},
		"InTheirOwnName":    {"In an emergency it can be changed; the sync puts it right.", of("synced", `{"metadata":{"annotations":{"access.sallyport.dev/author":null,"access.sallyport.dev/revision":null}},"spec":{"suspend":true}}`), ""},
		"Label":             {"What is added to labels the sync would leave.", of("synced", `{"metadata":{"labels":{"ticket":"PAY-1"}}}`), "the grant is from a commit: change its labels and annotations there"},
		"Annotation":        {"And to annotations.", of("synced", `{"metadata":{"annotations":{"ticket":"PAY-1"}}}`), "the grant is from a commit: change its labels and annotations there"},
		"Note":              {"Tools may ask for another look.", of("synced", `{"metadata":{"annotations":{"reconcile.fluxcd.io/requestedAt":"now"}}}`), ""},
		"Finalizer":         {"Other controllers may hold it.", of("synced", `{"metadata":{"finalizers":["example.com/hold"]}}`), ""},
		"Deleted":           {"To take access away is everybody's who may.", remove("synced"), ""},
		"Report":            {"A report is Sallyport's.", create(renamed(objects["Report"])), "only Sallyport writes reports"},
		"ReportChanged":     {"It stays as it is.", of("Report", `{"summary":{"fail":0}}`), "only Sallyport writes reports"},
		"ReportRelabelled":  {"Also without its label.", of("Report", `{"metadata":{"labels":null}}`), "only Sallyport writes reports"},
		"ReportDeleted":     {"And where it is.", remove("Report"), "only Sallyport writes reports"},
		"ClusterReport":     {"Fleet-wide ones, too.", of("ClusterReport", `{"summary":{"fail":0}}`), "only Sallyport writes reports"},
		"PolicyReport":      {"Of the older kind, too.", create(renamed(objects["PolicyReport"])), "only Sallyport writes reports"},
		"PolicyReportGone":  {"Of the older kind, too.", remove("ClusterPolicyReport"), "only Sallyport writes reports"},
		"OthersReport":      {"Reports of others are theirs.", create(object("openreports.io/v1alpha1", "Report", "forgery", "theirs", nil)), ""},
		"BundleState":       {"Which bundle is in force is Sallyport's.", create(renamed(objects["state"])), "only Sallyport writes the ConfigMaps"},
		"BundleStateChange": {"It stays as it is.", of("state", `{"data":{"revision":"1"}}`), "only Sallyport writes the ConfigMaps"},
		"BundleStateGone":   {"And where it is.", remove("state"), "only Sallyport writes the ConfigMaps"},
		"OtherConfigMap":    {"Other ConfigMaps are not its business.", create(object("v1", "ConfigMap", namespace, "bundle", nil)), ""},
		"OtherNamespace":    {"Nor are other namespaces.", create(object("v1", "ConfigMap", "forgery", "sallyport-bundle-platform", nil)), ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := tc.try(mallory)
			switch {
			case tc.refused == "" && err != nil:
				t.Errorf("%s\nrefused to others: %v", tc.reason, err)
			case tc.refused != "" && (!apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tc.refused)):
				t.Errorf("%s\ngot %v, want %q", tc.reason, err, tc.refused)
			}
			if err := tc.try(sallyport); err != nil {
				t.Errorf("%s\nrefused to Sallyport: %v", tc.reason, err)
			}
		})
	}
	for _, o := range objects {
		if err := sallyport.Delete(ctx, o); err != nil {
			t.Errorf("Sallyport's own %s: %v", o.GetKind(), err)
		}
	}
}

func object(apiVersion, kind, in, name string, change func(*unstructured.Unstructured)) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{}}
	o.SetAPIVersion(apiVersion)
	o.SetKind(kind)
	o.SetNamespace(in)
	o.SetName(name)
	if strings.HasPrefix(apiVersion, "openreports.io/") {
		o.Object["source"] = "sallyport"
	}
	if change != nil {
		change(o)
	}
	return o
}

func renamed(o *unstructured.Unstructured) *unstructured.Unstructured {
	o = o.DeepCopy()
	o.SetName(o.GetName() + "-2")
	return o
}

func accessGrant(name string, change func(*unstructured.Unstructured)) *unstructured.Unstructured {
	return object(v1alpha1.GroupVersion.String(), v1alpha1.AccessGrantKind, "forgery", name, func(o *unstructured.Unstructured) {
		o.Object["spec"] = map[string]any{
			"reason": "on-call", "subjects": []any{map[string]any{"kind": "Group", "name": "oncall"}},
			"clusters": map[string]any{"names": []any{"prod-eu-1"}},
			"access":   []any{map[string]any{"roleRef": map[string]any{"kind": "ClusterRole", "name": "view"}, "namespaces": []any{"payments"}}},
		}
		change(o)
	})
}
