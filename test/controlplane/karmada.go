package controlplane

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

var karmadaClusters = schema.GroupVersionResource{Group: "cluster.karmada.io", Version: "v1alpha1", Resource: "clusters"}

const (
	karmadaNamespace = "karmada-system"  // of Karmada's own components
	karmadaClusterNS = "karmada-cluster" // of the members' credentials, and of Karmada's ServiceAccounts on members
)

// StartKarmadaAggregatedAPIServer starts karmada-aggregated-apiserver and registers it on the hub, whose API then has
// cluster.karmada.io/v1alpha1 clusters and clusters/<name>/proxy; it returns when that is served.
func (f *Fleet) StartKarmadaAggregatedAPIServer(ctx context.Context) error {
	const name = "karmada-aggregated-apiserver"
	cert, key, err := f.Hub.ServingCertificate(name + "." + karmadaNamespace + ".svc")
	if err != nil {
		return err
	}
	base := filepath.Join(f.Dir(), "pki", name)
	if err := (keyPair{cert: cert, key: key}).write(base); err != nil {
		return err
	}
	var listens int
	err = f.startAgent(ctx, name, KarmadaAggregatedAPIServer, "https", func(port int) []string {
		listens = port
		return []string{
			"--kubeconfig=" + f.Hub.Kubeconfig(),
			"--authentication-kubeconfig=" + f.Hub.Kubeconfig(),
			"--authorization-kubeconfig=" + f.Hub.Kubeconfig(),
			"--etcd-servers=" + f.etcd.url, "--etcd-prefix=/hub-karmada",
			"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
			"--tls-cert-file=" + base + ".crt", "--tls-private-key-file=" + base + ".key",
			"--audit-log-path=-", "--audit-log-maxage=0", "--audit-log-maxbackup=0",
		}
	})
	if err != nil {
		return err
	}
	return f.Hub.RegisterAPIService(ctx, karmadaClusters.GroupVersion(), karmadaNamespace, name, listens)
}

// StopKarmadaAggregatedAPIServer stops it: the hub answers 503 for its API. Starting it again brings back all Clusters.
func (f *Fleet) StopKarmadaAggregatedAPIServer() error {
	return f.stopAgent("karmada-aggregated-apiserver")
}

// StartKarmadaControllerManager installs Karmada's CRDs (Work and the rest) on the hub and starts
// karmada-controller-manager with the named controllers, by default those that carry a Work to its member and back:
// "execution" and "workStatus", and the two that they lean on, "cluster" and "clusterStatus", which give a Cluster its
// finalizer, connect to the member and follow its health. "unifiedAuth", Karmada's own answer to Sallyport's question,
// is not among them. The aggregated API server must have been started.
func (f *Fleet) StartKarmadaControllerManager(ctx context.Context, controllers ...string) error {
	if len(controllers) == 0 {
		controllers = []string{"cluster", "clusterStatus", "execution", "workStatus"}
	}
	if err := f.installKarmadaCRDs(ctx); err != nil {
		return err
	}
	return f.startAgent(ctx, "karmada-controller-manager", KarmadaControllerManager, "http", func(port int) []string {
		return []string{
			"--kubeconfig=" + f.Hub.Kubeconfig(),
			"--controllers=" + strings.Join(controllers, ","),
			"--leader-elect=false",
			"--health-probe-bind-address=" + address(port), "--metrics-bind-address=0",
			"--cluster-status-update-frequency=2s", "--cluster-failure-threshold=2s", "--cluster-success-threshold=2s",
			"--enable-cluster-resource-modeling=false", // there are no nodes to sum up
			"--feature-gates=CustomizedClusterResourceModeling=false",
		}
	})
}

// StopKarmadaControllerManager stops it: a deleted Work then stays, by its finalizer. Stopping one that does not run does
// nothing.
func (f *Fleet) StopKarmadaControllerManager() error {
	return f.stopAgent("karmada-controller-manager")
}

func (f *Fleet) installKarmadaCRDs(ctx context.Context) error {
	module, err := moduleFiles(ctx, "karmada", "github.com/karmada-io/karmada")
	if err != nil {
		return err
	}
	groups, err := filepath.Glob(filepath.Join(module, "charts", "karmada", "_crds", "bases", "*"))
	if err != nil || len(groups) == 0 {
		return errors.Join(err, fmt.Errorf("cannot find Karmada's CRDs in %q", module))
	}
	return f.Hub.InstallCRDs(ctx, groups...)
}
