package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
	"github.com/sallyport-dev/sallyport/internal/gateway/hub"
)

// watched says one thing where it is watched, and then waits.
func watched(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Content-Type", "application/json")
	if !r.URL.Query().Has("watch") {
		ok(rw, r)
		return
	}
	fmt.Fprintln(rw, `{"type":"ADDED"}`)
	_ = http.NewResponseController(rw).Flush()
	<-r.Context().Done()
}

// opened is a watch that has said its first word.
func (w *world) opened(path string) *bufio.Reader {
	w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.server.URL+Prefix+path, http.NoBody)
	if err != nil {
		w.Fatal(err)
	}
	r.Header = http.Header{"X-Test-User": {"alice"}, "X-Test-Groups": {"devs"}, "Accept": {"application/json"}}
	resp, err := w.server.Client().Do(r)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { resp.Body.Close() })
	in := bufio.NewReader(resp.Body)
	if line, err := in.ReadString('\n'); resp.StatusCode != http.StatusOK || !strings.Contains(line, "ADDED") {
		w.Fatalf("%s: %q, %v", resp.Status, line, err)
	}
	return in
}

// endOf is the layer and the message by which a watch ended.
func endOf(t *testing.T, in io.Reader) (layer, message string) {
	t.Helper()
	rest, err := io.ReadAll(in)
	var event struct {
		Type   string
		Object json.RawMessage
	}
	if err != nil || json.Unmarshal(rest, &event) != nil || event.Type != "ERROR" {
		t.Fatalf("the watch ended with %q, %v", rest, err)
	}
	return layerOf(t, string(event.Object))
}

// TestS14LateDecision: what an older index decided does not replace what a newer one has,
// however late it is noted.
func TestS14LateDecision(t *testing.T) {
	s, one := newSessions(), &session{}
	s.add(one)
	soon, late := noon.Add(time.Minute), noon.Add(time.Hour)
	if !s.decided(one, &effective.Decision{Snapshot: 2, Until: soon}) {
		t.Error("the first decision is not taken")
	}
	if s.decided(one, &effective.Decision{Snapshot: 1, Until: late}) {
		t.Error("one of an older snapshot is taken")
	}
	if !one.until.Equal(soon) || !s.upcoming().Equal(soon) {
		t.Errorf("it holds until %s, want %s", one.until, soon)
	}
	if !s.decided(one, &effective.Decision{Snapshot: 2, Until: late}) {
		t.Error("a later one of the same snapshot is not taken")
	}
}

// TestS13OnMember: where only the member knows what a role gives, a session that one of
// two grants may have carried ends with either, and may be opened anew.
func TestS13OnMember(t *testing.T) {
	known := func(name, role string) compile.Grant {
		g := oncall(func(s *v1alpha1.AccessGrantSpec) {
			s.Access = []v1alpha1.AccessEntry{{
				RoleRef: &v1alpha1.RoleReference{Kind: "ClusterRole", Name: role}, Namespaces: []v1alpha1.NamespaceName{"payments"},
			}}
		})
		g.Name = name
		return g
	}
	w := newWorld(t, watched)
	w.grants(nil, known("view", "view"), known("edit", "edit"))
	watch := w.opened("prod/proxy" + pods + "?watch=true")
	w.grants(nil, known("view", "view"))
	if layer, message := endOf(t, watch); layer != decisionlog.LayerGrant || !strings.Contains(message, "Ask again") {
		t.Errorf("it ended by layer %q: %s", layer, message)
	}
	w.opened("prod/proxy" + pods + "?watch=true")
}

// TestS13HubTakesBack: where the hub decides instead of grants, it is asked again.
func TestS13HubTakesBack(t *testing.T) {
	w := newWorld(t, watched, func(o *Options) { o.Lenient = true; o.Reviewed = time.Minute })
	w.grants(nil)
	watch := w.opened("prod/proxy" + pods + "?watch=true")
	w.hub.mu.Lock()
	w.hub.answer = hub.Answer{}
	w.hub.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if layer, _ := endOf(t, watch); layer != decisionlog.LayerHub {
			t.Errorf("it ended by layer %q", layer)
		}
	}()
	for {
		w.clock.Step(time.Minute) // again, in case that the ticker was not there yet
		select {
		case <-ended:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// TestConnects: a WebSocket that executes has to be granted as what it is, and as the
// create that it stands for.
func TestConnects(t *testing.T) {
	with := func(verbs ...string) compile.Grant {
		return oncall(func(s *v1alpha1.AccessGrantSpec) { s.Access[0].Rules[0].Verbs = verbs })
	}
	for name, tc := range map[string]struct {
		grant    compile.Grant
		get, pos int
	}{
		"Both":       {with("get", "create"), 200, 200},
		"GetOnly":    {with("get"), 403, 403},
		"CreateOnly": {with("create"), 403, 200},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, ok)
			w.grants(nil, tc.grant)
			for method, want := range map[string]int{http.MethodGet: tc.get, http.MethodPost: tc.pos} {
				if resp, body := w.ask(method, "prod/proxy"+pods+"/api-0/exec"); resp.StatusCode != want {
					t.Errorf("%s: %s, want %d: %s", method, resp.Status, want, body)
				}
			}
		})
	}
}

// TestAnswerHeaders: a member does not speak for the server that all members are behind.
func TestAnswerHeaders(t *testing.T) {
	var id string
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		id = r.Header.Get("Audit-Id")
		for _, name := range notTheMembers {
			rw.Header().Set(name, "the member's")
		}
		ok(rw, r)
	})
	resp, _ := w.ask(http.MethodGet, "prod/proxy"+pods, func(r *http.Request) { r.Header.Set("Audit-Id", "the caller's") })
	for _, name := range notTheMembers {
		if got := resp.Header.Get(name); got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if e := w.log.last(); id == "" || id != e.ID {
		t.Errorf("the member knows the request as %q, the log as %q", id, e.ID)
	}
}

