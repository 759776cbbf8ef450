package proxy

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestS23Paths(t *testing.T) {
	tests := map[string]struct {
		reason string
		path   string // after the prefix
		want   string // raw path on the member; "" for refused
		judged string // if it is another
	}{
		"Plain":           {"A path of the API.", "prod/proxy/api/v1/pods", "/api/v1/pods", ""},
		"Root":            {"The member's root.", "prod/proxy/", "/", ""},
		"NoSlash":         {"The same.", "prod/proxy", "/", ""},
		"Trailing":        {"A slash at the end stays.", "prod/proxy/version/", "/version/", ""},
		"Query":           {"The query is no path.", "prod/proxy/api/v1/pods?watch=true", "/api/v1/pods", ""},
		"Colon":           {"Names of roles have colons, encoded or not.", "prod/proxy/apis/r/v1/clusterroles/system%3Anode", "/apis/r/v1/clusterroles/system%3Anode", "/apis/r/v1/clusterroles/system:node"},
		"LowerHex":        {"It is sent as it came.", "prod/proxy/a/%3a", "/a/%3a", "/a/:"},
		"Needless":        {"What need not be encoded may be.", "prod/proxy/%61pi", "/%61pi", "/api"},
		"UTF8":            {"Other alphabets are encoded.", "prod/proxy/a/%C3%A9", "/a/%C3%A9", "/a/é"},
		"Dots":            {"Dots within a name are no segment.", "prod/proxy/api/a..b/...", "/api/a..b/...", ""},
		"Service":         {"A service with scheme and port.", "prod/proxy/api/v1/namespaces/a/services/https:web:443/proxy/x", "/api/v1/namespaces/a/services/https:web:443/proxy/x", ""},
		"DotDot":          {"It would lead elsewhere.", "prod/proxy/api/../healthz", "", ""},
		"DotDotEnd":       {"At the end too.", "prod/proxy/api/..", "", ""},
		"Dot":             {"Some servers take it out.", "prod/proxy/./api", "", ""},
		"EncodedDots":     {"Nor encoded.", "prod/proxy/api/%2e%2e/healthz", "", ""},
		"HalfEncodedDots": {"Nor half of it.", "prod/proxy/api/.%2E/healthz", "", ""},
		"EncodedSlash":    {"It is a slash to some.", "prod/proxy/api%2fv1", "", ""},
		"DoubleEncoded":   {"It is a slash to the server after.", "prod/proxy/api%252fv1", "", ""},
		"DoubleSlash":     {"Some servers make one of two.", "prod/proxy/api//v1", "", ""},
		"FirstDouble":     {"It would be a host to some.", "prod/proxy//evil.example/api", "", ""},
		"Backslash":       {"It is a slash to some.", "prod/proxy/api%5c..%5cv1", "", ""},
		"NUL":             {"It ends a string for some.", "prod/proxy/api%00", "", ""},
		"Newline":         {"It ends a header.", "prod/proxy/api%0d%0aX: y", "", ""},
		"Semicolon":       {"It begins parameters for some.", "prod/proxy/api;a=b/v1", "", ""},
		"EncodedQuestion": {"It begins a query for some.", "prod/proxy/api%3fwatch", "", ""},
		"NotUTF8":         {"It is another text to everybody.", "prod/proxy/a/%ff", "", ""},
		"NoCluster":       {"Of no cluster.", "/proxy/api", "", ""},
		"Star":            {"Of every cluster.", "*/proxy/api", "", ""},
		"Upper":           {"No cluster has such a name.", "Prod/proxy/api", "", ""},
		"Traversal":       {"Nor such.", "../proxy/api", "", ""},
		"EncodedCluster":  {"Nor such.", "prod%2fx/proxy/api", "", ""},
		"OtherSub":        {"Another subresource.", "prod/status", "", ""},
		"ProxyPrefix":     {"Nor one that begins alike.", "prod/proxyx/api", "", ""},
		"QuerySemicolon":  {"Servers divide it in two ways.", "prod/proxy/api/v1/pods?a=b;watch=true", "", ""},
		"QueryPercent":    {"It cannot be read.", "prod/proxy/api/v1/pods?a=%zz", "", ""},
		"Long":            {"It has a bound.", "prod/proxy/" + strings.Repeat("a", maxPath), "", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse(Prefix + tc.path)
			if err != nil {
				if tc.want != "" {
					t.Fatal(err)
				}
				return // net/http refuses it before
			}
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.URL, r.RequestURI = u, Prefix+tc.path
			got, err := parseTarget(Prefix, r)
			if tc.want == "" {
				if err == nil {
					t.Errorf("%s Taken as %+v.", tc.reason, got)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s %v", tc.reason, err)
			}
			if tc.judged == "" {
				tc.judged = tc.want
			}
			if got.cluster != "prod" || got.raw != tc.want || got.path != tc.judged {
				t.Errorf("%s Got %+v, want %q judged as %q.", tc.reason, got, tc.want, tc.judged)
			}
		})
	}
}

// FuzzPath: S23. A path that is taken is dialled as it came, is judged as the member
// reads it, and has nothing that another server could read in another way.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"a/proxy/api/v1/pods", "a/proxy/%2e%2e/b", "a/proxy//x", "a/proxy/a%2fb", "a/proxy/x?y=z;w", "a/proxy/%C3%A9", "a.b/proxy", "a/proxy/..;/x", "a/proxy/\\x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		u, err := url.ParseRequestURI(Prefix + rest)
		if err != nil {
			return
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL, r.RequestURI = u, Prefix+rest
		got, err := parseTarget(Prefix, r)
		if err != nil {
			return
		}
		came, _, _ := strings.Cut(rest, "?")
		if inner, ok := strings.CutPrefix(came, got.cluster+"/proxy"); !ok || inner != got.raw && (inner != "" || got.raw != "/") {
			t.Errorf("%q came, %q is dialled", came, got.raw)
		}
		if decoded, err := url.PathUnescape(got.raw); err != nil || decoded != got.path {
			t.Errorf("%q is judged as %q, and read as %q, %v", got.raw, got.path, decoded, err)
		}
		// What the member's net/http makes of it.
		sent := url.URL{Scheme: "https", Host: "member", Path: got.path, RawPath: got.raw}
		if sent.EscapedPath() != got.raw {
			t.Errorf("%q would be sent as %q", got.raw, sent.EscapedPath())
		}
		lower := strings.ToLower(got.raw)
		for _, bad := range []string{"//", "/../", "/./", "%2f", "%5c", "%2e", "%25", "\\", "%00", ";"} {
			if strings.Contains(strings.TrimSuffix(lower, "/")+"/", bad) {
				t.Errorf("%q has %q", got.raw, bad)
			}
		}
	})
}
