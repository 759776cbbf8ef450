package authz

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	authorizationv1 "k8s.io/api/authorization/v1"
	authorizationv1beta1 "k8s.io/api/authorization/v1beta1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	testclock "k8s.io/utils/clock/testing"
	kjson "sigs.k8s.io/json"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

const header = `"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview"`

func TestDecode(t *testing.T) {
	pods := effective.Request{User: guardrail.User{Name: "alice"}, ResourceRequest: true, Verb: "get", APIVersion: "v1", Resource: "pods", Path: "/api/v1/pods"}
	with := func(change func(q *effective.Request)) *effective.Request {
		q := pods
		change(&q)
		return &q
	}
	tests := map[string]struct {
		reason string
		body   string
		want   *effective.Request // nil for an error
	}{
		"Plain":   {"A review.", `{` + header + `,"spec":{"user":"alice","resourceAttributes":{"verb":"get","version":"v1","resource":"pods"}}}`, &pods},
		"Order":   {"Fields have no order.", `{"spec":{"resourceAttributes":{"resource":"pods","version":"v1","verb":"get"},"user":"alice"},` + header + `}`, &pods},
		"Spaces":  {"Nor is space a matter.", " {\n" + header + "\t, \"spec\" : { \"user\":\"alice\" ,\r\"resourceAttributes\":{\"verb\":\"get\",\"version\":\"v1\",\"resource\":\"pods\"} } } \n", &pods},
		"Unknown": {"A newer API server may say more.", `{` + header + `,"metadata":{"creationTimestamp":null,"x":[1,-2.5e3,true,{"y":[]}]},"spec":{"new":{"a":"b"},"user":"alice","resourceAttributes":{"verb":"get","version":"v1","resource":"pods","fieldSelector":{"requirements":[{"key":"spec.nodeName"}]}}},"status":{"allowed":true}}`, &pods},
		"Null":    {"What is null is not there.", `{` + header + `,"spec":{"user":"alice","groups":null,"extra":null,"nonResourceAttributes":null,"resourceAttributes":{"verb":"get","version":"v1","resource":"pods","name":null}}}`, &pods},
		"Everything": {"All that decides is read.", `{` + header + `,"spec":{"user":"alice","uid":"u","groups":["a","b"],"extra":{"k":["v","w"]},"resourceAttributes":{"verb":"get","version":"v1","group":"apps","resource":"deployments","subresource":"scale","name":"web","namespace":"x"}}}`, with(func(q *effective.Request) {
			q.User = guardrail.User{Name: "alice", UID: "u", Groups: []string{"a", "b"}, Extra: map[string][]string{"k": {"v", "w"}}}
			q.APIGroup, q.Resource, q.Subresource, q.Name, q.Namespace = "apps", "deployments", "scale", "web", "x"
			q.Path = "/apis/apps/v1/namespaces/x/deployments/web/scale"
		})},
		"Escapes":        {"Text may be escaped.", `{` + header + `,"spec":{"user":"al\u0069ce","groups":["a\"\\b\ud83d\ude00"],"resourceAttributes":{"verb":"get","version":"v1","resource":"pods"}}}`, with(func(q *effective.Request) { q.User.Groups = []string{"a\"\\b😀"} })},
		"EscapedName":    {"Names of fields, too.", `{` + header + `,"spec":{"us\u0065r":"alice","resourceAttributes":{"verb":"get","version":"v1","resource":"pods"}}}`, &pods},
		"NoGroupsBefore": {"group is of v1beta1.", `{` + header + `,"spec":{"user":"alice","group":["devs"],"resourceAttributes":{"verb":"get","version":"v1","resource":"pods"}}}`, &pods},
		"NoGroupsAfter":  {"groups is of v1.", `{"apiVersion":"authorization.k8s.io/v1beta1","kind":"SubjectAccessReview","spec":{"user":"alice","groups":["devs"],"resourceAttributes":{"verb":"get","version":"v1","resource":"pods"}}}`, &pods},
		"Path":           {"A path is one.", `{` + header + `,"spec":{"user":"alice","nonResourceAttributes":{"path":"/healthz","verb":"get"}}}`, &effective.Request{User: guardrail.User{Name: "alice"}, Verb: "get", Path: "/healthz"}},
		"Case":           {"USER is not user, and nobody is who is asked about.", `{` + header + `,"spec":{"USER":"alice","resourceAttributes":{"verb":"get","version":"v1","resource":"pods"}}}`, with(func(q *effective.Request) { q.User.Name = "" })},

		"Neither":     {"It asks nothing.", `{` + header + `,"spec":{"user":"alice"}}`, nil},
		"NoSpec":      {"Nor does this.", `{` + header + `}`, nil},
		"Both":        {"It asks two things.", `{` + header + `,"spec":{"user":"alice","resourceAttributes":{},"nonResourceAttributes":{}}}`, nil},
		"UserTwice":   {"Who is it?", `{` + header + `,"spec":{"user":"alice","user":"bob","resourceAttributes":{}}}`, nil},
		"SpecTwice":   {"Which?", `{` + header + `,"spec":{"user":"alice","resourceAttributes":{}},"spec":{}}`, nil},
		"AskTwice":    {"Which?", `{` + header + `,"spec":{"resourceAttributes":{},"resourceAttributes":{}}}`, nil},
		"PathTwice":   {"Which?", `{` + header + `,"spec":{"nonResourceAttributes":{},"nonResourceAttributes":null}}`, nil},
		"ExtraTwice":  {"Which?", `{` + header + `,"spec":{"extra":{"a":[],"a":[]},"resourceAttributes":{}}}`, nil},
		"KindTwice":   {"Which?", `{` + header + `,"kind":"SubjectAccessReview","spec":{"resourceAttributes":{}}}`, nil},
		"Trailing":    {"There is more.", `{` + header + `,"spec":{"resourceAttributes":{}}}{}`, nil},
		"Truncated":   {"There is less.", `{` + header + `,"spec":{"resourceAttributes":{}}`, nil},
		"Comma":       {"JSON has none there.", `{` + header + `,"spec":{"resourceAttributes":{},}}`, nil},
		"Array":       {"No object.", `[]`, nil},
		"NullBody":    {"Nothing.", `null`, nil},
		"Number":      {"A user is text.", `{` + header + `,"spec":{"user":1,"resourceAttributes":{}}}`, nil},
		"Group":       {"So are groups.", `{` + header + `,"spec":{"groups":[null],"resourceAttributes":{}}}`, nil},
		"UTF8":        {"Text is valid.", `{` + header + `,"spec":{"user":"a` + "\xff" + `","resourceAttributes":{}}}`, nil},
		"Control":     {"Text has no raw control characters.", `{` + header + `,"spec":{"user":"a` + "\n" + `","resourceAttributes":{}}}`, nil},
		"BadEscape":   {"Nor escapes that are none.", `{` + header + `,"spec":{"user":"a\x","resourceAttributes":{}}}`, nil},
		"BadLiteral":  {"Nor words that are none, also where nobody looks.", `{` + header + `,"x":nul,"spec":{"resourceAttributes":{}}}`, nil},
		"Nested":      {"Depth has an end.", `{` + header + `,"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `,"spec":{"resourceAttributes":{}}}`, nil},
		"OtherFormat": {"Protobuf is not what API servers send.", "k8s\x00\n", nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			q := &effective.Request{}
			_, err := decode(tc.body, q)
			if tc.want == nil {
				if err == nil {
					t.Errorf("%s It is read: %+v", tc.reason, q)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s %v", tc.reason, err)
			}
			if diff := cmp.Diff(tc.want, q); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestS15PathOf: the path that a request for a resource is given is one that an API
// server reads as that request.
func TestS15PathOf(t *testing.T) {
	infos := request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	for _, group := range []string{"", "apps"} {
		for _, resource := range []string{"pods", "namespaces", "nodes"} {
			for _, namespace := range []string{"", "x"} {
				for _, name := range []string{"", "n"} {
					for _, sub := range []string{"", "status"} {
						if resource == "namespaces" {
							namespace = name // of a namespace it is itself
						}
						if sub != "" && name == "" || group != "" && resource == "namespaces" {
							continue // there are no such requests
						}
						q := &effective.Request{APIGroup: group, APIVersion: "v1", Resource: resource, Namespace: namespace, Name: name, Subresource: sub, ResourceRequest: true}
						r, err := http.NewRequest(http.MethodGet, "https://member"+pathOf(q), nil)
						if err != nil {
							t.Fatal(err)
						}
						info, err := infos.NewRequestInfo(r)
						if err != nil {
							t.Fatal(err)
						}
						got := &effective.Request{
							APIGroup: info.APIGroup, APIVersion: info.APIVersion, Resource: info.Resource, Namespace: info.Namespace, Name: info.Name,
							Subresource: info.Subresource, ResourceRequest: info.IsResourceRequest,
						}
						if diff := cmp.Diff(q, got); diff != "" {
							t.Errorf("%s (-want +got):\n%s", r.URL.Path, diff)
						}
					}
				}
			}
		}
	}
}

// FuzzDecodeSAR: what Kubernetes' decoder reads of a review, and this one reads too, is the
// same to both. What cannot be read is not answered. Nothing is allowed to who is not in
// the group that is granted, and the two versions of a review have one answer.
func FuzzDecodeSAR(f *testing.F) {
	for _, spec := range []authorizationv1.SubjectAccessReviewSpec{
		ask("list", "payments", "pods"), ask("create", "other", "pods", "exec"), ask("get", "/debug/x"), through("get", "proxy.sallyport.dev", "prod"),
	} {
		spec.User, spec.UID, spec.Groups = "alice", "u", []string{"devs", "ops"}
		spec.Extra = map[string]authorizationv1.ExtraValue{"scopes": {"a", "b"}}
		for _, raw := range reviews(f, spec) {
			f.Add(raw)
		}
	}
	f.Add([]byte(`{` + header + `,"spec":{"user":"a\u0000","group":["devs"],"extra":{"":null},"resourceAttributes":{"resource":"a/b/c"}}}`))
	f.Add([]byte(`{"apiVersion":"authorization.k8s.io/v1beta1","kind":"SubjectAccessReview","spec":{"user":"a","groups":["devs"],"resourceAttributes":{"verb":"list","resource":"pods","namespace":"payments"}}}`))
	// In Go: a fuzzer that sees into an engine looks for what is new there.
	ix := indexBy(&guardrail.Guardrail{Name: "no-shell", Digest: "no-shell", Points: 1 << guardrail.Request, Check: noShells{}})
	h := NewHandler(HandlerOptions{Index: fixed{ix}, AllowFromGrants: true, Cluster: "prod", Clock: testclock.NewFakePassiveClock(noon)})
	f.Fuzz(func(t *testing.T, raw []byte) {
		w := post(h, Path, raw)
		q := &effective.Request{}
		v, err := decode(string(raw), q)
		if err != nil {
			if w.Code == http.StatusOK {
				t.Fatalf("%q cannot be read, and is answered with %s", raw, w.Body)
			}
			return
		}
		var got authorizationv1.SubjectAccessReview
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%q: %d %s, %v", raw, w.Code, w.Body, err)
		}
		if got.Status.Allowed && (got.Status.Denied || !sets.New(q.User.Groups...).Has("devs")) {
			t.Fatalf("%q is answered with %s", raw, w.Body)
		}
		spec, ok := asKubernetes(raw, v)
		if !ok {
			return
		}
		for version, body := range reviews(t, spec) {
			same := &effective.Request{}
			if _, err := decode(string(body), same); err != nil {
				t.Fatalf("%q, which is %s in %s, cannot be read: %v", raw, body, version, err)
			}
			if diff := cmp.Diff(q, same, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("%q, in %s (-this decoder +Kubernetes'):\n%s", raw, version, diff)
			}
			again := post(h, Path, body).Body.String()
			if number.ReplaceAllString(again, "") != strings.Replace(number.ReplaceAllString(w.Body.String(), ""), got.APIVersion+`"`, group+version+`"`, 1) {
				t.Fatalf("%q is answered with %s, and in %s with %s", raw, w.Body, version, again)
			}
		}
	})
}

// noShells is against whatever executes.
type noShells struct{}

func (noShells) Timed() bool { return false }

func (noShells) Check(in *guardrail.Input) ([]guardrail.Violation, error) {
	if in.Request.Subresource == "exec" {
		return []guardrail.Violation{{Message: "not for people"}}, nil
	}
	return nil, nil
}

// asKubernetes reads a review by its own types; v1beta1 as v1.
func asKubernetes(raw []byte, v version) (authorizationv1.SubjectAccessReviewSpec, bool) {
	if v == v1 {
		var r authorizationv1.SubjectAccessReview
		err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &r)
		return r.Spec, err == nil
	}
	var r authorizationv1beta1.SubjectAccessReview
	err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &r)
	out := authorizationv1.SubjectAccessReviewSpec{
		User: r.Spec.User, UID: r.Spec.UID, Groups: r.Spec.Groups,
		ResourceAttributes:    (*authorizationv1.ResourceAttributes)(r.Spec.ResourceAttributes),
		NonResourceAttributes: (*authorizationv1.NonResourceAttributes)(r.Spec.NonResourceAttributes),
	}
	for k, v := range r.Spec.Extra {
		if out.Extra == nil {
			out.Extra = map[string]authorizationv1.ExtraValue{}
		}
		out.Extra[k] = authorizationv1.ExtraValue(v)
	}
	return out, err == nil
}
