package rbac

import (
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/filters/impersonation"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/rules"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// The members to which an impersonator comes: by Karmada's proxy, and by the gateway.
var karmada, through = members[1], members[3]

var requestInfo = &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}

// impersonatorInfo is the service account as which both come to a member.
var impersonatorInfo = &user.DefaultInfo{
	Name:   "system:serviceaccount:" + impersonator.Namespace + ":" + impersonator.Name,
	Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + impersonator.Namespace, user.AllAuthenticated},
}

// seen is what a member's API server saw of a request, after impersonation.
type seen struct {
	who     user.Info
	allowed bool
}

// server is a member's API server from authentication to authorization: the real
// impersonation filter and the real RBAC authorizer.
func server(t *testing.T, a authorizer.Authorizer, last **seen) http.Handler {
	t.Helper()
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	after := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		attributes, err := filters.GetAuthorizerAttributes(r.Context())
		if err != nil {
			t.Errorf("cannot read %s: %v", r.URL, err)
			return
		}
		decision, _, _ := a.Authorize(r.Context(), attributes)
		*last = &seen{who: attributes.GetUser(), allowed: decision == authorizer.DecisionAllow}
	})
	filter := impersonation.WithConstrainedImpersonation(after, a, serializer.NewCodecFactory(scheme))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := request.WithUser(r.Context(), impersonatorInfo)
		filter.ServeHTTP(w, r.WithContext(request.WithRequestInfo(ctx, infoOf(t, r))))
	})
}

func infoOf(t *testing.T, r *http.Request) *request.RequestInfo {
	t.Helper()
	info, err := requestInfo.NewRequestInfo(r)
	if err != nil {
		t.Fatalf("cannot read %s %s: %v", r.Method, r.URL, err)
	}
	return info
}

// asImpersonator is the request with what Karmada's proxy adds to it: the user, and
// every group but the two that each member adds by itself.
func asImpersonator(method, url string, i identity) *http.Request {
	r := httptest.NewRequest(method, url, nil)
	r.Header.Set(authenticationv1.ImpersonateUserHeader, i.name)
	for _, g := range i.groups {
		r.Header.Add(authenticationv1.ImpersonateGroupHeader, g)
	}
	return r
}

// credential is what the gateway adds to that: the UID, and in extra what Kubernetes
// itself says of a credential.
func credential(r *http.Request) {
	r.Header.Set(authenticationv1.ImpersonateUIDHeader, "06f6ce97-e2c5-4ab8-7ba5-7654dd08d52b")
	for _, key := range rules.ExtraKeys() {
		r.Header.Add(authenticationv1.ImpersonateUserExtraHeaderPrefix+url.PathEscape(key), "of "+key)
	}
}

var httpRequests = [][2]string{
	{"GET", "/api/v1/namespaces/a/pods"}, {"GET", "/api/v1/namespaces/a/pods/web"}, {"GET", "/api/v1/namespaces/b/pods/web"}, {"GET", "/api/v1/pods"},
	{"GET", "/api/v1/namespaces/a/pods?watch=true"}, {"POST", "/api/v1/namespaces/a/pods"}, {"DELETE", "/api/v1/namespaces/b/pods/db"},
	{"POST", "/api/v1/namespaces/a/pods/web/exec"}, {"GET", "/api/v1/namespaces/a/pods/web/exec"}, {"PATCH", "/api/v1/namespaces/a/pods/web"},
	{"DELETE", "/api/v1/namespaces/a/secrets"}, {"DELETE", "/api/v1/namespaces/a/secrets/db"}, {"DELETE", "/api/v1/namespaces/b/secrets"},
	{"GET", "/apis/apps/v1/namespaces/a/deployments"}, {"POST", "/apis/apps/v1/namespaces/b/deployments"}, {"GET", "/apis/apps.example.org/v1/namespaces/a/deployments"},
	{"GET", "/metrics"}, {"GET", "/metrics/x"}, {"POST", "/metrics"}, {"HEAD", "/metrics"}, {"GET", "/metricsx"},
	{"GET", "/version"}, {"GET", "/api"}, {"GET", "/apis/apps"}, {"GET", "/openapi/v3"}, {"POST", "/version"},
	{"POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"}, {"POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews"},
	{"POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews"}, {"POST", "/apis/authentication.k8s.io/v1/tokenreviews"},
}

