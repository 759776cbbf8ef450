package controlplane

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// InstallServiceAccountAddOn gives the hub the CRD of OCM's managed-serviceaccount add-on. Its manager, which hands out
// agents and rights, does not run: StartServiceAccountAgent does that.
func (f *Fleet) InstallServiceAccountAddOn(ctx context.Context) error {
	module, err := moduleFiles(ctx, "serviceaccount", "open-cluster-management.io/managed-serviceaccount")
	if err != nil {
		return err
	}
	return f.Hub.InstallCRDs(ctx, filepath.Join(module, "config/crd/bases"))
}

// StartServiceAccountAgent starts the add-on's agent of a member, with its own rights on hub and member. Accounts are
// made in that namespace of the member. InstallServiceAccountAddOn and CreateManagedCluster must have been called.
func (f *Fleet) StartServiceAccountAgent(ctx context.Context, member, namespace string) error {
	name := serviceAccountAgentName(member)
	hub, hubErr := f.serviceAccountAgentOnHub(ctx, member)
	spoke, spokeErr := f.serviceAccountAgentOnMember(ctx, f.Member(member), namespace)
	if err := errors.Join(hubErr, spokeErr); err != nil {
		return fmt.Errorf("cannot start %s: %w", name, err)
	}
	return f.startAgent(ctx, name, OCMServiceAccount, "http", func(port int) []string {
		return []string{
			"--cluster-name=" + member, "--namespace=" + namespace, "--hub-kubeconfig=" + hub, "--spoke-kubeconfig=" + spoke,
			"--health-probe-bind-address=" + address(port),
		}
	})
}

func serviceAccountAgentName(member string) string { return "ocm-serviceaccount-" + member }

const serviceAccountAgentRole = "managed-serviceaccount-addon-agent"

// serviceAccountAgentOnHub writes the kubeconfig of the agent's identity on the hub, with the rights that the add-on's
// manager gives it: pkg/addon/manager/addon.go of its module.
func (f *Fleet) serviceAccountAgentOnHub(ctx context.Context, member string) (string, error) {
	const group = "authentication.open-cluster-management.io"
	agent := "system:open-cluster-management:cluster:" + member + ":addon:managed-serviceaccount:agent:addon-agent"
	err := grantRole(ctx, f.Hub, member, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: agent},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get", "list", "watch", "create", "update"}},
		rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{"managedserviceaccounts"}, Verbs: []string{"get", "list", "watch"}},
		rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{"managedserviceaccounts/status"}, Verbs: []string{"get", "update", "patch"}},
	)
	if err != nil {
		return "", err
	}
	user, err := f.Hub.User(agent)
	if err != nil {
		return "", err
	}
	path := filepath.Join(f.Dir(), "kubeconfigs", serviceAccountAgentName(member)+"-hub.kubeconfig")
	return path, f.Hub.WriteKubeconfig(path, user, "")
}

// serviceAccountAgentOnMember is likewise for the member: pkg/addon/manager/manifests/templates/role.yaml.
func (f *Fleet) serviceAccountAgentOnMember(ctx context.Context, member *ControlPlane, namespace string) (string, error) {
	const account = "managed-serviceaccount"
	config, err := member.ServiceAccount(ctx, namespace, account)
	if err != nil {
		return "", err
	}
	err = grantRole(ctx, member, namespace, rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: account},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"serviceaccounts", "serviceaccounts/token"}, Verbs: []string{"get", "watch", "list", "create", "delete"}},
	)
	if err != nil {
		return "", err
	}
	path := filepath.Join(f.Dir(), "kubeconfigs", serviceAccountAgentName(member.Name)+".kubeconfig")
	return path, member.WriteKubeconfig(path, config, "")
}

// grantRole gives an agent of the add-on a role in a namespace.
func grantRole(ctx context.Context, on *ControlPlane, namespace string, to rbacv1.Subject, rules ...rbacv1.PolicyRule) error {
	client, err := kubernetes.NewForConfig(on.AdminConfig())
	if err != nil {
		return err
	}
	meta := metav1.ObjectMeta{Name: serviceAccountAgentRole}
	_, err = client.RbacV1().Roles(namespace).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	_, err = client.RbacV1().RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name}, Subjects: []rbacv1.Subject{to},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}