// TestCredentialRefused: that the gateway is not known to a member is nothing that the
// person could log in against.
func TestCredentialRefused(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Www-Authenticate", "Bearer")
		rw.WriteHeader(http.StatusUnauthorized)
	})
	resp, body := w.ask(http.MethodGet, "prod/proxy"+pods)
	if layer, _ := layerOf(t, body); resp.StatusCode != http.StatusServiceUnavailable || layer != decisionlog.LayerMember || resp.Header.Get("Www-Authenticate") != "" {
		t.Errorf("%s, layer %q: %s", resp.Status, layer, body)
	}
}

// TestS23OnTheWire: the member gets the bytes that were judged.
func TestS23OnTheWire(t *testing.T) {
	got := make(chan string, 1)
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		got <- r.RequestURI
		ok(rw, r)
	})
	for _, path := range []string{
		pods, pods + "/", pods + "/api-0?pretty=%54rue", pods + "/a%3Ab", pods + "/%61pi-0?x=%2F..%2f&y=a+b&z", pods + "/a:b@c!$&'()*+,=~", pods + "?",
	} {
		line, body := w.raw(path, "")
		select {
		case uri := <-got:
			if strings.TrimSuffix(uri, "?") != strings.TrimSuffix(path, "?") { // nothing after it is no query
				t.Errorf("%q came to the member as %q", path, uri)
			}
		default:
			t.Errorf("%q did not come to the member: %s%s", path, line, body)
		}
	}
	for _, path := range []string{
		pods + "/../../../secrets", pods + "/%2e%2e/secrets", pods + "/..%2fsecrets", "/" + pods, pods + "//api-0", pods + "/a%00", pods + "/a%5c..", pods + "/a;b", pods + "?a=1;watch=1", pods + "/%c3", pods + "/é",
	} {
		if line, body := w.raw(path, ""); !strings.Contains(line, " 400 ") {
			t.Errorf("%q: %s%s", path, line, body)
		}
		select {
		case uri := <-got:
			t.Errorf("%q came to the member as %q", path, uri)
		default:
		}
	}
}

// raw sends a GET by HTTP/1.1 as it is written here, and returns the status line and the
// body of the answer.
func (w *world) raw(path, headers string) (line, body string) {
	w.Helper()
	conn := w.dial()
	defer conn.Close()
	fmt.Fprintf(conn, "GET %sprod/proxy%s HTTP/1.1\r\nHost: hub\r\nX-Test-User: alice\r\nX-Test-Groups: devs\r\nConnection: close\r\n%s\r\n", Prefix, path, headers)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	return resp.Proto + " " + resp.Status + " ", string(raw)
}

// TestStreaming: each part of a body, in both directions, is there before the next is
// sent: nothing waits for an end.
func TestStreaming(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(rw).EnableFullDuplex()
		in := bufio.NewReader(r.Body)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprint(rw, "got ", line)
			_ = http.NewResponseController(rw).Flush()
		}
	})
	in, out := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.server.URL+Prefix+"prod/proxy"+pods+"/api-0/exec", in)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"X-Test-User": {"alice"}, "X-Test-Groups": {"devs"}}
	go func() { fmt.Fprintln(out, "1") }()
	resp, err := w.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	for i := 1; i < 4; i++ {
		if line, err := body.ReadString('\n'); err != nil || line != fmt.Sprintf("got %d\n", i) {
			t.Fatalf("%d: %q, %v", i, line, err)
		}
		fmt.Fprintln(out, i+1)
	}
	out.Close()
}

// TestWatchWithin: where a member was cut within an event, there is no place for another.
func TestWatchWithin(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprint(rw, `{"type":"ADDED"}`+"\n"+`{"type":`)
		_ = http.NewResponseController(rw).Flush()
		<-r.Context().Done()
	})
	watch := w.opened("prod/proxy" + pods + "?watch=true")
	if _, err := io.ReadFull(watch, make([]byte, len(`{"type":`))); err != nil {
		t.Fatal(err)
	}
	w.grants(nil)
	if rest, err := io.ReadAll(watch); err == nil || len(rest) > 0 {
		t.Errorf("it ended with %q, %v", rest, err)
	}
}

// TestS13UntilIsExact: a session is cut at the instant at which its grant ends, not before.
func TestS13UntilIsExact(t *testing.T) {
	w := newWorld(t, watched)
	w.grants(nil, oncall(func(s *v1alpha1.AccessGrantSpec) {
		s.Validity = &v1alpha1.Validity{NotAfter: &metav1.Time{Time: noon.Add(time.Hour)}}
	}))
	watch := w.opened("prod/proxy" + pods + "?watch=true")
	w.clock.Step(time.Hour - time.Nanosecond)
	if resp, _ := w.ask(http.MethodGet, "prod/proxy"+pods+"/api-0"); resp.StatusCode != http.StatusOK {
		t.Errorf("a moment before the end: %s", resp.Status)
	}
	w.clock.Step(time.Nanosecond)
	if layer, _ := endOf(t, watch); layer != decisionlog.LayerGrant {
		t.Errorf("it ended by layer %q", layer)
	}
}

func (w *world) dial() *tls.Conn {
	w.Helper()
	conn, err := tls.Dial("tcp", w.server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		w.Fatal(err)
	}
	return conn
}