// everyone is what every authenticated identity may do on a Kubernetes cluster.
func everyone(r authorizer.AttributesRecord) bool {
	if r.ResourceRequest {
		self := r.APIGroup == "authorization.k8s.io" && (r.Resource == "selfsubjectaccessreviews" || r.Resource == "selfsubjectrulesreviews") ||
			r.APIGroup == "authentication.k8s.io" && r.Resource == "selfsubjectreviews"
		return self && r.Verb == "create"
	}
	exact := []string{"/api", "/apis", "/healthz", "/livez", "/openapi", "/readyz", "/version", "/version/"}
	under := func(p string) bool { return strings.HasPrefix(r.Path, p) }
	return r.Verb == "get" && (slices.Contains(exact, r.Path) || slices.ContainsFunc([]string{"/api/", "/apis/", "/openapi/"}, under))
}

// rights of an impersonator, as the grants on its member say.
type rights struct {
	users, groups   sets.Set[string]
	serviceAccounts sets.Set[types.NamespacedName]
	// members are the groups whose members are let in without being named.
	members sets.Set[string]
	gives   []give
}

func rightsFrom(gives []give) rights {
	r := rights{sets.New[string](), sets.New[string](), sets.New[types.NamespacedName](), sets.New[string](), gives}
	for _, g := range gives {
		for _, s := range g.subjects {
			switch {
			case refused(s):
			case s.Kind == "User":
				r.users.Insert(s.Name)
			case s.Kind == "Group":
				r.groups.Insert(s.Name)
				if !g.ofMember {
					r.members.Insert(s.Name)
				}
			default:
				r.serviceAccounts.Insert(types.NamespacedName{Namespace: s.Namespace, Name: s.Name})
				r.groups.Insert("system:serviceaccounts", "system:serviceaccounts:"+s.Namespace)
			}
		}
	}
	return r
}

func refused(s v1alpha1.Subject) bool {
	return s.Name == "system:masters" || s.Name == "system:nodes" || s.Kind == "ServiceAccount" && s.Namespace == "" || s.Kind == "User" && strings.HasPrefix(s.Name, "system:serviceaccount:")
}

// named: somebody whom the grants name, in groups that the grants name. What they
// may do is up to the member.
func (r *rights) named(i identity) bool {
	known := r.users.Has(i.name)
	if ns, name, ok := splitServiceAccount(i.name); ok {
		known = r.serviceAccounts.Has(types.NamespacedName{Namespace: ns, Name: name})
	}
	return known && r.groups.HasAll(i.groups...)
}

// member: anybody whom the hub says to be in groups that the grants name, for what
// some group may do.
func (r *rights) member(i identity, what authorizer.AttributesRecord) bool {
	if _, _, ok := splitServiceAccount(i.name); ok || strings.HasPrefix(i.name, "system:node:") {
		return false
	}
	if r.members.Len() == 0 || !r.members.HasAll(i.groups...) {
		return false
	}
	return everyone(what) || slices.ContainsFunc(r.gives, func(g give) bool {
		return !g.ofMember && g.allows(what) && slices.ContainsFunc(g.subjects, func(s v1alpha1.Subject) bool { return s.Kind == "Group" && !refused(s) })
	})
}

func splitServiceAccount(name string) (namespace, account string, ok bool) {
	rest, ok := strings.CutPrefix(name, "system:serviceaccount:")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ":")
}

// strangers are those whom no grant should ever let in, beside those who are in the
// vocabulary.
var strangers = []identity{
	{name: "root", groups: []string{"system:masters"}},
	{name: "alice", groups: []string{"devs", "system:masters"}},
	{name: "alice", groups: []string{"system:nodes"}},
	{name: "alice", groups: []string{""}},
	{name: "system:node:n1", groups: []string{"system:nodes"}},
	{name: "system:node:n1"},
	{name: "system:kube-controller-manager", groups: []string{"devs"}},
	{name: "system:serviceaccount:a:bot"},
	{name: "system:serviceaccount:a:bot", groups: []string{"devs"}},
	{name: "cluster:hub:system:serviceaccount:a:bot", groups: []string{"system:serviceaccounts", "system:serviceaccounts:a"}},
	{name: impersonatorInfo.Name, groups: []string{"system:serviceaccounts"}},
}

// TestS7ImpersonatorActsForExactlyTheGranted sends requests as Karmada and as the
// gateway do, through Kubernetes' own filter: whom the impersonator may be, and what
// they may then do, is what the grants say.
func TestS7ImpersonatorActsForExactlyTheGranted(t *testing.T) {
	t.Run("Karmada", func(t *testing.T) { testActsForExactlyTheGranted(t, karmada, func(*http.Request) {}) })
	t.Run("Gateway", func(t *testing.T) { testActsForExactlyTheGranted(t, through, credential) })
}

