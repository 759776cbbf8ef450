//go:build peers

package controlplane

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

func TestKarmada(t *testing.T) {
	f := ForTest(t, Options{Members: []string{"prod-eu-1"}})
	ctx := t.Context()
	timed := func(what string, step func() error) {
		t.Helper()
		began := time.Now()
		if err := step(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s in %s", what, time.Since(began).Round(time.Millisecond))
	}
	timed("aggregated API server", func() error { return f.StartKarmadaAggregatedAPIServer(ctx) })
	timed("join", func() error { return f.JoinKarmada(ctx, "prod-eu-1", map[string]string{"env": "prod"}) })
	timed("controller manager", func() error { return f.StartKarmadaControllerManager(ctx) })

	t.Run("Proxy", func(t *testing.T) { testKarmadaProxy(t, f) })
	t.Run("Work", func(t *testing.T) { testKarmadaWork(t, f) })
}

// A user reaches the member with hub RBAC on clusters/proxy, an impersonator that may pose as the user and each group,
// and member RBAC; without any of the three the answer is 403.
func testKarmadaProxy(t *testing.T, f *Fleet) {
	ctx := t.Context()
	ada, err := f.Hub.User("ada", "payments")
	if err != nil {
		t.Fatal(err)
	}
	ada.Host += "/apis/cluster.karmada.io/v1alpha1/clusters/prod-eu-1/proxy"
	get := func() error {
		_, err := clientset(t, ada).CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
		return err
	}
	refused := func(why string) {
		t.Helper()
		if err := get(); !apierrors.IsForbidden(err) {
			t.Errorf("%s: got %v, want Forbidden", why, err)
		}
	}
	rule := func(group, resource, verb string, names ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: []string{verb}, ResourceNames: names}
	}
	hub, member := clientset(t, f.Hub.AdminConfig()), clientset(t, f.Member("prod-eu-1").AdminConfig())
	user := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "payments"}
	impersonator := rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "karmada-cluster", Name: "karmada-impersonator"}

	refused("no rights at all")
	grant(t, hub, "proxy", user, rule("cluster.karmada.io", "clusters/proxy", "get", "prod-eu-1"))
	eventually(t, "the hub lets ada through", func(ctx context.Context) (bool, error) {
		err := get()
		return err != nil && !contains(err, "clusters.cluster.karmada.io"), nil
	})
	refused("an impersonator without rights")
	grant(t, member, "impersonate", impersonator, rule("", "users", "impersonate", "ada"), rule("", "groups", "impersonate", "payments"))
	grant(t, member, "read", user, rule("", "configmaps", "list"))
	eventually(t, "ada reads from the member", func(context.Context) (bool, error) {
		err := get()
		if apierrors.IsForbidden(err) {
			return false, nil // RBAC's informers are a moment behind
		}
		return err == nil, err
	})
}

func grant(t *testing.T, client kubernetes.Interface, name string, to rbacv1.Subject, rules ...rbacv1.PolicyRule) {
	t.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	if _, err := client.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{to},
	}
	if _, err := client.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// A Work with the execution controller's finalizer lands on the member, and takes its objects along when deleted.
//
// Three things must be right for that, and Karmada says nothing if they are not. Each manifest carries the label
// karmada.io/managed=true, or Karmada neither updates nor deletes the object. The finalizer is there, or the Work goes
// without its objects. And a manifest that is dropped from a Work leaves its object behind: Karmada does not prune.
func testKarmadaWork(t *testing.T, f *Fleet) {
	ctx := t.Context()
	client, err := dynamic.NewForConfig(f.Hub.AdminConfig())
	if err != nil {
		t.Fatal(err)
	}
	works := client.Resource(schema.GroupVersionResource{Group: "work.karmada.io", Version: "v1alpha1", Resource: "works"}).
		Namespace("karmada-es-prod-eu-1")
	getWork := func(ctx context.Context, name string, options metav1.GetOptions) (*unstructured.Unstructured, error) {
		return works.Get(ctx, name, options)
	}
	onMember := clientset(t, f.Member("prod-eu-1").AdminConfig()).CoreV1().ConfigMaps("default")

	managed := karmadaWork("delivered", configMap("kept", true), configMap("dropped", true), configMap("unlabelled", false))
	if _, err := works.Create(ctx, managed, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kept", "dropped", "unlabelled"} {
		eventually(t, name+" is on the member", exists(onMember.Get, name))
	}
	eventually(t, "the Work is reported as applied", func(ctx context.Context) (bool, error) {
		live, err := works.Get(ctx, "delivered", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
		return slices.ContainsFunc(conditions, func(c any) bool {
			return c.(map[string]any)["type"] == "Applied" && c.(map[string]any)["status"] == "True"
		}), nil
	})

	eventually(t, "a manifest is dropped and another changed", func(ctx context.Context) (bool, error) {
		live, err := works.Get(ctx, "delivered", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		changed := configMap("kept", true)
		changed["data"] = map[string]any{"changed": "yes"}
		live.Object["spec"] = karmadaWork("", changed, configMap("unlabelled", false)).Object["spec"]
		_, err = works.Update(ctx, live, metav1.UpdateOptions{})
		return err == nil, ignoreConflict(err)
	})
	eventually(t, "the change is on the member", func(ctx context.Context) (bool, error) {
		kept, err := onMember.Get(ctx, "kept", metav1.GetOptions{})
		return err == nil && kept.Data["changed"] == "yes", err
	})

	if err := works.Delete(ctx, "delivered", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the Work is gone", gone(getWork, "delivered"))
	eventually(t, "the labelled object is gone", gone(onMember.Get, "kept"))
	for _, name := range []string{"dropped", "unlabelled"} {
		if _, err := onMember.Get(ctx, name, metav1.GetOptions{}); err != nil {
			t.Errorf("%s: Karmada now removes it: the comment above is out of date: %v", name, err)
		}
	}
}

func karmadaWork(name string, manifests ...any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "work.karmada.io/v1alpha1",
		"kind":       "Work",
		"metadata":   map[string]any{"name": name, "finalizers": []any{"karmada.io/execution-controller"}},
		"spec":       map[string]any{"workload": map[string]any{"manifests": manifests}},
	}}
}

func configMap(name string, managed bool) map[string]any {
	metadata := map[string]any{"name": name, "namespace": "default"}
	if managed {
		metadata["labels"] = map[string]any{"karmada.io/managed": "true"}
	}
	return map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
}

func ignoreConflict(err error) error {
	if apierrors.IsConflict(err) {
		return nil
	}
	return err
}

func contains(err error, text string) bool { return strings.Contains(err.Error(), text) }
