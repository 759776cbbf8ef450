package proxy

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// infos reads requests as a member's API server does.
var infos = request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}

// methods that are verbs to an API server. Others are refused: what would have to be
// decided about them is not known.
var methods = sets.New(http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete)

// attributesOf a request, as the member would see them.
func attributesOf(t *target, method string, u *guardrail.User) (*effective.Request, error) {
	if !methods.Has(method) {
		return nil, fmt.Errorf("the method %q is not known", method)
	}
	info, err := infos.NewRequestInfo(&http.Request{Method: method, URL: &url.URL{Path: t.path, RawQuery: t.query}})
	if err != nil {
		return nil, fmt.Errorf("the path cannot be read: %w", err)
	}
	return &effective.Request{
		User: *u, Cluster: t.cluster, Verb: info.Verb, ResourceRequest: info.IsResourceRequest,
		APIGroup: info.APIGroup, APIVersion: info.APIVersion, Resource: info.Resource, Subresource: info.Subresource,
		Namespace: info.Namespace, Name: info.Name, Path: t.path,
	}, nil
}

// connecting are subresources by which something is done, also where the method is GET,
// as it is for a WebSocket.
var connecting = sets.New("exec", "attach", "portforward")

// longRunning reports whether a request has no end of its own to be waited for.
func longRunning(q *effective.Request, r *http.Request) bool {
	return q.Verb == "watch" || r.Header.Get("Upgrade") != "" ||
		q.ResourceRequest && (connecting.Has(q.Subresource) || q.Subresource == "log" || q.Subresource == "proxy")
}

// hubVerb is the verb on clusters/proxy by which the hub's API server asks about a
// method. What everybody on a cluster may do is asked about as get, since whoever has
// any grant there may do it, and not only those who may create.
func hubVerb(method string, d *effective.Decision) string {
	if len(d.Because) > 0 && d.Because[0].Role == effective.Discovery {
		return "get"
	}
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch, http.MethodDelete:
		return strings.ToLower(method)
	}
	return "get"
}
