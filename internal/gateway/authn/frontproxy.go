package authn

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
	certutil "k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sallyport-dev/sallyport/internal/gateway/caller"
)

// configMap has what the hub's API server tells to aggregated servers.
const configMap = "extension-apiserver-authentication"

// fromConfigMap are the authorities at a key of the ConfigMap: none before the server
// runs them, and kept as they change then.
func fromConfigMap(purpose, key string, hub kubernetes.Interface) (*dynamiccertificates.ConfigMapCAController, error) {
	return dynamiccertificates.NewDynamicCAFromConfigMapController(purpose, metav1.NamespaceSystem, configMap, key, hub)
}

// frontProxy is the hub's aggregation layer: its authority, the names that its
// certificate may have, and the headers in which it says who somebody is.
type frontProxy struct {
	*dynamiccertificates.ConfigMapCAController
	headers *headerrequest.RequestHeaderAuthRequestController
}

func newFrontProxy(ctx context.Context, hub kubernetes.Interface) (*frontProxy, error) {
	ca, err := fromConfigMap("front-proxy", "requestheader-client-ca-file", hub)
	if err != nil {
		return nil, err
	}
	f := &frontProxy{ca, headerrequest.NewRequestHeaderAuthRequestController(configMap, metav1.NamespaceSystem, hub,
		"requestheader-username-headers", "requestheader-uid-headers", "requestheader-group-headers",
		"requestheader-extra-headers-prefix", "requestheader-allowed-names")}
	if err := f.headers.RunOnce(ctx); err != nil {
		log.FromContext(ctx).Info("Cannot read the headers of the aggregation layer yet", "problem", err.Error())
	}
	return f, nil
}

// RunOnce reads the ConfigMap.
func (f *frontProxy) RunOnce(ctx context.Context) error {
	return errors.Join(f.ConfigMapCAController.RunOnce(ctx), f.headers.RunOnce(ctx))
}

// Run follows the ConfigMap until the context ends.
func (f *frontProxy) Run(ctx context.Context, workers int) {
	var both sync.WaitGroup
	both.Go(func() { f.ConfigMapCAController.Run(ctx, workers) })
	both.Go(func() { f.headers.Run(ctx, workers) })
	both.Wait()
}

func (f *frontProxy) config() *authenticatorfactory.RequestHeaderConfig {
	return &authenticatorfactory.RequestHeaderConfig{
		CAContentProvider:   f,
		UsernameHeaders:     headerrequest.StringSliceProviderFunc(f.headers.UsernameHeaders),
		UIDHeaders:          headerrequest.StringSliceProviderFunc(f.headers.UIDHeaders),
		GroupHeaders:        headerrequest.StringSliceProviderFunc(f.headers.GroupHeaders),
		ExtraHeaderPrefixes: headerrequest.StringSliceProviderFunc(f.headers.ExtraHeaderPrefixes),
		AllowedClientNames:  headerrequest.StringSliceProviderFunc(f.headers.AllowedClientNames),
	}
}

func (f *frontProxy) ready() error {
	if _, ok := f.VerifyOptions(); !ok || len(f.headers.UsernameHeaders()) == 0 {
		return errors.New("the authority of the hub's aggregation layer is not known yet")
	}
	return nil
}

// distinct believes the front proxy only where not everybody with a client certificate
// could pose as it: it has a name of its own, or an authority of its own.
type distinct struct {
	authenticator.Request
	front   *frontProxy
	clients dynamiccertificates.CAContentProvider
}

func (d distinct) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	if len(d.front.headers.AllowedClientNames()) == 0 && overlap(d.front.CurrentCABundleContent(), d.clients.CurrentCABundleContent()) {
		return nil, false, errors.New("the aggregation layer cannot be told from its clients: their authority is the same, and no name is required")
	}
	nameless := namelessGroup(r.Header, d.front.headers.GroupHeaders()) // before they are taken off
	response, ok, err := d.Request.AuthenticateRequest(r)
	if ok && nameless {
		return nil, false, caller.ErrNobody // S6: it would be left out, and the rest believed
	}
	return response, ok, err
}

func namelessGroup(h http.Header, headers []string) bool {
	return slices.ContainsFunc(headers, func(name string) bool {
		return slices.ContainsFunc(h.Values(name), func(group string) bool { return strings.TrimSpace(group) == "" })
	})
}

// overlap is whether two bundles share a certificate, or cannot be compared.
func overlap(a, b []byte) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	as, errA := certutil.ParseCertsPEM(a)
	bs, errB := certutil.ParseCertsPEM(b)
	if errA != nil || errB != nil {
		return true
	}
	for _, x := range as {
		for _, y := range bs {
			if bytes.Equal(x.RawSubjectPublicKeyInfo, y.RawSubjectPublicKeyInfo) {
				return true
			}
		}
	}
	return false
}
