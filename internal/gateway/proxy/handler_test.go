package proxy

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
	"github.com/sallyport-dev/sallyport/internal/gateway/hub"
)

// told is what a member is told of who asks.
func told(h http.Header) http.Header {
	out := http.Header{}
	for name, values := range h {
		if isTheCallers(name) {
			out[name] = values
		}
	}
	return out
}

var alice = http.Header{
	"Authorization": {"Bearer impersonator"}, impersonateUser: {"alice"}, impersonateUID: {"uid-of-alice"}, impersonateGroup: {"devs"},
}

func ok(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }

func layerOf(t *testing.T, body string) (layer, message string) {
	t.Helper()
	var s metav1.Status
	if err := json.Unmarshal([]byte(body), &s); err != nil || s.Kind != "Status" {
		t.Fatalf("no Status: %q, %v", body, err)
	}
	for _, c := range s.Details.Causes {
		if c.Type == CauseLayer {
			layer = c.Message
		}
	}
	return layer, s.Message
}

// TestS1S2Headers: raw requests by HTTP/1.1, HTTP/2 and an upgrade. Whatever a caller
// writes, and names in Connection, the member is told who alice is and nothing else.
func TestS1S2Headers(t *testing.T) {
	seen := make(chan http.Header, 1)
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		ok(rw, r)
	})
	names := []string{
		"Impersonate-User", "Impersonate-Group", "Impersonate-Uid", "Impersonate-Extra-Scopes", "impersonate_user",
		"X-Remote-User", "X-Remote-Group", "X-Remote-Extra-A", "Authorization", "Cookie", "X-Forwarded-For", "Proxy-Authorization",
	}
	one := w.server.Client().Transport.(*http.Transport).Clone()
	one.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{} // HTTP/1.1 only
	one.TLSClientConfig.NextProtos = []string{"http/1.1"}
	defer one.CloseIdleConnections()
	for _, name := range names {
		for _, connection := range []string{"", name, "keep-alive, " + strings.ToLower(name), "close, Impersonate-User, Impersonate-Group"} {
			for protocol, transport := range map[string]http.RoundTripper{"HTTP/1.1": one, "HTTP/2": w.server.Client().Transport, "upgrade": one} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.server.URL+Prefix+"prod/proxy"+pods, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				r.Header = http.Header{"X-Test-User": {"alice"}, "X-Test-Groups": {"devs,staff,system:masters"}, name: {"root"}}
				if connection != "" && protocol != "HTTP/2" {
					r.Header.Set("Connection", connection)
				}
				if protocol == "upgrade" {
					r.Header.Set("Connection", strings.TrimPrefix(connection+", Upgrade", ", "))
					r.Header.Set("Upgrade", "SPDY/3.1")
				}
				resp, err := transport.RoundTrip(r)
				if err != nil {
					t.Fatalf("%s %s: %v", protocol, name, err)
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Fatalf("%s %s: %s", protocol, name, resp.Status)
				}
				if diff := cmp.Diff(alice, told(<-seen)); diff != "" {
					t.Errorf("%s, %s: root, Connection: %q; the member is told (-want +got):\n%s", protocol, name, connection, diff)
				}
			}
		}
	}
}

// TestS3FailedUpgrade: a member refuses an upgrade. What the client sends after it on
// the same connection is another request, and judged like any.
func TestS3FailedUpgrade(t *testing.T) {
	paths := make(chan string, 8)
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		paths <- r.URL.Path
		http.Error(rw, "no", http.StatusForbidden)
	})
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", w.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const who = "X-Test-User: alice\r\nX-Test-Groups: devs\r\nHost: hub\r\n"
	fmt.Fprintf(conn, "GET %sprod/proxy%s/api-0/exec HTTP/1.1\r\n%sConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n", Prefix, pods, who)
	// As CVE-2018-1002105 had it: straight to the member, as its impersonator.
	fmt.Fprintf(conn, "GET /api/v1/secrets HTTP/1.1\r\nHost: member\r\nImpersonate-User: root\r\n\r\n")
	fmt.Fprintf(conn, "GET %sprod/proxy/api/v1/secrets HTTP/1.1\r\n%sConnection: close\r\n\r\n", Prefix, who)
	in := bufio.NewReader(conn)
	var codes []int
	for range 3 {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body) // only what follows matters
		resp.Body.Close()
		codes = append(codes, resp.StatusCode)
	}
	if diff := cmp.Diff([]int{403, 401, 403}, codes); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if got := <-paths; got != pods+"/api-0/exec" || len(paths) > 0 {
		t.Errorf("the member was asked for %q and %d more", got, len(paths))
	}
}

