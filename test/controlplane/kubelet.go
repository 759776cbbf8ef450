package controlplane

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// node is the one node of a cluster with a kubelet.
const node = "node-1"

// StartKubelet gives a cluster the node "node-1" with a stand-in for its kubelet, which kube-apiserver reaches for logs, exec,
// attach, cp and port-forward: see test/tools/kubelet. Pods are not run by it; RunPod makes one that looks as if it were.
func (f *Fleet) StartKubelet(ctx context.Context, c *ControlPlane) error {
	dir := filepath.Join(f.Dir(), "kubelet", c.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var listens int
	err := f.startAgent(ctx, c.Name+"-kubelet", Kubelet, "https", func(port int) []string {
		listens = port
		return []string{"--addr=" + address(port), "--dir=" + dir}
	})
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(c.AdminConfig())
	if err != nil {
		return err
	}
	made, err := client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("cannot create the node of %q: %w", c.Name, err)
	}
	made.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}
	made.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(listens)
	_, err = client.CoreV1().Nodes().UpdateStatus(ctx, made, metav1.UpdateOptions{})
	return err
}

// KubeletDir is where what is executed in pods of a cluster runs, and what cp copies from and to.
func (f *Fleet) KubeletDir(c *ControlPlane) string { return filepath.Join(f.Dir(), "kubelet", c.Name) }

// RunPod makes a pod with the container "main" on the node of StartKubelet, and says of it that it runs. Its namespace is
// made if need be.
func (c *ControlPlane) RunPod(ctx context.Context, namespace, name string) error {
	client, err := kubernetes.NewForConfig(c.AdminConfig())
	if err != nil {
		return err
	}
	if err := ensureNamespace(ctx, client, namespace); err != nil {
		return err
	}
	pod, err := client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			NodeName:   node,
			Containers: []corev1.Container{{Name: "main", Image: "registry.example/" + name + ":1"}},
		},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot create pod %s/%s on %q: %w", namespace, name, c.Name, err)
	}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "main", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
	}}
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	_, err = client.CoreV1().Pods(namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	return err
}
