package controlplane

import (
	"context"
	"fmt"
	"path/filepath"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// StartWorkAgent starts OCM's work agent for a member, under the cluster name of the member, and returns when it is
// healthy; it applies ManifestWorks a moment later. CreateManagedCluster must have been called for it.
//
// On the hub the agent has what registration would have given it: a certificate of user
// system:open-cluster-management:<member>:agent, whose group may handle ManifestWorks in the cluster's namespace only. On
// the member it is cluster-admin, as OCM's klusterlet makes it.
func (f *Fleet) StartWorkAgent(ctx context.Context, member string) error {
	name := workAgentName(member)
	spoke := f.Member(member)
	hubConfig, err := f.workAgentOnHub(ctx, member)
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", name, err)
	}
	spokeConfig, err := f.workAgentOnMember(ctx, spoke)
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", name, err)
	}
	return f.startAgent(ctx, name, OCMWork, "https", func(port int) []string {
		return []string{
			"agent",
			"--spoke-cluster-name=" + member, "--agent-id=" + member,
			"--workload-source-driver=kube", "--workload-source-config=" + hubConfig,
			"--kubeconfig=" + spokeConfig, "--spoke-kubeconfig=" + spokeConfig,
			"--namespace=open-cluster-management-agent", "--disable-leader-election",
			"--status-sync-interval=" + statusSync.String(),
			"--listen=" + address(port),
		}
	})
}

// StopWorkAgent stops the member's work agent: what stands on the member stays, and nothing follows the hub any more.
// StartWorkAgent brings it back. Stopping one that does not run does nothing.
func (f *Fleet) StopWorkAgent(member string) error { return f.stopAgent(workAgentName(member)) }

func workAgentName(member string) string { return "ocm-work-" + member }

// workAgentOnHub writes the kubeconfig of the agent's hub identity and returns its path.
func (f *Fleet) workAgentOnHub(ctx context.Context, member string) (string, error) {
	client, err := kubernetes.NewForConfig(f.Hub.AdminConfig())
	if err != nil {
		return "", err
	}
	group := "system:open-cluster-management:" + member
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "open-cluster-management:managedcluster:" + member + ":work"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: workAgentRoleName},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: group}},
	}
	_, err = client.RbacV1().RoleBindings(member).Create(ctx, binding, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return "", err
	}
	user, err := f.Hub.User(group+":agent", group)
	if err != nil {
		return "", err
	}
	path := filepath.Join(f.Dir(), "kubeconfigs", workAgentName(member)+"-hub.kubeconfig")
	return path, f.Hub.WriteKubeconfig(path, user, "")
}

// workAgentOnMember prepares the member for an agent, writes the kubeconfig of the agent's identity there and returns
// its path.
func (f *Fleet) workAgentOnMember(ctx context.Context, member *ControlPlane) (string, error) {
	if err := f.installOCMCRDs(ctx, member, ocmMemberCRDs); err != nil {
		return "", err
	}
	const namespace, account = "open-cluster-management-agent", "klusterlet-work-sa"
	cfg, err := member.ServiceAccount(ctx, namespace, account)
	if err != nil {
		return "", err
	}
	client, err := kubernetes.NewForConfig(member.AdminConfig())
	if err != nil {
		return "", err
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "open-cluster-management:klusterlet-work:execution-admin"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: account}},
	}
	_, err = client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return "", err
	}
	path := filepath.Join(f.Dir(), "kubeconfigs", workAgentName(member.Name)+".kubeconfig")
	return path, member.WriteKubeconfig(path, cfg, "")
}