// TestS4Redirects: neither followed nor passed on.
func TestS4Redirects(t *testing.T) {
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	for _, code := range []int{301, 302, 303, 307, 308} {
		w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, elsewhere.URL, code) })
		for _, upgrade := range []bool{false, true} {
			resp, body := w.ask(http.MethodGet, "prod/proxy"+pods, func(r *http.Request) {
				if upgrade {
					r.URL.Path += "/api-0/exec"
					r.Header.Set("Connection", "Upgrade")
					r.Header.Set("Upgrade", "websocket")
				}
			})
			if layer, _ := layerOf(t, body); resp.StatusCode != http.StatusBadGateway || layer != decisionlog.LayerMember || resp.Header.Get("Location") != "" {
				t.Errorf("%d, upgrade %t: %s, layer %q, Location %q", code, upgrade, resp.Status, layer, resp.Header.Get("Location"))
			}
		}
	}
}

// TestS6Nobody: without somebody there is no request to a member.
func TestS6Nobody(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("the member was asked") })
	for name, change := range map[string]func(*http.Request){
		"Nobody":     func(r *http.Request) { r.Header.Del("X-Test-User") },
		"Anonymous":  func(r *http.Request) { r.Header.Set("X-Test-User", "system:anonymous") },
		"EmptyGroup": func(r *http.Request) { r.Header.Set("X-Test-Groups", "devs,") },
	} {
		resp, body := w.ask(http.MethodGet, "prod/proxy"+pods, change)
		if layer, _ := layerOf(t, body); resp.StatusCode != http.StatusUnauthorized || layer != decisionlog.LayerIdentity {
			t.Errorf("%s: %s, layer %q", name, resp.Status, layer)
		}
	}
}

