package gateway

import (
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericapifilters "k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericfilters "k8s.io/apiserver/pkg/server/filters"

	"github.com/sallyport-dev/sallyport/internal/gateway/proxy"
	"github.com/sallyport-dev/sallyport/internal/telemetry"
)

// prefix of all that is asked of members, and of clusters themselves.
const prefix = proxy.Prefix

// toMember reports whether a path is one of clusters/NAME/proxy. It looks at the path as
// it is decoded, so that one that is written in some other way comes to the proxy, too,
// which refuses it.
func toMember(path string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	if !ok {
		return false
	}
	_, rest, _ = strings.Cut(rest, "/")
	return rest == "proxy" || strings.HasPrefix(rest, "proxy/")
}

// chain is what a request goes through. It is genericapiserver.DefaultBuildHandlerChain
// with a way to members right behind authentication: what comes after is made for short
// requests to this server itself. Impersonation and audit are left out: the hub has both.
type chain struct {
	members http.Handler
	traces  *telemetry.Traces
}

func (c chain) build(api http.Handler, config *genericapiserver.Config) http.Handler {
	own := c.own(api, config)
	handler := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if toMember(r.URL.Path) {
			c.members.ServeHTTP(w, r)
			return
		}
		own.ServeHTTP(w, r)
	}))
	// Behind authentication: who is not let in fills no traces.
	handler = c.traces.Handler(handler, spanName)
	handler = genericapifilters.WithAuthentication(handler, config.Authentication.Authenticator,
		genericapifilters.Unauthorized(config.Serializer), config.Authentication.APIAudiences, config.Authentication.RequestHeaderConfig)
	handler = genericapifilters.WithRequestInfo(handler, config.RequestInfoResolver)
	handler = genericapifilters.WithRequestReceivedTimestamp(handler)
	handler = genericfilters.WithPanicRecovery(handler, config.RequestInfoResolver)
	return genericapifilters.WithAuditInit(handler)
}

// own requests are for this server: clusters, discovery, health.
func (c chain) own(api http.Handler, config *genericapiserver.Config) http.Handler {
	handler := genericapifilters.WithAuthorization(api, config.Authorization.Authorizer, config.Serializer)
	handler = withoutImpersonation(handler, config.Serializer)
	handler = genericfilters.WithMaxInFlightLimit(handler, config.MaxRequestsInFlight, config.MaxMutatingRequestsInFlight, config.LongRunningFunc)
	handler = genericapifilters.WithWarningRecorder(handler)
	handler = genericfilters.WithTimeoutForNonLongRunningRequests(handler, config.LongRunningFunc)
	handler = genericapifilters.WithRequestDeadline(handler, nil, nil, config.LongRunningFunc, config.Serializer, config.RequestTimeout)
	handler = genericfilters.WithWaitGroup(handler, config.LongRunningFunc, config.NonLongRunningRequestWaitGroup)
	return genericapifilters.WithCacheControl(handler)
}

// withoutImpersonation refuses who asks to be somebody else: that is the hub's to allow,
// and who comes through the hub has been made that person already.
func withoutImpersonation(next http.Handler, s runtime.NegotiatedSerializer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.HasPrefix(name, "Impersonate-") {
				responsewriters.ErrorNegotiated(apierrors.NewBadRequest("the gateway itself impersonates nobody for a client: ask through the hub"),
					s, schema.GroupVersion{Version: "v1"}, w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// spanName has no names of objects in it.
func spanName(r *http.Request) string {
	if toMember(r.URL.Path) {
		return r.Method + " clusters/proxy"
	}
	if info, ok := request.RequestInfoFrom(r.Context()); ok && info.IsResourceRequest {
		return info.Verb + " " + info.Resource
	}
	return r.Method
}
