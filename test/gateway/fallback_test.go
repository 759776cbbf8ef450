package gateway_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/test/install"
)

// upgrades that a client can ask for.
var upgrades = map[string][]string{
	"plain":     nil,
	"SPDY":      {"Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v4.channel.k8s.io"},
	"WebSocket": {"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: v5.channel.k8s.io"},
}

// TestS8NoFallback: whoever has no rights is refused on every route, with every verb, by
// every protocol, whatever they claim to be. There is no credential to fall back to.
func TestS8NoFallback(t *testing.T) {
	w := theWorld(t)
	// There is something to get, and somebody who gets it.
	w.create(t, grant("fallback", "gail", []v1alpha1.ClusterName{east, west}, append(onPods(), rule("secrets", "get", "list"))...))
	w.at(t, directly.to(w, w.user(t, "gail"), east)).can("get", "secrets")

	account := func(namespace, name string) *rest.Config {
		config, err := w.fleet.Hub.ServiceAccount(t.Context(), namespace, name)
		if err != nil {
			t.Fatal(err)
		}
		return config
	}
	nobody := rest.CopyConfig(w.user(t, "nobody"))
	nobody.CertData, nobody.KeyData = nil, nil
	forged := rest.CopyConfig(nobody)
	forged.BearerToken = "forged"
	callers := map[string]*rest.Config{
		"WithoutRights":    w.user(t, "mallory", "payments-everybody"),
		"WithoutName":      nobody,
		"WithForgedToken":  forged,
		"OfMasters":        w.fleet.Hub.AdminConfig(),
		"GatewayItself":    account(install.GatewayNamespace, gates),
		"ControllerItself": account(install.Namespace, controls),
	}
	// A caller's own claims to be somebody else.
	claims := map[string][]string{
		"none":        nil,
		"impersonate": {"Impersonate-User: gail", "Impersonate-Group: system:masters"},
		"remote":      {"X-Remote-User: gail", "X-Remote-Group: system:masters"},
		"dropped":     {"Connection: Impersonate-User, Authorization, X-Remote-User"},
	}
	methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
	paths := []string{
		"", "/", "/api", "/apis", "/version", "/healthz", "/metrics", "/openapi/v2", "/logs/", "/debug/pprof/",
		"/api/v1/namespaces/payments/pods", "/api/v1/namespaces/payments/pods?watch=true", "/api/v1/namespaces/payments/secrets/card-keys",
		"/api/v1/namespaces/payments/pods/api-0/log?follow=true", "/api/v1/namespaces/payments/pods/api-0/exec?command=id&stdout=true",
		"/api/v1/namespaces/payments/pods/api-0/attach", "/api/v1/namespaces/payments/pods/api-0/portforward?ports=80",
		"/api/v1/namespaces/payments/pods/api-0/proxy/", "/api/v1/namespaces/payments/services/api/proxy/", "/api/v1/nodes/node-1/proxy/pods",
		"/api/v1/namespaces/sallyport-system/serviceaccounts/sallyport-impersonator/token",
		"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
		"/apis/proxy.sallyport.dev/v1alpha1/clusters/east/proxy/api/v1/pods",
	}
	tricks := []string{
		"/../../../../../../api/v1/namespaces/payments/secrets", "/api/v1/namespaces/payments/pods/..%2f..%2fsecrets", "//api/v1/namespaces/payments/secrets",
		"/api/v1/namespaces/payments/%2e%2e/payments/secrets", "/%61pi/v1/namespaces/payments/secrets", "/api/v1/namespaces/payments/pods/%00",
	}
	for name, caller := range callers {
		t.Run(name, func(t *testing.T) {
			asked := 0
			// What is no request of Kubernetes' may be refused in another way.
			refused := func(c *http.Client, plain bool, method, url string, headers []string) {
				asked++
				a := ask(t.Context(), c, method, url, headers...)
				ok := a.err == nil && (a.code == 401 || a.code == 403)
				if !plain {
					ok = !a.letThrough() && a.err == nil && a.code < 500 || slices.Contains([]int{301, 307, 308}, a.code)
				}
				if !ok {
					t.Errorf("%s %s %q: got %d, %v: %.200s", method, url, headers, a.code, a.err, a.body)
				}
			}
			for _, way := range ways {
				for _, cluster := range []string{east, west, "nowhere"} {
					config := way.to(w, caller, cluster)
					c := clientOf(t, config, "http/1.1")
					for _, path := range paths {
						for _, method := range methods {
							refused(c, true, method, config.Host+path, nil)
						}
						for _, method := range []string{"OPTIONS", "TRACE", "PROPFIND"} {
							refused(c, false, method, config.Host+path, nil)
						}
						for upgrade, headers := range upgrades {
							for claim, more := range claims {
								// The hub lets its administrators be anybody, gail included; the gateway does not.
								anybody := name == "OfMasters" && claim == "impersonate" && way.name == through.name
								if anybody || upgrade != "plain" && claim == "dropped" { // a request has one Connection
									continue
								}
								refused(c, true, "GET", config.Host+path, slices.Concat(headers, more))
							}
						}
					}
					for _, trick := range tricks {
						refused(c, false, "GET", config.Host+trick, nil)
					}
				}
			}
			t.Logf("%d requests were refused", asked)
		})
	}

	t.Run("who reaches nothing sees no cluster", func(t *testing.T) {
		mallory := callers["WithoutRights"]
		for _, way := range ways {
			url := strings.TrimSuffix(way.to(w, mallory, east).Host, "/"+east+"/proxy")
			if a := ask(t.Context(), clientOf(t, mallory), "GET", url); a.code != 200 || strings.Contains(a.body, east) || strings.Contains(a.body, west) {
				t.Errorf("%s: got %d: %s", way.name, a.code, a.body)
			}
		}
	})
}