// TestLayers: each that refuses says so, and what to do, and nothing of policies' insides.
func TestLayers(t *testing.T) {
	tests := map[string]struct {
		reason  string
		method  string
		path    string
		setup   func(*world)
		options func(*Options)
		change  func(*http.Request)
		code    int
		layer   string
		says    []string
		silent  []string
	}{
		"Allowed":   {reason: "A grant gives it.", path: "prod/proxy" + pods, code: 200},
		"Discovery": {reason: "Whoever has a grant may look around.", path: "prod/proxy/api", code: 200},
		"NoGrant": {reason: "What no grant gives.", path: "prod/proxy/api/v1/namespaces/payments/secrets", code: 403, layer: "grant",
			says: []string{`"alice" cannot list resource "secrets"`, `namespace "payments"`, `cluster "prod"`, "AccessGrant", `Group "devs"`}},
		"Help": {reason: "Where to read on is told.", path: "prod/proxy/api/v1/secrets", options: func(o *Options) { o.Help = "see https://access.example" }, code: 403, layer: "grant",
			says: []string{"see https://access.example"}},
		"UnknownCluster": {reason: "It looks like one without a grant.", path: "other/proxy" + pods, code: 403, layer: "grant", says: []string{"no active grant gives it"}},
		"Guardrail": {reason: "What a guardrail is against.", path: "prod/proxy" + pods + "/api-0/exec", method: http.MethodPost,
			setup: func(w *world) {
				w.grants(against(w, `input.request.subresource != 'exec'`, "nobody executes; use debug"), oncall())
			},
			code: 403, layer: "guardrail", says: []string{`guardrail "no-exec": nobody executes; use debug`}, silent: []string{"input.request"}},
		"Exception": {reason: "An exception is told of only where it would be honoured.", path: "prod/proxy" + pods,
			setup: func(w *world) {
				w.grants(against(w, `false`, "no", func(s *v1alpha1.GuardrailSpec) {
					s.Exceptions = &v1alpha1.ExceptionTerms{MaxDuration: metav1.Duration{Duration: time.Hour}}
				}), oncall())
			}, code: 403, layer: "guardrail", says: []string{"GuardrailException for grant payments/oncall"}},
		"NoException": {reason: "And not elsewhere.", path: "prod/proxy" + pods, setup: func(w *world) { w.grants(against(w, `false`, "no"), oncall()) },
			code: 403, layer: "guardrail", silent: []string{"GuardrailException"}},
		"WebSocket": {reason: "A GET that executes is a create to guardrails.", path: "prod/proxy" + pods + "/api-0/exec",
			setup: func(w *world) {
				w.grants(against(w, `!(input.request.verb == 'create' && input.request.subresource == 'exec')`, "nobody executes"), oncall())
			}, code: 403, layer: "guardrail"},
		"BrokenGuardrail": {reason: "One that cannot be evaluated refuses, and does not tell why.", path: "prod/proxy" + pods,
			setup: func(w *world) {
				w.grants(against(w, `input.request.user.extra['x'][0] == 'secret-rule'`, "m"), oncall())
			},
			code: 403, layer: "guardrail", says: []string{"cannot be evaluated"}, silent: []string{"secret-rule", "no such key"}},
		"Masters": {reason: "Guardrails skip nobody.", path: "prod/proxy" + pods,
			setup:  func(w *world) { w.grants(against(w, `false`, "no"), oncall()) },
			change: func(r *http.Request) { r.Header.Set("X-Test-Groups", "system:masters") }, code: 403, layer: "guardrail"},
		"Exempt": {reason: "Who is named gets past guardrails and grants, and is asked about at the hub.", path: "prod/proxy/api/v1/secrets",
			setup:   func(w *world) { w.grants(against(w, `false`, "no")) },
			options: func(o *Options) { o.Exempt = []string{"alice"} }, code: 200},
		"Hub": {reason: "What the hub refuses.", path: "prod/proxy" + pods, setup: func(w *world) { w.hub.answer = hub.Answer{Reason: "secret reason"} },
			code: 403, layer: "hub", says: []string{"clusters/proxy"}, silent: []string{"secret reason"}},
		"HubAway": {reason: "Without an answer of the hub's there is none.", path: "prod/proxy" + pods, setup: func(w *world) { w.hub.err = errors.New("dial 10.0.0.1") },
			code: 503, layer: "hub", silent: []string{"10.0.0.1"}},
		"NoRoute": {reason: "A member that cannot be reached.", path: "prod/proxy" + pods, setup: func(w *world) { w.members.Remove("prod") },
			code: 503, layer: "member", says: []string{"has no route"}},
		"Path":       {reason: "A path in two readings.", path: "prod/proxy/api//v1", code: 400, layer: "request"},
		"Method":     {reason: "A method that nobody knows.", path: "prod/proxy/api", method: "BREW", code: 400, layer: "request"},
		"Lenient":    {reason: "Where no grant is needed the hub decides.", path: "prod/proxy/api/v1/secrets", options: func(o *Options) { o.Lenient = true }, code: 200},
		"NotLenient": {reason: "Strict is the default.", path: "prod/proxy/api/v1/secrets", code: 403, layer: "grant"},
		"NoIndex":    {reason: "S16: before there is an index nothing is granted.", path: "prod/proxy" + pods, setup: func(w *world) { w.mu.Lock(); w.ix = nil; w.mu.Unlock() }, code: 403, layer: "guardrail", says: []string{"not known yet"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if tc.options == nil {
				tc.options = func(*Options) {}
			}
			w := newWorld(t, ok, tc.options)
			if tc.setup != nil {
				tc.setup(w)
			}
			if tc.method == "" {
				tc.method = http.MethodGet
			}
			if tc.change == nil {
				tc.change = func(*http.Request) {}
			}
			resp, body := w.ask(tc.method, tc.path, tc.change)
			if resp.StatusCode != tc.code {
				t.Fatalf("%s Got %s: %s", tc.reason, resp.Status, body)
			}
			e := w.log.last()
			if tc.code == 200 {
				if e.Verdict != decisionlog.Allow || e.Layer != "" {
					t.Errorf("%s Logged as %+v.", tc.reason, e)
				}
				return
			}
			layer, message := layerOf(t, body)
			if layer != tc.layer || e.Layer != tc.layer || e.Verdict != decisionlog.Deny || e.Status != tc.code {
				t.Errorf("%s Layer %q, logged as %+v; want %q.", tc.reason, layer, e, tc.layer)
			}
			if !strings.Contains(message, e.ID) {
				t.Errorf("the message does not name the request that is logged: %s", message)
			}
			for _, s := range tc.says {
				if !strings.Contains(message, s) {
					t.Errorf("%s The message does not say %q: %s", tc.reason, s, message)
				}
			}
			for _, s := range tc.silent {
				if strings.Contains(body, s) {
					t.Errorf("%s The answer says %q: %s", tc.reason, s, body)
				}
			}
			if (tc.code == 503) != (resp.Header.Get("Retry-After") != "") {
				t.Errorf("%s Retry-After: %q", tc.reason, resp.Header.Get("Retry-After"))
			}
		})
	}
}

