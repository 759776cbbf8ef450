package install

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// GatewayNamespace and gateway are the gateway's, as config/gateway has them.
const (
	GatewayNamespace = "sallyport-gateway"
	gateway          = "sallyport-gateway"
)

var apiService = schema.GroupVersionKind{Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService"}

// StartGateway starts the gateway and returns when the hub's API server reaches members
// by it. What was applied is to have config/gateway.
func (i *Installation) StartGateway(ctx context.Context, args ...string) error {
	if err := i.startGateway(ctx, args...); err != nil {
		return err
	}
	return Until(ctx, 2*time.Minute, i.gatewayMissing)
}

func (i *Installation) startGateway(ctx context.Context, args ...string) error {
	kubeconfig, err := i.kubeconfig(ctx, GatewayNamespace, gateway)
	if err != nil {
		return err
	}
	cert, key, err := i.Fleet.Hub.ServingCertificate(gateway + "." + GatewayNamespace + ".svc")
	if err != nil {
		return err
	}
	base := filepath.Join(i.Fleet.Dir(), "pki", gateway)
	for suffix, content := range map[string][]byte{".crt": cert, ".key": key} {
		if err := os.WriteFile(base+suffix, content, 0o600); err != nil {
			return err
		}
	}
	return i.Fleet.StartProgram(ctx, gateway, i.Binary, "http", func(port int) []string {
		return append([]string{
			"gateway", "--kubeconfig=" + kubeconfig, "--namespace=" + GatewayNamespace, "--sallyport-namespace=" + Namespace,
			fmt.Sprintf("--addr=localhost:%d", i.gateway), fmt.Sprintf("--health-addr=127.0.0.1:%d", port), "--metrics-addr=0",
			"--tls-cert-file=" + base + ".crt", "--tls-private-key-file=" + base + ".key", "--shutdown-delay=0s",
		}, args...)
	})
}

// gatewayMissing says what keeps the hub from reaching the gateway, or "".
func (i *Installation) gatewayMissing(ctx context.Context) string {
	api := &unstructured.Unstructured{}
	api.SetGroupVersionKind(apiService)
	if err := i.Hub.Get(ctx, client.ObjectKey{Name: "v1alpha1.proxy.sallyport.dev"}, api); err != nil {
		return err.Error()
	}
	conditions, _, _ := unstructured.NestedSlice(api.Object, "status", "conditions")
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == "Available" {
			if c["status"] == string(metav1.ConditionTrue) {
				return ""
			}
			return fmt.Sprint("the gateway is not available: ", c["message"])
		}
	}
	return "nobody has looked for the gateway yet"
}

// Way is the path below which a member's own API is.
func Way(member string) string {
	return "/apis/proxy.sallyport.dev/v1alpha1/clusters/" + member + "/proxy"
}

// Through is what a person uses to reach a member through the hub.
func Through(person *rest.Config, member string) *rest.Config {
	config := rest.CopyConfig(person)
	config.Host += Way(member)
	return config
}

// Directly is what a person uses to reach a member by the gateway itself, with the
// credential that they have for the hub.
func (i *Installation) Directly(person *rest.Config, member string) *rest.Config {
	config := rest.CopyConfig(person)
	config.Host = fmt.Sprintf("https://localhost:%d%s", i.gateway, Way(member))
	return config
}
