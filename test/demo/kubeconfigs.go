package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/sallyport-dev/sallyport/test/controlplane"
	"github.com/sallyport-dev/sallyport/test/install"
)

// writeKubeconfigs writes those of the administrators of the hub and of each
// member, and those of the people, who only know the hub.
func (w *world) writeKubeconfigs() error {
	hub := w.fleet.Hub
	if err := hub.WriteKubeconfig(filepath.Join(w.dir, "hub.kubeconfig"), hub.AdminConfig(), ""); err != nil {
		return err
	}
	for _, m := range w.fleet.Members() {
		if err := m.WriteKubeconfig(filepath.Join(w.dir, "members", m.Name+".kubeconfig"), m.AdminConfig(), ""); err != nil {
			return err
		}
	}
	for _, p := range []person{alice, bob} {
		if err := w.writeUser(p); err != nil {
			return fmt.Errorf("cannot write the kubeconfig of %s: %w", p.name, err)
		}
	}
	return nil
}

// writeUser writes a kubeconfig with a context for each member, all of which lead
// through the hub.
func (w *world) writeUser(p person) error {
	config := w.people[p.name]
	out := clientcmdapi.NewConfig()
	out.AuthInfos[p.name] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	for _, m := range members {
		out.Clusters[m.name] = &clientcmdapi.Cluster{Server: config.Host + install.Way(m.name), CertificateAuthorityData: config.CAData}
		out.Contexts[m.name] = &clientcmdapi.Context{Cluster: m.name, AuthInfo: p.name, Namespace: namespace}
	}
	out.CurrentContext = members[0].name
	dir := filepath.Join(w.dir, "users")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return clientcmd.WriteToFile(*out, filepath.Join(dir, p.name+".kubeconfig")) // with mode 0600
}

// invite says how to go on with what is left running.
func invite(ctx context.Context, out *screen, w *world) error {
	out.heading("It is all yours")
	if _, err := exec.LookPath("kubectl"); err != nil {
		if err := w.bringKubectl(ctx, out); err != nil {
			return err
		}
		out.say("kubectl is in .demo/bin: export PATH=$PATH:$PWD/.demo/bin")
		fmt.Fprintln(out.w)
	}
	for _, line := range [][2]string{
		{".demo/hub.kubeconfig", "administrator of the hub"},
		{".demo/members/<name>.kubeconfig", "their administrators: prod-eu-1, …"},
		{".demo/users/<name>.kubeconfig", "alice and bob: through the hub, to each member"},
		{".demo/repo", "Git: commit on main to change access"},
		{".demo/logs", "what everything has to say"},
	} {
		fmt.Fprintf(out.w, "  %s %s\n", pad(line[0], 32), line[1])
	}
	out.heading("Give alice her access back, and look")
	out.quote(`git -C .demo/repo revert --no-edit HEAD
kubectl --kubeconfig .demo/hub.kubeconfig get accessgrants -A
kubectl --kubeconfig .demo/users/alice.kubeconfig get pods
kubectl --kubeconfig .demo/users/alice.kubeconfig --context prod-us-1 get secrets`)
	fmt.Fprintln(out.w)
	out.say("The tutorial goes on from here: docs/tutorials/first-grant.md")
	out.say("To end it: make demo-stop")
	return nil
}

// bringKubectl puts kubectl where it can be found.
func (w *world) bringKubectl(ctx context.Context, out *screen) error {
	paths, err := controlplane.Binaries(ctx, progress{out}, controlplane.Kubectl)
	if err != nil {
		return err
	}
	link := filepath.Join(w.dir, "bin", "kubectl")
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(paths[controlplane.Kubectl], link)
}