// TestHubVerb: the hub is asked with the verb that its own API server would use, and with
// get about what everybody may do.
func TestHubVerb(t *testing.T) {
	w := newWorld(t, ok)
	for path, want := range map[string]map[string]string{
		"prod/proxy" + pods:            {http.MethodGet: "get", http.MethodPost: "create", http.MethodDelete: ""},
		"prod/proxy" + pods + "/api-0": {http.MethodHead: "get", http.MethodDelete: "delete"},
		"prod/proxy/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":               {http.MethodPost: "get"},
		"prod/proxy/apis/authorization.k8s.io/v1/namespaces/x/localsubjectaccessreviews": {http.MethodPost: ""},
	} {
		for method, verb := range want {
			w.hub.asked = nil
			resp, _ := w.ask(method, path)
			var got []string
			for _, q := range w.hub.asked {
				got = append(got, q.Verb)
			}
			var wanted []string
			if verb != "" {
				wanted = []string{verb}
			}
			if !slices.Equal(got, wanted) {
				t.Errorf("%s %s (%s): the hub was asked %q, want %q", method, path, resp.Status, got, wanted)
			}
		}
	}
}

// TestMemberRefuses: the member's own words are passed on, and who spoke is told.
func TestMemberRefuses(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(http.StatusForbidden)
		fmt.Fprint(rw, "the member's own words")
	})
	resp, body := w.ask(http.MethodGet, "prod/proxy"+pods)
	if resp.StatusCode != http.StatusForbidden || body != "the member's own words" {
		t.Errorf("got %s: %s", resp.Status, body)
	}
	if warning := resp.Header.Get("Warning"); !strings.HasPrefix(warning, "299 ") || !strings.Contains(warning, "payments/oncall") {
		t.Errorf("warning %q", warning)
	}
	if e := w.log.last(); e.Layer != decisionlog.LayerMember || e.Status != http.StatusForbidden {
		t.Errorf("logged as %+v", e)
	}
}

// TestWarn: a guardrail that warns lets through, and kubectl prints what it says.
func TestWarn(t *testing.T) {
	w := newWorld(t, ok)
	w.grants(against(t, "false", "use the new API\r\nX: y", func(s *v1alpha1.GuardrailSpec) { s.Enforcement = v1alpha1.EnforcementWarn }), oncall())
	resp, _ := w.ask(http.MethodGet, "prod/proxy"+pods)
	if warning := resp.Header.Get("Warning"); resp.StatusCode != http.StatusOK || !strings.Contains(warning, "use the new API") || resp.Header.Get("X") != "" {
		t.Errorf("%s, warning %q", resp.Status, warning)
	}
}

// TestForwarded: method, path, query and body arrive as they were sent, and the answer
// as it was given.
func TestForwarded(t *testing.T) {
	type request struct{ Method, URI, Body, Type string }
	var got request
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = request{r.Method, r.RequestURI, string(body), r.Header.Get("Content-Type")}
		rw.Header().Set("X-Answer", "yes")
		rw.WriteHeader(http.StatusCreated)
		fmt.Fprint(rw, "created")
	})
	const query = "?fieldManager=a%20b&labelSelector=x%3Dy&empty="
	resp, body := w.ask(http.MethodPost, "prod/proxy"+pods+query, func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("a pod")), 5
		r.Header.Set("Content-Type", "application/json")
	})
	if diff := cmp.Diff(request{http.MethodPost, pods + query, "a pod", "application/json"}, got); diff != "" {
		t.Errorf("the member got (-want +got):\n%s", diff)
	}
	if resp.StatusCode != http.StatusCreated || body != "created" || resp.Header.Get("X-Answer") != "yes" {
		t.Errorf("the answer: %s %q", resp.Status, body)
	}
}

