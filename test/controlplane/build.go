package controlplane

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// source says how to build a program from a tool module.
type source struct {
	module  string // folder under test/tools
	pkg     string // main package
	version string // as its go.mod requires it, for people and for the program's own idea of its version
	cold    string // how long a build takes on two cores with nothing cached
	stamp   bool   // whether the program needs to be told its version: Kubernetes refuses to start without
}

// kubernetesVersion is also the version of test/tools/kubernetes/go.mod; a test holds the two together.
const kubernetesVersion = "v1.37.2"

var sources = map[string]source{
	Etcd:                  {"kubernetes", "go.etcd.io/etcd/server/v3", "v3.7.3", "1 min", false},
	KubeAPIServer:         {"kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", kubernetesVersion, "5 min", true},
	KubeControllerManager: {"kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", kubernetesVersion, "5 min", true},
	Kubectl:               {"kubernetes", "k8s.io/kubernetes/cmd/kubectl", kubernetesVersion, "2 min", true},

	OCMWork:      {"ocm", "open-cluster-management.io/ocm/cmd/work", "v1.0.0", "3 min", false},
	OCMPlacement: {"ocm", "open-cluster-management.io/ocm/cmd/placement", "v1.0.0", "3 min", false},

	// The add-on's reconciler in a main package of ours; the version is that of the add-on.
	OCMServiceAccount: {"serviceaccount", ".", "v0.8.0", "1 min", false},

	KarmadaAggregatedAPIServer: {"karmada", "github.com/karmada-io/karmada/cmd/aggregated-apiserver", "v1.12.0", "2 min", false},
	KarmadaControllerManager:   {"karmada", "github.com/karmada-io/karmada/cmd/controller-manager", "v1.12.0", "2 min", false},

	KustomizeController: {"flux", "github.com/fluxcd/kustomize-controller", "v1.6.0", "3 min", false},

	KonnectivityServer: {"konnectivity", "sigs.k8s.io/apiserver-network-proxy/cmd/server", "v0.36.0", "3 min", false},
	// Konnectivity's agent in a main package of ours; the version is that of the agent.
	KonnectivityAgent: {"konnectivity", ".", "v0.36.0", "3 min", false},

	OPA: {"opa", "github.com/open-policy-agent/opa", "v1.22.2", "3 min", false},

	// The program is ours; the version is that of the streams.
	Kubelet: {"kubelet", ".", "v0.37.2", "10 s", false},
}

// cached returns where the built program is, or will be. The folder's name digests all that decides what a build gives,
// so that a raised version, another toolchain or other flags never meet a stale program.
func (s source) cached(name string) (string, error) {
	module, err := toolModule(s.module)
	if err != nil {
		return "", err
	}
	digest := sha256.New()
	ours, err := filepath.Glob(filepath.Join(module, "*.go"))
	if err != nil {
		return "", err
	}
	for _, file := range append([]string{filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")}, ours...) {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		digest.Write(content)
	}
	fmt.Fprintln(digest, runtime.GOOS, runtime.GOARCH, runtime.Version())
	caches, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	key := s.module + "-" + hex.EncodeToString(digest.Sum(nil))[:16]
	return filepath.Join(caches, "sallyport", "tools", key, name), nil
}

// build compiles the program and moves it to path in one step, so that path never holds half a program.
func (s source) build(ctx context.Context, log io.Writer, name, path string) error {
	module, err := toolModule(s.module)
	if err != nil {
		return err
	}
	partial := path + ".partial" // the lock is held: nobody else writes it
	done := announce(log, fmt.Sprintf("building %s %s from source (about %s once, then cached)", name, s.version, s.cold))
	defer done()

	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", s.ldflags(), "-o", partial, s.pkg)
	cmd.Dir = module
	// No C compiler is needed, and no workspace or flags of the caller's may change what is built.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build %s: %w: %s", s.pkg, err, lastLines(out, 20))
	}
	return os.Rename(partial, path)
}

func (s source) ldflags() string {
	flags := "-s -w"
	if !s.stamp {
		return flags
	}
	parts := strings.SplitN(strings.TrimPrefix(s.version, "v"), ".", 3)
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags += fmt.Sprintf(" -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s -X %[1]s.gitTreeState=clean",
			pkg, s.version, parts[0], parts[1])
	}
	return flags
}

// announce says what is going on now, and every 15 seconds for how long, until the returned function is called.
func announce(log io.Writer, what string) (done func()) {
	began := time.Now()
	fmt.Fprintf(log, "%s …\n", what)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(15 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintf(log, "%s … %s\n", what, time.Since(began).Round(time.Second))
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped // the writer is the caller's own again
	}
}

// envtestTool downloads etcd, kube-apiserver and kubectl. It is run, not imported: its package starts control planes of
// its own and exports no download.
const envtestTool = "sigs.k8s.io/controller-runtime/tools/setup-envtest@v0.25.1"

// downloadEnvtest puts the programs of inEnvtest into dir and tells whether it could. Where the network refuses, that is
// known within seconds; where it hangs, after two minutes.
func downloadEnvtest(ctx context.Context, log io.Writer, dir string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	minor := kubernetesVersion[1:strings.LastIndex(kubernetesVersion, ".")]
	defer announce(log, "looking for Kubernetes "+minor+" test binaries to download")()
	cmd := exec.CommandContext(ctx, "go", "run", envtestTool, "use", minor+".x", "--bin-dir", filepath.Join(dir, "envtest"), "--print", "path")
	cmd.Env = append(os.Environ(), "GOFLAGS=")
	cmd.WaitDelay = time.Second // go run's own child may hold the pipe
	out, err := cmd.Output()
	if err != nil {
		return false
	}
	assets := strings.TrimSpace(string(out))
	for _, name := range inEnvtest {
		err := os.Link(filepath.Join(assets, name), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrExist) {
			return false
		}
	}
	return true
}

// lock takes an exclusive lock on a file, which the kernel drops if this process dies, and makes the file's folder. It
// says on log if it has to wait.
func lock(ctx context.Context, log io.Writer, path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for waits := false; ; waits = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("cannot lock %q: %w", path, err)
		}
		if !waits {
			defer announce(log, "waiting for another process to build")()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("cannot lock %q: %w", path, ctx.Err())
		}
	}
}

// toolModule returns the folder of a module under test/tools: beside this source file, or, in a program built with
// -trimpath, from the working directory upwards.
func toolModule(name string) (string, error) {
	_, file, _, _ := runtime.Caller(0)
	roots := []string{filepath.Join(filepath.Dir(file), "..", "..")}
	if dir, err := os.Getwd(); err == nil {
		for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			roots = append(roots, dir)
		}
	}
	for _, root := range roots {
		dir := filepath.Join(root, "test", "tools", name)
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("cannot find test/tools/%s: run this from within Sallyport's repository", name)
}

// moduleFiles returns the folder of a module's source, in the version that a tool module uses, downloading it if need be.
func moduleFiles(ctx context.Context, tool, module string) (string, error) {
	dir, err := toolModule(tool)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	out, err := cmd.Output()
	var found struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &found); jsonErr != nil || found.Dir == "" {
		return "", fmt.Errorf("cannot find the files of module %s: %w", module, errors.Join(err, jsonErr, errors.New(found.Error)))
	}
	return found.Dir, nil
}

func lastLines(text []byte, n int) []byte {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], []byte("\n"))
}