// TestS9TokensOpenOneMember: what the gateway has for one member opens no other, not the
// hub and not the gateway, and does nothing by itself.
func TestS9TokensOpenOneMember(t *testing.T) {
	w := theWorld(t)
	w.create(t, grant("tokens", "hank", []v1alpha1.ClusterName{east, west}, onPods()...))
	w.at(t, directly.to(w, w.user(t, "hank"), east)).can("get", "pods")
	w.at(t, directly.to(w, w.user(t, "hank"), west)).can("get", "pods")

	tokens := map[string]string{}
	for _, member := range []string{east, west} {
		var route corev1.Secret
		if err := w.hub.Get(t.Context(), client.ObjectKey{Namespace: install.GatewayNamespace, Name: v1alpha1.RouteNamePrefix + member}, &route); err != nil {
			t.Fatal(err)
		}
		tokens[member] = string(route.Data["token"])
	}
	const pods = "/api/v1/namespaces/payments/pods"
	as := []string{"Impersonate-User: hank"}
	cases := map[string]struct {
		reason  string
		of      string
		to      func(*rest.Config) *rest.Config
		url     string
		headers []string
		want    int
	}{
		"Own":      {reason: "It works where it is for: what follows fails for want of nothing else.", of: east, url: w.fleet.Member(east).URL() + pods, headers: as, want: 200},
		"Other":    {reason: "Another member does not know it.", of: east, url: w.fleet.Member(west).URL() + pods, headers: as, want: 401},
		"OtherWay": {reason: "Nor the other way.", of: west, url: w.fleet.Member(east).URL() + pods, headers: as, want: 401},
		"Itself":   {reason: "It does nothing by itself.", of: east, url: w.fleet.Member(east).URL() + pods, want: 403},
		"Masters":  {reason: "It is nobody whom no grant names.", of: east, url: w.fleet.Member(east).URL() + pods, headers: []string{"Impersonate-User: hank", "Impersonate-Group: system:masters"}, want: 403},
		"Stranger": {reason: "Nor anybody else.", of: east, url: w.fleet.Member(east).URL() + pods, headers: []string{"Impersonate-User: admin"}, want: 403},
		"Hub":      {reason: "The hub does not know it.", of: east, url: w.fleet.Hub.URL() + "/api/v1/namespaces/payments/configmaps", headers: as, want: 401},
		"Gateway":  {reason: "Nor the gateway.", of: east, url: directly.to(w, w.fleet.Hub.AdminConfig(), east).Host + pods, headers: as, want: 401},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			config := &rest.Config{Host: tc.url, BearerToken: tokens[tc.of], TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
			if a := ask(t.Context(), clientOf(t, config), "GET", tc.url, tc.headers...); a.err != nil || a.code != tc.want {
				t.Errorf("%s\ngot %d, %v: %s", tc.reason, a.code, a.err, a.body)
			}
		})
	}

	// With that token, every kind of object there is on the other member.
	t.Run("every object of another member", func(t *testing.T) {
		base := w.fleet.Member(west).URL()
		c := clientOf(t, &rest.Config{Host: base, BearerToken: tokens[east], TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
		paths := everyList(t, w.fleet.Member(west).AdminConfig())
		for _, path := range paths {
			for _, method := range []string{"GET", "POST", "DELETE"} {
				if a := ask(t.Context(), c, method, base+path); a.code != 401 {
					t.Errorf("%s %s: got %d, %v", method, path, a.code, a.err)
				}
			}
		}
		t.Logf("%d kinds of object", len(paths))
	})
}

// everyList is a path for each kind of object that an API server has.
func everyList(t *testing.T, admin *rest.Config) []string {
	t.Helper()
	c, err := discovery.NewDiscoveryClientForConfig(admin)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := c.ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, list := range lists {
		base := "/apis/" + list.GroupVersion
		if list.GroupVersion == "v1" {
			base = "/api/v1"
		}
		for i := range list.APIResources {
			out = append(out, base+"/"+list.APIResources[i].Name)
		}
	}
	if len(out) == 0 {
		t.Fatal("the member has no kinds of object")
	}
	return out
}