// TestDown: a member that is gone is 503 with Retry-After, and another is not harmed.
func TestDown(t *testing.T) {
	w := newWorld(t, ok)
	gone := httptest.NewTLSServer(http.HandlerFunc(ok))
	w.route("prod", gone)
	gone.Close()
	for range 2 { // by trying, and then without
		resp, body := w.ask(http.MethodGet, "prod/proxy"+pods)
		if layer, _ := layerOf(t, body); resp.StatusCode != http.StatusServiceUnavailable || layer != decisionlog.LayerMember || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s, layer %q, Retry-After %q", resp.Status, layer, resp.Header.Get("Retry-After"))
		}
	}
}

// TestLimits: who has too much under way is told so, and others are not.
func TestLimits(t *testing.T) {
	hold, holds := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("hold") {
			holds <- struct{}{}
			<-hold
		}
		ok(rw, r)
	}, func(o *Options) { o.Limits = Limits{RequestsPerUser: 1, Requests: 2} })
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.ask(http.MethodGet, "prod/proxy"+pods+"?hold")
	}()
	<-holds
	resp, body := w.ask(http.MethodGet, "prod/proxy"+pods)
	if layer, _ := layerOf(t, body); resp.StatusCode != http.StatusTooManyRequests || layer != decisionlog.LayerLimit || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a second one: %s, layer %q", resp.Status, layer)
	}
	if resp, _ := w.ask(http.MethodGet, "prod/proxy"+pods, func(r *http.Request) { r.Header.Set("X-Test-User", "carol") }); resp.StatusCode != http.StatusOK {
		t.Errorf("another user's: %s", resp.Status)
	}
	other := newWorld(t, ok, func(o *Options) { o.Limits = Limits{RequestsPerCluster: 1} })
	release, _ := other.handler.shorts.take("bob", "prod")
	if resp, body := other.ask(http.MethodGet, "prod/proxy"+pods); resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a second one to a cluster: %s %s", resp.Status, body)
	}
	if resp, _ := other.ask(http.MethodGet, "other/proxy"+pods); resp.StatusCode != http.StatusForbidden {
		t.Errorf("one to another cluster, which no grant gives: %s", resp.Status)
	}
	release()
	close(hold)
	<-done
	if resp, _ := w.ask(http.MethodGet, "prod/proxy"+pods); resp.StatusCode != http.StatusOK {
		t.Errorf("when it has ended: %s", resp.Status)
	}
}

// streaming member: a watch in JSON that says one thing, and another when there is more.
func streaming(more <-chan struct{}) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) { stream(rw, r, more) }
}

func stream(rw http.ResponseWriter, r *http.Request, more <-chan struct{}) {
	if r.Header.Get("Upgrade") != "" {
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nhello\n")
		_, _ = io.Copy(io.Discard, conn) // until it is closed
		return
	}
	rw.Header().Set("Content-Type", r.Header.Get("Accept"))
	fmt.Fprint(rw, `{"type":"ADDED"}`+"\n")
	_ = http.NewResponseController(rw).Flush()
	if r.Header.Get(impersonateGroup) != "others" {
		more = nil // it is for those who go on
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case <-more:
			fmt.Fprint(rw, `{"type":"MODIFIED"}`+"\n")
			_ = http.NewResponseController(rw).Flush()
		}
	}
}

