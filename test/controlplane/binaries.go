package controlplane

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// The programs that Binaries knows.
const (
	Etcd                  = "etcd"
	KubeAPIServer         = "kube-apiserver"
	KubeControllerManager = "kube-controller-manager"
	Kubectl               = "kubectl"

	OCMWork      = "ocm-work"
	OCMPlacement = "ocm-placement"
	// OCMServiceAccount is the agent of the managed-serviceaccount add-on.
	OCMServiceAccount = "ocm-serviceaccount"

	KarmadaAggregatedAPIServer = "karmada-aggregated-apiserver"
	KarmadaControllerManager   = "karmada-controller-manager"

	KustomizeController = "kustomize-controller"

	KonnectivityServer = "konnectivity-server"
	KonnectivityAgent  = "konnectivity-agent"

	OPA = "opa"

	// Kubelet stands in for a node's kubelet: see StartKubelet.
	Kubelet = "kubelet"
)

// inEnvtest lists what envtest's archives hold.
var inEnvtest = []string{Etcd, KubeAPIServer, Kubectl}

// Binaries returns the path of each named program. For each, the first of these that has it wins:
//
//  1. the folder that KUBEBUILDER_ASSETS names, for etcd, kube-apiserver and kubectl;
//  2. the cache, in the user's cache folder under sallyport/tools;
//  3. setup-envtest, for the same three, where its downloads can be reached;
//  4. a build from source, by the modules under test/tools, which takes minutes and is announced on log.
//
// What 3 and 4 bring goes into the cache. Concurrent callers, in one process or several, build each program once.
// log may be nil.
func Binaries(ctx context.Context, log io.Writer, names ...string) (map[string]string, error) {
	if log == nil {
		log = io.Discard
	}
	paths := make(map[string]string, len(names))
	for _, name := range names {
		path, err := binary(ctx, log, name)
		if err != nil {
			return nil, fmt.Errorf("cannot provide %s: %w", name, err)
		}
		paths[name] = path
	}
	return paths, nil
}

func binary(ctx context.Context, log io.Writer, name string) (string, error) {
	if path := asset(name); path != "" {
		return path, nil
	}
	source, ok := sources[name]
	if !ok {
		return "", fmt.Errorf("unknown program; the known ones are %q", slices.Sorted(maps.Keys(sources)))
	}
	path, err := source.cached(name)
	if err != nil || isExecutable(path) {
		return path, err
	}

	unlock, err := lock(ctx, log, filepath.Join(filepath.Dir(path), "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if isExecutable(path) { // another process made it while this one waited
		return path, nil
	}
	if slices.Contains(inEnvtest, name) && downloadEnvtest(ctx, log, filepath.Dir(path)) && isExecutable(path) {
		return path, nil
	}
	return path, source.build(ctx, log, name, path)
}

// asset returns the program's path below KUBEBUILDER_ASSETS, or "" if it is not there.
func asset(name string) string {
	dir := os.Getenv("KUBEBUILDER_ASSETS")
	if dir == "" || !slices.Contains(inEnvtest, name) {
		return ""
	}
	if path := filepath.Join(dir, name); isExecutable(path) {
		return path
	}
	return ""
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