func testActsForExactlyTheGranted(t *testing.T, m fleet.Member, more func(*http.Request)) {
	answers := map[[2]bool]int{}
	for n := range uint64(2 * worlds) {
		w := newWorld(rand.New(rand.NewPCG(n, 3)))
		var held cluster
		held.apply(t, objectsOn(w.compiled(), m.Name))
		var got *seen
		handler := server(t, memberHolds(&held).authorizer(), &got)
		gives := w.gives(m)
		may := rightsFrom(gives)
		for _, i := range append(slices.Clone(identities), strangers...) {
			for _, r := range httpRequests {
				got = nil
				req := asImpersonator(r[0], r[1], i)
				more(req)
				uid := req.Header.Get(authenticationv1.ImpersonateUIDHeader) // the filter takes it out
				what := attributesOf(infoOf(t, req))
				recorder := httptest.NewRecorder()
				handler.ServeHTTP(recorder, req)

				want := may.named(i) || may.member(i, what)
				if (got != nil) != want {
					t.Fatalf("world %d: %s %s as %q %q: let in %t, the grants say %t: %s", n, r[0], r[1], i.name, i.groups, got != nil, want, recorder.Body)
				}
				if got == nil {
					if recorder.Code != http.StatusForbidden {
						t.Fatalf("world %d: %s %s as %q %q: refused with %d", n, r[0], r[1], i.name, i.groups, recorder.Code)
					}
					answers[[2]bool{false, false}]++
					continue
				}
				if got.who.GetUID() != uid || uid != "" && len(got.who.GetExtra()) != len(rules.ExtraKeys()) {
					t.Fatalf("world %d: %q came with the UID %q and the extra %q", n, i.name, got.who.GetUID(), got.who.GetExtra())
				}
				if got.who.GetName() != i.name || slices.Contains(got.who.GetGroups(), "system:masters") {
					t.Fatalf("world %d: %q became %v", n, i.name, got.who)
				}
				if want := allowed(gives, i.withImplied(), what); got.allowed != want {
					t.Fatalf("world %d: %s %s as %q %q: allowed %t, the grants say %t", n, r[0], r[1], i.name, i.groups, got.allowed, want)
				}
				answers[[2]bool{true, got.allowed}]++
			}
		}
	}
	t.Logf("let in and allowed %d, let in and not allowed %d, not let in %d", answers[[2]bool{true, true}], answers[[2]bool{true, false}], answers[[2]bool{false, false}])
	if answers[[2]bool{true, true}] < 500 || answers[[2]bool{true, false}] < 500 {
		t.Error("hardly anything is let in: the worlds show nothing")
	}
}

// withImplied adds what the filter adds to a service account that comes without
// groups.
func (i identity) withImplied() identity {
	if ns, name, ok := splitServiceAccount(i.name); ok {
		if len(i.groups) == 0 {
			return serviceAccount(ns, name)
		}
		i.serviceAccount = types.NamespacedName{Namespace: ns, Name: name}
	}
	return i
}

func attributesOf(i *request.RequestInfo) authorizer.AttributesRecord {
	return authorizer.AttributesRecord{
		Verb: i.Verb, APIGroup: i.APIGroup, APIVersion: i.APIVersion, Resource: i.Resource, Subresource: i.Subresource,
		Namespace: i.Namespace, Name: i.Name, ResourceRequest: i.IsResourceRequest, Path: i.Path,
	}
}