// TestS13SessionsEnd: an open watch, log and exec end when the grant is revoked, when it
// expires, and when a guardrail comes; and those that are still allowed do not.
func TestS13SessionsEnd(t *testing.T) {
	ends := func(s *v1alpha1.AccessGrantSpec) {
		s.Validity = &v1alpha1.Validity{NotAfter: &metav1.Time{Time: noon.Add(time.Hour)}}
	}
	bystander := oncall(func(s *v1alpha1.AccessGrantSpec) { s.Subjects[0].Name = "others" })
	bystander.Name = "bystander"
	for name, end := range map[string]func(*world){
		"Revoked": func(w *world) { w.grants(nil, bystander) },
		"Expired": func(w *world) { w.clock.Step(time.Hour) },
		"Guardrail": func(w *world) {
			w.grants(against(w, `!('devs' in input.request.user.groups)`, "the freeze has begun"), oncall(ends), bystander)
		},
	} {
		t.Run(name, func(t *testing.T) {
			more := make(chan struct{})
			w := newWorld(t, streaming(more))
			w.grants(nil, oncall(ends), bystander)
			open := func(path, accept, group string, upgrade bool) *bufio.Reader {
				t.Helper()
				conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", w.server.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				extra := ""
				if upgrade {
					extra = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
				}
				fmt.Fprintf(conn, "GET %sprod/proxy%s HTTP/1.1\r\nHost: hub\r\nX-Test-User: alice\r\nX-Test-Groups: %s\r\nAccept: %s\r\n%s\r\n", Prefix, path, group, accept, extra)
				in := bufio.NewReader(conn)
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				if upgrade {
					if line, err := in.ReadString('\n'); resp.StatusCode != http.StatusSwitchingProtocols || line != "hello\n" {
						t.Fatalf("%s: %q, %v", resp.Status, line, err)
					}
					return in
				}
				body := bufio.NewReader(resp.Body)
				if line, err := body.ReadString('\n'); resp.StatusCode != http.StatusOK || !strings.Contains(line, "ADDED") {
					t.Fatalf("%s: %q, %v", resp.Status, line, err)
				}
				return body
			}
			watch := open(pods+"?watch=true", "application/json", "devs", false)
			table := open(pods+"?watch=1", "application/json;as=Table;g=meta.k8s.io;v=v1", "devs", false)
			logs := open(pods+"/api-0/log?follow=true", "text/plain", "devs", false)
			exec := open(pods+"/api-0/exec?command=sh", "*/*", "devs", true)
			spared := open(pods+"?watch=true", "application/json", "others", false)
			end(w)
			for what, in := range map[string]*bufio.Reader{"watch": watch, "table": table} {
				rest, err := io.ReadAll(in)
				var event struct {
					Type   string
					Object metav1.Status
				}
				if err != nil || json.Unmarshal(rest, &event) != nil || event.Type != "ERROR" || event.Object.Code != http.StatusForbidden {
					t.Errorf("the %s ended with %q, %v; want an event that says why", what, rest, err)
				}
			}
			for what, in := range map[string]*bufio.Reader{"log": logs, "exec": exec} {
				if rest, _ := io.ReadAll(in); len(rest) > 0 {
					t.Errorf("the %s went on with %q", what, rest)
				}
			}
			w.log.mu.Lock()
			cut := 0
			for _, e := range w.log.all {
				if e.Event == decisionlog.EventSession && e.Verdict == decisionlog.Deny {
					cut++
				}
			}
			w.log.mu.Unlock()
			if cut != 4 {
				t.Errorf("%d sessions were cut, want 4", cut)
			}
			// What is still granted goes on: the member's next word arrives.
			more <- struct{}{}
			if line, err := spared.ReadString('\n'); err != nil || !strings.Contains(line, "MODIFIED") {
				t.Errorf("what is still granted said %q, %v", line, err)
			}
		})
	}
}

// TestDrain: what is under way ends by itself or is cut, and no more is taken.
func TestDrain(t *testing.T) {
	w := newWorld(t, streaming(nil))
	resp, err := w.server.Client().Do(func() *http.Request {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, w.server.URL+Prefix+"prod/proxy"+pods+"?watch=true", http.NoBody)
		r.Header = http.Header{"X-Test-User": {"alice"}, "X-Test-Groups": {"devs"}, "Accept": {"application/json"}}
		return r
	}())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ctx, cancel := contextDone()
	defer cancel()
	w.handler.Drain(ctx) // it returns when the watch has been cut
	if rest, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(rest), `"ERROR"`) {
		t.Errorf("the watch ended with %q, %v", rest, err)
	}
	if resp, _ := w.ask(http.MethodGet, "prod/proxy"+pods); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a request while it drains: %s", resp.Status)
	}
}

// TestIdentityHasGrantedGroupsOnly: the identity that a member is told has the groups that are granted there only.
func TestIdentityHasGrantedGroupsOnly(t *testing.T) {
	seen := make(chan http.Header, 1)
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		seen <- told(r.Header)
		ok(rw, r)
	})
	w.ask(http.MethodGet, "prod/proxy"+pods)
	if diff := cmp.Diff(alice, <-seen); diff != "" {
		t.Errorf("of devs, staff, system:authenticated and system:masters (-want +got):\n%s", diff)
	}
	want := maps.Clone(alice)
	want[impersonateGroup] = []string{"devs", "staff"}
	second := oncall(func(s *v1alpha1.AccessGrantSpec) { s.Subjects[0].Name = "staff" })
	second.Name = "second"
	w.grants(nil, oncall(), second)
	w.ask(http.MethodGet, "prod/proxy"+pods)
	if diff := cmp.Diff(want, <-seen); diff != "" {
		t.Errorf("with a second grant (-want +got):\n%s", diff)
	}
}
