package proxy

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/endpoints/filters/impersonation"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// asMemberReads is who Kubernetes' own impersonation filter finds in headers, without the
// groups that it adds by itself.
func asMemberReads(t testing.TB, h http.Header) guardrail.User {
	t.Helper()
	var got user.Info
	filter := impersonation.WithImpersonation(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got, _ = request.UserFrom(r.Context())
	}), authorizerfactory.NewAlwaysAllowAuthorizer(), serializer.NewCodecFactory(runtime.NewScheme()))
	r := httptest.NewRequest(http.MethodGet, "/api", nil)
	r.Header = h.Clone()
	answer := httptest.NewRecorder()
	filter.ServeHTTP(answer, r.WithContext(request.WithUser(t.Context(), &user.DefaultInfo{Name: "impersonator"})))
	if got == nil || got.GetName() == "impersonator" {
		t.Fatalf("nobody is impersonated by %v: %s", h, answer.Body)
	}
	out := guardrail.User{Name: got.GetName(), UID: got.GetUID()}
	for _, g := range got.GetGroups() {
		if slices.Contains(h.Values(impersonateGroup), g) {
			out.Groups = append(out.Groups, g)
		}
	}
	if extra := got.GetExtra(); len(extra) > 0 {
		out.Extra = extra
	}
	return out
}

