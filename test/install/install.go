package install

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/sallyport-dev/sallyport/test/controlplane"
)

// Namespace is Sallyport's own, and controller the controller's service account
// there, as config/ has them.
const (
	Namespace  = "sallyport-system"
	controller = "sallyport-controller"
)

// Installation of Sallyport on the hub of a fleet.
type Installation struct {
	Fleet *controlplane.Fleet
	// Hub is an administrator's client.
	Hub client.WithWatch
	// Root of the repository, absolute.
	Root string
	// Binary is the path of sallyport; see Build.
	Binary string

	webhook int // port of the controller's admission webhook
	gateway int // port of the gateway
}

// Build makes sallyport of the sources below root. What is there and made of the same
// sources is linked again only where Go has to.
func Build(ctx context.Context, root, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", binary, "./cmd/sallyport")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build sallyport: %w\n%s", err, out)
	}
	return nil
}

// Apply what a kustomization makes, whose paths begin with config/, in place of what
// needs a kubelet: see the package. It returns when all was taken.
func (i *Installation) Apply(ctx context.Context, kustomization string) error {
	objects, err := i.objects(kustomization)
	if err != nil {
		return fmt.Errorf("cannot build config/: %w", err)
	}
	if i.webhook, err = freePort(ctx); err != nil {
		return err
	}
	if i.gateway, err = freePort(ctx); err != nil {
		return err
	}
	for _, o := range objects {
		switch o.GetKind() {
		case "Deployment":
			continue
		case "Service":
			o.Object["spec"] = map[string]any{"type": "ExternalName", "externalName": "localhost"}
		case "APIService":
			spec := o.Object["spec"].(map[string]any)
			spec["caBundle"] = base64.StdEncoding.EncodeToString(i.Fleet.Hub.CABundle())
			spec["service"].(map[string]any)["port"] = int64(i.gateway)
		case "ValidatingWebhookConfiguration":
			for _, hook := range o.Object["webhooks"].([]any) {
				if err := unstructured.SetNestedField(hook.(map[string]any), int64(i.webhook), "clientConfig", "service", "port"); err != nil {
					return err
				}
			}
		}
		// A kind is served a moment after its definition is there.
		err := Until(ctx, time.Minute, func(ctx context.Context) string {
			err := i.Hub.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner("install"))
			if err != nil {
				return err.Error()
			}
			return ""
		})
		if err != nil {
			return fmt.Errorf("cannot apply %s %q: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

// StartController starts the controller and returns when it is healthy.
func (i *Installation) StartController(ctx context.Context, args ...string) error {
	kubeconfig, err := i.kubeconfig(ctx, Namespace, controller)
	if err != nil {
		return err
	}
	return i.Fleet.StartProgram(ctx, controller, i.Binary, "http", func(port int) []string {
		return append([]string{
			"controller", "--leader-elect",
			"--kubeconfig=" + kubeconfig, "--namespace=" + Namespace, "--gateway-namespace=" + GatewayNamespace,
			fmt.Sprintf("--webhook-addr=localhost:%d", i.webhook),
			"--metrics-addr=0", fmt.Sprintf("--health-addr=127.0.0.1:%d", port),
		}, args...)
	})
}

// kubeconfig of a service account of the hub.
func (i *Installation) kubeconfig(ctx context.Context, namespace, account string) (string, error) {
	config, err := i.Fleet.Hub.ServiceAccount(ctx, namespace, account)
	if err != nil {
		return "", err
	}
	path := filepath.Join(i.Fleet.Dir(), "kubeconfigs", account+".kubeconfig")
	return path, i.Fleet.Hub.WriteKubeconfig(path, config, "")
}

// objects that "kubectl apply -k" would apply, what others need first.
func (i *Installation) objects(kustomization string) ([]*unstructured.Unstructured, error) {
	// Kustomize reaches bases by relative paths, and nothing above the repository.
	dir, err := os.MkdirTemp(i.Root, ".install-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what stays is ignored by Git
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(kustomization), 0o644); err != nil {
		return nil, err
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for _, r := range built.Resources() {
		object, err := r.Map()
		if err != nil {
			return nil, err
		}
		objects = append(objects, &unstructured.Unstructured{Object: object})
	}
	first := map[string]int{"Namespace": -2, "CustomResourceDefinition": -1}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int {
		return cmp.Compare(first[a.GetKind()], first[b.GetKind()])
	})
	return objects, nil
}

// freePort is one that nobody listens on now.
func freePort(ctx context.Context) (int, error) {
	var loopback net.ListenConfig
	l, err := loopback.Listen(ctx, "tcp", "localhost:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
