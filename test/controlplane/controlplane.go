package controlplane

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"k8s.io/client-go/rest"
)

// ControlPlane is one cluster, hub or member: an API server and, if asked for, a controller manager. Its methods may be
// called from several goroutines.
type ControlPlane struct {
	// Name is "hub" or the member's name.
	Name string

	host     host
	binaries map[string]string
	etcd     *etcd
	manager  bool // whether a controller manager runs
	pki      *pki
	admin    *rest.Config

	mu        sync.Mutex
	flags     []string
	port      int // 0 until the first start, then kept
	processes []*process
}

// newControlPlane prepares a cluster's keys. Nothing runs until Start.
func newControlPlane(name string, h host, binaries map[string]string, etcd *etcd, manager bool) (*ControlPlane, error) {
	keys, err := newPKI(filepath.Join(h.dir, "pki", name), name)
	if err != nil {
		return nil, fmt.Errorf("cannot make keys for %q: %w", name, err)
	}
	return &ControlPlane{Name: name, host: h, binaries: binaries, etcd: etcd, manager: manager, pki: keys}, nil
}

// Start starts the cluster and returns when it is ready to serve. After Stop it comes back with the same address, keys
// and data; the address can then be taken by another process, which is an error. Starting a running cluster does nothing.
func (c *ControlPlane) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.processes) > 0 {
		return nil
	}
	start := func(port int) error { return c.startAPIServer(ctx, port) }
	var err error
	if c.port == 0 {
		err = onFreePort(ctx, start)
	} else {
		err = start(c.port)
	}
	if err != nil {
		return fmt.Errorf("cannot start kube-apiserver %q: %w", c.Name, err)
	}
	if !c.manager {
		return nil
	}
	if err := onFreePort(ctx, func(port int) error { return c.startControllerManager(ctx, port) }); err != nil {
		return errors.Join(fmt.Errorf("cannot start kube-controller-manager %q: %w", c.Name, err), c.stop())
	}
	return nil
}

// SetFlags replaces the additional kube-apiserver flags, each as "--name=value", that the next Start uses. A flag that the
// harness sets too is overridden, and --authorization-config takes the place of --authorization-mode=RBAC, so it must list
// the type RBAC itself.
func (c *ControlPlane) SetFlags(flags ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flags = slices.Clone(flags)
}

// Stop stops the cluster, whose address then refuses connections; see Start. What was detached to it, such as a work
// agent, goes on and retries. Stopping a stopped cluster does nothing.
func (c *ControlPlane) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stop()
}

func (c *ControlPlane) stop() error {
	var errs []error
	for len(c.processes) > 0 {
		last := len(c.processes) - 1
		errs = append(errs, c.processes[last].stop())
		c.processes = c.processes[:last]
	}
	return errors.Join(errs...)
}

func (c *ControlPlane) startAPIServer(ctx context.Context, port int) error {
	args := []string{
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		"--endpoint-reconciler-type=none", // loopback cannot be an endpoint of the service "kubernetes"
		"--service-cluster-ip-range=10.0.0.0/24",
		"--etcd-servers=" + c.etcd.url, "--etcd-prefix=/" + c.Name,
		"--tls-cert-file=" + c.pki.path("tls.crt"), "--tls-private-key-file=" + c.pki.path("tls.key"),
		"--client-ca-file=" + c.pki.path("client-ca.crt"),
		// Aggregated API servers learn these from ConfigMap kube-system/extension-apiserver-authentication.
		"--requestheader-client-ca-file=" + c.pki.path("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + c.pki.path("front-proxy-client.crt"),
		"--proxy-client-key-file=" + c.pki.path("front-proxy-client.key"),
		"--service-account-issuer=https://kubernetes.default.svc/" + c.Name, // no token of one cluster passes on another
		"--service-account-key-file=" + c.pki.path("service-accounts.key"),
		"--service-account-signing-key-file=" + c.pki.path("service-accounts.key"),
		"--profiling=false",
	}
	if !c.manager {
		// Without a controller manager no ServiceAccount "default" appears, which this plugin demands of each pod.
		args = append(args, "--disable-admission-plugins=ServiceAccount")
	}
	if !slices.ContainsFunc(c.flags, func(flag string) bool { return strings.HasPrefix(flag, "--authorization-config=") }) {
		args = append(args, "--authorization-mode=RBAC") // refused beside the other
	}
	args = append(args, c.flags...) // last, and so in force
	admin, err := c.adminConfig(port)
	if err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(admin)
	if err != nil {
		return err
	}
	client.Timeout = prober.Timeout
	// /readyz waits for the bootstrap roles, so whoever comes next finds RBAC as it will stay.
	p, err := c.host.start(ctx, program{
		name: c.Name, binary: c.binaries[KubeAPIServer], args: args,
		ready: answersTo(client, admin.Host+"/readyz"),
	})
	if err != nil {
		return err
	}
	c.port, c.admin, c.processes = port, admin, append(c.processes, p)
	return c.WriteKubeconfig(c.Kubeconfig(), admin, "")
}

// controllers are those of kube-controller-manager that mean something without nodes.
const controllers = "clusterrole-aggregation-controller,garbage-collector-controller,namespace-controller," +
	"root-ca-certificate-publisher-controller,serviceaccount-controller,serviceaccount-token-controller"

func (c *ControlPlane) startControllerManager(ctx context.Context, port int) error {
	p, err := c.host.start(ctx, program{
		name:   c.Name + "-controller-manager",
		binary: c.binaries[KubeControllerManager],
		args: []string{
			"--kubeconfig=" + c.Kubeconfig(), "--authentication-kubeconfig=" + c.Kubeconfig(), "--authorization-kubeconfig=" + c.Kubeconfig(),
			"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
			"--tls-cert-file=" + c.pki.path("tls.crt"), "--tls-private-key-file=" + c.pki.path("tls.key"),
			"--leader-elect=false",
			"--controllers=" + controllers,
			"--root-ca-file=" + c.pki.path("ca.crt"),
			"--service-account-private-key-file=" + c.pki.path("service-accounts.key"),
			"--profiling=false",
		},
		ready: answers("https://" + address(port) + "/healthz"),
	})
	if err != nil {
		return err
	}
	c.processes = append(c.processes, p)
	return nil
}