func TestIdentity(t *testing.T) {
	extra := func(key string, values ...string) map[string][]string { return map[string][]string{key: values} }
	var none Extra
	tests := map[string]struct {
		reason  string
		user    guardrail.User
		groups  []string
		refused string
		extra   Extra
	}{
		"Plain":         {"Name, UID, groups and extra are told exactly.", guardrail.User{Name: "alice", UID: "6f8c", Extra: extra("authentication.kubernetes.io/credential-id", "X509SHA256=ab")}, []string{"devs", "ops"}, "", none},
		"NonASCII":      {"Names are not ASCII only.", guardrail.User{Name: "Zoë", Extra: extra("authentication.kubernetes.io/pod-name", "ü", "")}, []string{"größe"}, "", none},
		"Colon":         {"Names have colons.", guardrail.User{Name: "system:serviceaccount:ns:name"}, []string{"system:serviceaccounts"}, "", none},
		"NoName":        {"S6: nobody.", guardrail.User{}, nil, "no name", none},
		"Blank":         {"S6: the receiver would trim it.", guardrail.User{Name: " "}, nil, "white space", none},
		"Trimmed":       {"The receiver would make alice of it.", guardrail.User{Name: "alice "}, nil, "white space", none},
		"Newline":       {"It would end the header.", guardrail.User{Name: "a\r\nImpersonate-Group: system:masters"}, nil, "control", none},
		"EmptyGroup":    {"S6: a group without a name.", guardrail.User{Name: "alice"}, []string{""}, "without a name", none},
		"TrimmedGroup":  {"It would be another group.", guardrail.User{Name: "alice"}, []string{"devs\t"}, "white space", none},
		"UpperExtra":    {"S5: the member reads keys in lower case.", guardrail.User{Name: "alice", Extra: extra("Scopes", "a")}, nil, "lower case", none},
		"OtherExtra":    {"What cannot be told is not left out.", guardrail.User{Name: "alice", Extra: extra("scopes.example.org/read", "a")}, nil, `"scopes.example.org/read"`, none},
		"EmptyExtraKey": {"S5: no key.", guardrail.User{Name: "alice", Extra: extra("", "a")}, nil, "lower case", none},
		"ExtraNewline":  {"It would end the header.", guardrail.User{Name: "alice", Extra: extra("authentication.kubernetes.io/pod-uid", "b\nc")}, nil, "control", none},
		"UIDNewline":    {"It would end the header.", guardrail.User{Name: "alice", UID: "a\nb"}, nil, "control", none},
		"NamedExtra":    {"What is named is told.", guardrail.User{Name: "alice", Extra: extra("scopes.example.org/read", "a", "b")}, nil, "", Extra{Keys: []string{"scopes.example.org/read"}}},
		"NamedUpper":    {"The member would read another key.", guardrail.User{Name: "alice", Extra: extra("Scopes", "a")}, nil, "lower case", Extra{Keys: []string{"scopes"}}},
		"WithheldOther": {"What is withheld lets nothing else pass.", guardrail.User{Name: "alice", Extra: map[string][]string{"arn": {"x"}, "scopes": {"a"}}}, nil, `"scopes"`, Extra{Withheld: []string{"arn"}}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			h, err := identityOf(&tc.user, tc.groups, tc.extra.headers())
			if tc.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tc.refused) || strings.ContainsAny(err.Error(), "\r\n") {
					t.Errorf("%s Got %v, want an error that says %q.", tc.reason, err, tc.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := tc.user
			want.Groups = tc.groups
			if diff := cmp.Diff(want, asMemberReads(t, http.Header(h))); diff != "" {
				t.Errorf("%s The member reads (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestWithheldExtra: what is withheld is neither told to members nor written into the log,
// and what is not known is not written either.
func TestWithheldExtra(t *testing.T) {
	e := Extra{Keys: []string{"scopes"}, Withheld: []string{"accessKeyId", "user-assertion.cloud.google.com", "authentication.kubernetes.io/pod-uid"}}
	if err := e.Validate(); err != nil {
		t.Fatal(err)
	}
	u := guardrail.User{Name: "alice", Extra: map[string][]string{
		"scopes": {"a"}, "accessKeyId": {"CANARY"}, "user-assertion.cloud.google.com": {"CANARY"}, "authentication.kubernetes.io/pod-uid": {"CANARY"},
	}}
	h, err := identityOf(&u, nil, e.headers())
	if err != nil {
		t.Fatal(err)
	}
	want := guardrail.User{Name: "alice", Extra: map[string][]string{"scopes": {"a"}}}
	if diff := cmp.Diff(want, asMemberReads(t, http.Header(h))); diff != "" {
		t.Errorf("the member reads (-want +got):\n%s", diff)
	}
	u.Extra["unknown"] = []string{"CANARY"}
	logged := map[string][]string{"scopes": {"a"}, "accessKeyId": {}, "user-assertion.cloud.google.com": {}, "authentication.kubernetes.io/pod-uid": {}, "unknown": {}}
	if diff := cmp.Diff(logged, e.headers().logged(u.Extra)); diff != "" {
		t.Errorf("the log has (-want +got):\n%s", diff)
	}
	for _, bad := range []Extra{{Keys: []string{"Scopes"}}, {Keys: []string{"*"}}, {Keys: []string{""}}, {Withheld: []string{""}}, {Keys: []string{"arn"}, Withheld: []string{"ARN"}}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestS7MastersAreNeverTold(t *testing.T) {
	h, err := identityOf(&guardrail.User{Name: "alice"}, []string{"system:masters", "system:nodes", "devs"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"devs"}, http.Header(h).Values(impersonateGroup)); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
}

// TestS2OutboundIdentity: whatever the caller sends, who is impersonated is the user.
func TestS2OutboundIdentity(t *testing.T) {
	who, err := identityOf(&guardrail.User{Name: "alice", UID: "1"}, []string{"devs"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"Impersonate-User", "impersonate-user", "IMPERSONATE-GROUP", "Impersonate-Uid", "Impersonate-Extra-Scopes", "Impersonate_User", "impersonate-extra_x",
		"X-Remote-User", "x-remote-group", "X_Remote_Extra-a", "Authorization", "authorization", "Cookie", "Proxy-Authorization", "X-Forwarded-For", "Forwarded", "X-Forwarded_Client-Cert",
	} {
		h := http.Header{name: {"root"}, "Accept": {"application/json"}}
		who.set(h)
		want := http.Header{"Accept": {"application/json"}}
		maps.Copy(want, http.Header(who))
		if diff := cmp.Diff(want, h); diff != "" {
			t.Errorf("%s gets through (-want +got):\n%s", name, diff)
		}
	}
}

// FuzzHeaders: S2, S5. What is sent is a function of the user alone, and the member reads
// the user from it.
func FuzzHeaders(f *testing.F) {
	f.Add("alice", "6f8c", "devs", "scopes", "a", "Impersonate-User", "root")
	f.Add("Zoë", "", "größe", "a/b%c", "ü", "impersonate_extra-x", "y")
	f.Add("a b", " ", "x:y", "é", "", "Connection", "Impersonate-User")
	f.Fuzz(func(t *testing.T, name, uid, group, key, value, header, sent string) {
		// Keys are told as the member reads them, also those that are not told today.
		if lower := strings.ToLower(key); lower == key {
			sent := http.CanonicalHeaderKey(impersonateExtra + escapeKey(key))
			read, err := url.PathUnescape(strings.TrimPrefix(strings.ToLower(sent), strings.ToLower(impersonateExtra)))
			if err != nil || read != key {
				t.Errorf("key %q is sent as %q and read as %q, %v", key, sent, read, err)
			}
		}
		u := guardrail.User{Name: name, UID: uid, Groups: []string{group}, Extra: map[string][]string{"authentication.kubernetes.io/credential-id": {value}}}
		who, err := identityOf(&u, u.Groups, (&Extra{}).headers())
		if err != nil {
			return
		}
		h, other := http.Header{}, http.Header{}
		h.Add(header, sent)
		who.set(h)
		who.set(other)
		identityIn := func(h http.Header) http.Header {
			out := http.Header{}
			for k, v := range h {
				if isTheCallers(k) {
					out[k] = v
				}
			}
			return out
		}
		if !reflect.DeepEqual(identityIn(h), identityIn(other)) {
			t.Errorf("with %q: %v, without: %v", header, h, other)
		}
		got := asMemberReads(t, h)
		want := u
		want.Groups = slices.DeleteFunc(slices.Clone(u.Groups), func(g string) bool { return g == "system:masters" || g == "system:nodes" })
		if len(want.Groups) == 0 {
			want.Groups = nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("the member reads %+v, want %+v", got, want)
		}
		for k := range h {
			if isTheCallers(k) && strings.ContainsFunc(k, func(r rune) bool { return r > '~' || r < '!' || !isTokenByte(byte(r)) }) {
				t.Errorf("%q is no name of a header", k)
			}
		}
	})
}
