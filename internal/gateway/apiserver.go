package gateway

import (
	"fmt"
	"net"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	endpointmetrics "k8s.io/apiserver/pkg/endpoints/metrics"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/apiserver/pkg/util/compatibility"
	restclient "k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/sallyport-dev/sallyport/api/proxy/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/gateway/authn"
	"github.com/sallyport-dev/sallyport/internal/gateway/clusters"
	"github.com/sallyport-dev/sallyport/internal/telemetry"
)

// apiConfig is what an API server is made of.
type apiConfig struct {
	listener       net.Listener
	certificate    dynamiccertificates.CertKeyContentProvider
	authentication *authn.Authentication
	authorizer     authorizer.Authorizer
	access         clusters.Access
	routes         clusters.Routes
	// members answers what is asked of members.
	members        http.Handler
	traces         *telemetry.Traces
	requestTimeout time.Duration
	shutdownDelay  time.Duration
	maxInFlight    int
	ready          []healthz.HealthChecker
}

// newAPIServer serves proxy.sallyport.dev. It starts nothing.
func newAPIServer(o apiConfig) (*genericapiserver.GenericAPIServer, *clusters.Storage, error) {
	scheme, codecs, err := newScheme()
	if err != nil {
		return nil, nil, err
	}
	c := genericapiserver.NewConfig(codecs)
	c.EffectiveVersion = compatibility.DefaultBuildEffectiveVersion()
	c.SecureServing = &genericapiserver.SecureServingInfo{Listener: o.listener, Cert: o.certificate, ClientCA: o.authentication.ClientCA}
	c.Authentication = genericapiserver.AuthenticationInfo{
		Authenticator: o.authentication.Request, APIAudiences: o.authentication.Audiences, RequestHeaderConfig: o.authentication.Headers,
	}
	c.Authorization.Authorizer = o.authorizer
	// Nothing loops back: there is no token by which this process would be somebody.
	c.LoopbackClientConfig = &restclient.Config{}
	c.ExternalAddress = o.listener.Addr().String()
	c.EnableProfiling, c.EnableIndex = false, false
	c.EnableMetrics = false // they have an address of their own
	endpointmetrics.Register()
	c.RequestTimeout, c.ShutdownDelayDuration = o.requestTimeout, o.shutdownDelay
	c.MaxRequestsInFlight, c.MaxMutatingRequestsInFlight = o.maxInFlight, o.maxInFlight
	c.ReadyzChecks = append(c.ReadyzChecks, o.ready...)
	c.ReadyzChecks = append(c.ReadyzChecks, healthz.NamedCheck("authentication", o.authentication.Ready))
	namer := openapinamer.NewDefinitionNamer(scheme)
	c.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions, namer)
	c.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(definitions, namer)
	c.OpenAPIConfig.Info.Title, c.OpenAPIV3Config.Info.Title = "Sallyport", "Sallyport"
	c.BuildHandlerChainFunc = chain{members: o.members, traces: o.traces}.build

	server, err := c.Complete(nil).New("sallyport-gateway", genericapiserver.NewEmptyDelegate())
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make the API server: %w", err)
	}
	group := genericapiserver.NewDefaultAPIGroupInfo(v1alpha1.GroupVersion.Group, scheme, metav1.ParameterCodec, codecs)
	storage := clusters.New(o.access, o.routes, clock.RealClock{})
	group.VersionedResourcesStorageMap[v1alpha1.GroupVersion.Version] = map[string]rest.Storage{
		v1alpha1.Clusters.Resource:            storage,
		v1alpha1.Clusters.Resource + "/proxy": clusters.Proxy{},
	}
	if err := server.InstallAPIGroup(&group); err != nil {
		storage.Destroy()
		return nil, nil, fmt.Errorf("cannot serve %s: %w", v1alpha1.GroupVersion, err)
	}
	return server, storage, nil
}
