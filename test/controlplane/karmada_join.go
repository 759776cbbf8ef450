package controlplane

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

// JoinKarmada does what "karmadactl join" does in push mode: a ServiceAccount for Karmada on the member, with every
// right; one named karmada-impersonator, with none; their tokens in Secrets on the hub; and the Cluster, which is made
// Ready, and its execution namespace. Giving the impersonator its rights is the work of whoever compiles access: here
// that is Sallyport, elsewhere Karmada's unifiedAuth controller. The aggregated API server must have been started.
func (f *Fleet) JoinKarmada(ctx context.Context, member string, labels map[string]string) error {
	if err := f.joinKarmada(ctx, f.Member(member), labels); err != nil {
		return fmt.Errorf("cannot join member %q to Karmada: %w", member, err)
	}
	return nil
}

func (f *Fleet) joinKarmada(ctx context.Context, member *ControlPlane, labels map[string]string) error {
	controller, err := member.ServiceAccount(ctx, karmadaClusterNS, "karmada-"+member.Name)
	if err != nil {
		return err
	}
	impersonator, err := member.ServiceAccount(ctx, karmadaClusterNS, "karmada-impersonator")
	if err != nil {
		return err
	}
	if err := grantKarmadaController(ctx, member); err != nil {
		return err
	}

	hub, err := kubernetes.NewForConfig(f.Hub.AdminConfig())
	if err != nil {
		return err
	}
	for _, namespace := range []string{karmadaClusterNS, "karmada-es-" + member.Name} {
		if err := ensureNamespace(ctx, hub, namespace); err != nil {
			return err
		}
	}
	if err := ensureSecret(ctx, hub, member.Name, map[string]string{
		"token": controller.BearerToken, "caBundle": string(member.CABundle()),
	}); err != nil {
		return err
	}
	if err := ensureSecret(ctx, hub, member.Name+"-impersonator", map[string]string{"token": impersonator.BearerToken}); err != nil {
		return err
	}
	return f.createKarmadaCluster(ctx, member, labels)
}

// grantKarmadaController gives Karmada's own ServiceAccount on the member what karmadactl gives it.
func grantKarmadaController(ctx context.Context, member *ControlPlane) error {
	client, err := kubernetes.NewForConfig(member.AdminConfig())
	if err != nil {
		return err
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "karmada-controller-manager:karmada-" + member.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: karmadaClusterNS, Name: "karmada-" + member.Name}},
	}
	_, err = client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

// ensureSecret creates the Secret in namespace karmada-cluster, or gives it new data.
func ensureSecret(ctx context.Context, client kubernetes.Interface, name string, data map[string]string) error {
	secrets := client.CoreV1().Secrets(karmadaClusterNS)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: data}
	_, err := secrets.Create(ctx, secret, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	}
	return err
}

func (f *Fleet) createKarmadaCluster(ctx context.Context, member *ControlPlane, labels map[string]string) error {
	client, err := dynamic.NewForConfig(f.Hub.AdminConfig())
	if err != nil {
		return err
	}
	secretRef := func(name string) map[string]any { return map[string]any{"namespace": karmadaClusterNS, "name": name} }
	cluster := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": karmadaClusters.GroupVersion().String(),
		"kind":       "Cluster",
		"metadata":   map[string]any{"name": member.Name},
		"spec": map[string]any{
			"syncMode":              "Push",
			"apiEndpoint":           member.URL(),
			"secretRef":             secretRef(member.Name),
			"impersonatorSecretRef": secretRef(member.Name + "-impersonator"),
		},
	}}
	cluster.SetLabels(labels)
	cluster, err = client.Resource(karmadaClusters).Create(ctx, cluster, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	cluster.Object["status"] = map[string]any{
		"kubernetesVersion": kubernetesVersion,
		"conditions": []any{map[string]any{
			"type": "Ready", "status": "True", "reason": "ClusterReady", "message": "joined by the harness",
			"lastTransitionTime": metav1.Now().UTC().Format("2006-01-02T15:04:05Z"),
		}},
	}
	_, err = client.Resource(karmadaClusters).UpdateStatus(ctx, cluster, metav1.UpdateOptions{})
	return err
}
