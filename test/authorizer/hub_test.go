package authorizer

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/authz"
	"github.com/sallyport-dev/sallyport/test/install"
)

const overlay = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../config/authorizer]
`

// way asks the hub, as alice, for the way to a member. There is nothing at its end here,
// so that whoever is let through finds nothing.
func (w *world) way(method, cluster string) error {
	w.Helper()
	config, err := w.fleet.Hub.User("alice", "devs")
	w.must(err)
	c, err := kubernetes.NewForConfig(config)
	w.must(err)
	return c.CoreV1().RESTClient().Verb(method).AbsPath("/apis/proxy.sallyport.dev/v1alpha1/clusters/" + cluster + "/proxy/api").Do(w.Context()).Error()
}

// TestHub: the hub's API server asks an authorizer about itself that reads the same hub,
// with the rights of config/authorizer. Nobody has RBAC on clusters/proxy.
func TestHub(t *testing.T) {
	w := newWorld(t)
	hub := w.fleet.Hub
	root, err := filepath.Abs("../..")
	w.must(err)
	scheme := w.hub.Scheme()
	watching, err := client.NewWithWatch(hub.AdminConfig(), client.Options{Scheme: scheme})
	w.must(err)
	w.must((&install.Installation{Fleet: w.fleet, Hub: watching, Root: root}).Apply(t.Context(), overlay))
	account, err := hub.ServiceAccount(t.Context(), "sallyport-authorizer", "sallyport-authorizer")
	w.must(err)
	w.must(w.hub.Create(t.Context(), w.grant()))

	o := authz.NewConfigOptions()
	o.Server, o.Node = "https://"+w.addr, false
	o.CAFile, o.CertFile, o.KeyFile, o.KubeconfigFile = w.file("ca.crt"), w.file("client.crt"), w.file("client.key"), w.file("hub-kubeconfig.yaml")
	authorization, kubeconfig, err := authz.Config(o)
	w.must(err)
	w.must(os.WriteFile(w.file("hub-authorization.yaml"), authorization, 0o600))
	w.must(os.WriteFile(o.KubeconfigFile, kubeconfig, 0o600))
	w.must(hub.Stop())
	hub.SetFlags("--authorization-config=" + w.file("hub-authorization.yaml"))
	w.must(hub.Start(t.Context())) // its own controllers and its health need no answer

	t.Run("S16Down", func(t *testing.T) {
		if err := w.way("GET", "prod"); !failsClosed(err) {
			t.Errorf("with nobody there: %v", err)
		}
		nobody, err := rest.HTTPClientFor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: hub.CABundle()}})
		w.must(err)
		defer nobody.CloseIdleConnections()
		resp, err := nobody.Get(hub.URL() + "/readyz")
		w.must(err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("whoever looks at the API server's health is told %s", resp.Status)
		}
		// kube-apiserver lets system:masters through before it asks anybody.
		var grants v1alpha1.AccessGrantList
		w.must(w.hub.List(t.Context(), &grants))
	})
	// It comes up though the hub refuses what it cannot ask about.
	w.authorize(func(o *authz.Options) { o.Hub, o.AllowFromGrants = account, true })
	t.Run("Way", func(t *testing.T) {
		w.eventually("a grant opens the way", func() string {
			if err := w.way("GET", "prod"); !apierrors.IsNotFound(err) {
				return fmt.Sprint(err)
			}
			return ""
		})
		for name, ask := range map[string][2]string{"Verb": {"POST", "prod"}, "Cluster": {"GET", "dev"}, "All": {"GET", "*"}} {
			if err := w.way(ask[0], ask[1]); !apierrors.IsForbidden(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("S14Revoked", func(t *testing.T) {
		var live v1alpha1.AccessGrant
		w.must(w.hub.Get(t.Context(), client.ObjectKeyFromObject(w.grant()), &live))
		w.must(w.hub.Delete(t.Context(), &live))
		w.eventually("a grant that is gone opens nothing", func() string {
			if err := w.way("GET", "prod"); !apierrors.IsForbidden(err) {
				return fmt.Sprint(err)
			}
			return ""
		})
	})
	t.Run("Fleet", func(t *testing.T) {
		// As a member of its own fleet the hub has guardrails.
		w.must(w.fleet.CreateManagedCluster(t.Context(), "hub", map[string]string{"env": "hub"}))
		w.must(w.hub.Create(t.Context(), rail("no-way", "input.request.cluster.labels.env != 'hub' || input.request.subresource != 'proxy'", "the hub is closed")))
		w.authorize(func(o *authz.Options) { o.Hub, o.AllowFromGrants, o.HubCluster = account, true, "hub" })
		w.eventually("a guardrail holds on the hub", func() string {
			if err := w.way("GET", "prod"); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "the hub is closed") {
				return fmt.Sprint(err)
			}
			return ""
		})
	})
	w.stop()
	w.eventually("without it the hub refuses", func() string {
		if err := w.way("GET", "prod"); !failsClosed(err) {
			return fmt.Sprint(err)
		}
		return ""
	})
}