// TestS7ImpersonatorHoldsExactlyTheRights asks about each right by itself, and that
// it holds no other: for itself the impersonator may do nothing at all.
func TestS7ImpersonatorHoldsExactlyTheRights(t *testing.T) {
	grid := requests()
	for n := range uint64(worlds) {
		w := newWorld(rand.New(rand.NewPCG(n, 4)))
		o := w.compiled()
		for _, m := range members {
			var held cluster
			held.apply(t, objectsOn(o, m.Name))
			a := memberHolds(&held).authorizer()
			may := rightsFrom(nil)
			if m.Paths.Impersonates() {
				may = rightsFrom(w.gives(m))
			}
			// UIDs and extra come with somebody named, or with a member of a group.
			exact := m.Paths.Has(subject.Impersonated)
			ofNamed, ofMembers := exact && may.users.Len()+may.serviceAccounts.Len() > 0, exact && may.members.Len() > 0
			check := func(want bool, r authorizer.AttributesRecord) {
				t.Helper()
				if got := allows(t, a, impersonatorInfo, r); got != want {
					t.Fatalf("world %d, member %s: %s: allowed %t, the grants say %t", n, m.Name, asked(r), got, want)
				}
			}
			for _, name := range []string{"alice", "bob", "devs", "ops", "bot", "mallory", "system:masters", "system:nodes", "system:serviceaccounts", "system:serviceaccounts:a", "system:serviceaccounts:b", "system:serviceaccount:a:bot", "*", ""} {
				check(may.users.Has(name), resource("impersonate", "", "users", "", "", name))
				check(may.groups.Has(name), resource("impersonate", "", "groups", "", "", name))
				for _, ns := range []string{"a", "b", "c", ""} {
					check(may.serviceAccounts.Has(types.NamespacedName{Namespace: ns, Name: name}), resource("impersonate", "", "serviceaccounts", "", ns, name))
				}
				const authn = "authentication.k8s.io"
				check(may.members.Len() > 0, resource("impersonate:user-info", authn, "users", "", "", name))
				check(may.members.Has(name), resource("impersonate:user-info", authn, "groups", "", "", name))
				check(ofNamed, resource("impersonate", authn, "uids", "", "", name))
				check(ofMembers, resource("impersonate:user-info", authn, "uids", "", "", name))
				for _, key := range rules.ExtraKeys() {
					check(ofNamed, resource("impersonate", authn, "userextras", key, "", name))
					check(ofMembers, resource("impersonate:user-info", authn, "userextras", key, "", name))
				}
				for _, res := range []string{"uids", "nodes", "serviceaccounts", "userextras"} {
					if res != "uids" {
						check(false, resource("impersonate:user-info", authn, res, "", "", name))
					}
					check(false, resource("impersonate:serviceaccount", authn, res, "", "a", name))
					check(false, resource("impersonate:arbitrary-node", authn, res, "", "", name))
					check(false, resource("impersonate:associated-node", authn, res, "", "", name))
				}
				for _, key := range []string{"", "*", "scopes", "authentication.kubernetes.io", "authentication.kubernetes.io/issued-credential-id"} {
					check(false, resource("impersonate", authn, "userextras", key, "", name))
					check(false, resource("impersonate:user-info", authn, "userextras", key, "", name))
				}
			}
			for _, r := range grid {
				if r.Verb != "impersonate" {
					check(false, r)
				}
				on := r
				on.Verb = "impersonate-on:serviceaccount:" + r.Verb
				check(false, on)
				on.Verb = "impersonate-on:user-info:" + r.Verb
				check(r.Verb != "impersonate" && may.onBehalf(r), on)
			}
		}
	}
}

// onBehalf is whether some group may do it, or everyone.
func (r *rights) onBehalf(what authorizer.AttributesRecord) bool {
	return r.member(identity{name: "somebody"}, what)
}

// TestHubVerbsCarryEveryRequest: whatever the HTTP request to a member is, the
// verb that the hub's API server reads from the request to the proxy is one that
// a grant of the request's own verb opens.
func TestHubVerbsCarryEveryRequest(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		for _, inner := range []string{
			"/api/v1/namespaces/a/pods", "/api/v1/namespaces/a/pods/web", "/api/v1/namespaces/a/pods?watch=true", "/api/v1/pods", "/api/v1/nodes/n1",
			"/api/v1/namespaces/a/pods/web/exec", "/api/v1/namespaces/a/services/web/proxy/x", "/apis/apps/v1/namespaces/a/deployments/web/scale", "/metrics", "/version",
		} {
			inside := infoOf(t, httptest.NewRequest(method, inner, nil))
			outside := infoOf(t, httptest.NewRequest(method, "/apis/proxy.sallyport.dev/v1alpha1/clusters/gateway/proxy"+inner, nil))
			if outside.Name != "gateway" || outside.Subresource != "proxy" || outside.Namespace != "" {
				t.Fatalf("%s %s: the hub reads %+v", method, inner, outside)
			}
			rule := v1alpha1.PolicyRule{Verbs: []string{inside.Verb}, APIGroups: []string{"*"}, Resources: []string{"*"}}
			if !inside.IsResourceRequest {
				rule = v1alpha1.PolicyRule{Verbs: []string{inside.Verb}, NonResourceURLs: []string{"*"}}
			}
			spec := &v1alpha1.AccessGrantSpec{
				Subjects: []v1alpha1.Subject{{Kind: "User", Name: "alice"}}, Clusters: v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"gateway"}},
				Access: []v1alpha1.AccessEntry{{Rules: []v1alpha1.PolicyRule{rule}}},
			}
			o := compiledAlone(spec)
			var hub, member cluster
			hub.apply(t, o.Hub)
			member.apply(t, objectsOn(o, "gateway"))
			alice := identities[1].info()
			if !allows(t, member.authorizer(), alice, attributesOf(inside)) {
				t.Errorf("%s %s: the member refuses what is granted", method, inner)
			}
			if !allows(t, hub.authorizer(), alice, attributesOf(outside)) {
				t.Errorf("%s %s is %s on the member and %s on the hub, which a grant of %s does not open", method, inner, inside.Verb, outside.Verb, inside.Verb)
			}
		}
	}
}
