package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// TestMemberCredentials: S9. What a member is sent is its own token and no other's; a
// new one is used at once, over the connection that there is.
func TestMemberCredentials(t *testing.T) {
	a, seenA := memberServer(t, nil)
	b, seenB := memberServer(t, nil)
	m := NewMembers("sallyport-gateway", MembersOptions{})
	set(t, m, routeTo("a", a, "token-a"))
	set(t, m, routeTo("b", b, "token-b"))
	var first asked
	for range 2 {
		for cluster, seen := range map[string]chan asked{"a": seenA, "b": seenB} {
			if err := send(t, route(t, m, cluster)); err != nil {
				t.Fatal(err)
			}
			got := <-seen
			if got.authorization != "Bearer token-"+cluster || got.user != "alice" {
				t.Errorf("%s was asked with %+v", cluster, got)
			}
			if cluster == "a" {
				first = got
			}
		}
	}
	before := route(t, m, "a")
	set(t, m, routeTo("a", a, "token-new"))
	if route(t, m, "a") != before {
		t.Error("a new token makes another route, and so drops the connections")
	}
	if err := send(t, before); err != nil {
		t.Fatal(err)
	}
	if got := <-seenA; got.authorization != "Bearer token-new" || got.connection != first.connection {
		t.Errorf("after the token was replaced, the member was asked with %+v, before with %+v", got, first)
	}
	set(t, m, routeTo("a", b, "token-a"))
	if route(t, m, "a") == before {
		t.Error("another server is reached by the same route")
	}
	m.Remove("a")
	if _, err := m.Route("a"); !isUnavailable(err, "has no route") {
		t.Errorf("without a Secret: %v", err)
	}
}

// TestS6Nobody: a request on behalf of nobody, of two, or with a credential of its own
// is not sent.
func TestS6Nobody(t *testing.T) {
	server, seen := memberServer(t, nil)
	m := NewMembers("sallyport-gateway", MembersOptions{})
	set(t, m, routeTo("a", server, "token"))
	r := route(t, m, "a")
	for name, change := range map[string]func(http.Header){
		"Nobody": func(http.Header) {},
		"Empty":  func(h http.Header) { h.Set("Impersonate-User", "") },
		"Blank":  func(h http.Header) { h.Set("Impersonate-User", " ") },
		"Two":    func(h http.Header) { h["Impersonate-User"] = []string{"alice", "bob"} },
		"Own": func(h http.Header) {
			h.Set("Impersonate-User", "alice")
			h.Set("Authorization", "Bearer mine")
		},
		"OwnByCase": func(h http.Header) {
			h.Set("Impersonate-User", "alice")
			h["authorization"] = []string{"Bearer mine"}
		},
		"TwoByCase": func(h http.Header) {
			h.Set("Impersonate-User", "alice")
			h["impersonate-user"] = []string{"bob"}
		},
	} {
		request := requestAs(t, r, "")
		change(request.Header)
		if _, err := r.Transport.RoundTrip(request); !errors.Is(err, ErrNobody) {
			t.Errorf("%s: got %v, want %v", name, err, ErrNobody)
		}
	}
	if len(seen) > 0 {
		t.Errorf("the member was asked: %+v", <-seen)
	}
}

// TestS4MembersRedirect: a redirect is an error, also where an upgrade was asked for.
func TestS4MembersRedirect(t *testing.T) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		server, seen := memberServer(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", code)
		})
		m := NewMembers("sallyport-gateway", MembersOptions{})
		set(t, m, routeTo("a", server, "token"))
		r := route(t, m, "a")
		for _, upgrade := range []bool{false, true} {
			request := requestAs(t, r, "alice")
			if upgrade {
				request.Header.Set("Connection", "Upgrade")
				request.Header.Set("Upgrade", "SPDY/3.1")
			}
			if resp, err := r.Transport.RoundTrip(request); !errors.Is(err, ErrRedirect) {
				t.Errorf("%d, upgrade %t: got %v, %v", code, upgrade, resp, err)
			}
			<-seen
		}
	}
}

// TestUpgrade: what is switched to is a connection in both directions, also where
// requests share HTTP/2 connections, by which nothing can be switched to.
func TestUpgrade(t *testing.T) {
	protocols := make(chan string, 1)
	server, _ := memberServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			protocols <- r.Proto
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		line, _ := buffered.ReadString('\n')
		fmt.Fprint(conn, line)
	})
	for want, o := range map[string]MembersOptions{"HTTP/1.1": {}, "HTTP/2.0": {HTTP2: true}} {
		m := NewMembers("sallyport-gateway", o)
		set(t, m, routeTo("a", server, "token"))
		r := route(t, m, "a")
		if err := send(t, r); err != nil {
			t.Fatal(err)
		}
		if got := <-protocols; got != want {
			t.Errorf("a request is by %s, want %s", got, want)
		}
		for _, protocol := range []string{"SPDY/3.1", "websocket"} {
			request := requestAs(t, r, "alice")
			request.Header.Set("Connection", "Upgrade")
			request.Header.Set("Upgrade", protocol)
			resp, err := r.Transport.RoundTrip(request)
			if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("%s beside %s: got %v, %v", protocol, want, resp, err)
			}
			both, ok := resp.Body.(io.ReadWriteCloser)
			if !ok {
				t.Fatal("the body cannot be written to")
			}
			fmt.Fprint(both, "hello\n")
			if got, err := bufio.NewReader(both).ReadString('\n'); got != "hello\n" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			both.Close()
		}
		m.Remove("a")
	}
}

// TestDown: a member that cannot be connected to is not asked for a while; then one
// request tries. Others are reached all the time, and to look takes no turn.
func TestDown(t *testing.T) {
	up, _ := memberServer(t, nil)
	gone := errors.New("gone")
	var dials atomic.Int32
	var now atomic.Int64
	at := func(s int) { now.Store(int64(s) * int64(time.Second)) }
	at(100)
	m := NewMembers("sallyport-gateway", MembersOptions{
		Now: func() time.Time { return time.Unix(0, now.Load()) },
		Tunnel: func(context.Context, string, string) (net.Conn, error) {
			dials.Add(1)
			return nil, gone
		},
	})
	set(t, m, routeTo("up", up, "token"))
	behind := routeTo("down", up, "token")
	behind.Data[v1alpha1.RouteVia] = []byte(v1alpha1.RouteViaClusterProxy)
	set(t, m, behind)

	first := route(t, m, "down")
	if err := send(t, first); !errors.Is(err, gone) {
		t.Fatalf("a member that is down: %v", err)
	}
	refused := func(reason string) {
		t.Helper()
		before := dials.Load()
		if _, err := m.Route("down"); !isUnavailable(err, "does not answer") {
			t.Errorf("%s Got a route, or %v.", reason, err)
		}
		if err := send(t, first); !isUnavailable(err, "does not answer") {
			t.Errorf("%s By the route of before: %v.", reason, err)
		}
		if dials.Load() != before {
			t.Errorf("%s It was dialled.", reason)
		}
		if err := send(t, route(t, m, "up")); err != nil {
			t.Errorf("another member is harmed: %v", err)
		}
	}
	refused("It has just failed.")
	at(101)
	for range 3 { // looks
		route(t, m, "down")
	}
	if err := send(t, first); !errors.Is(err, gone) {
		t.Fatalf("nobody tries: %v", err)
	}
	at(102)
	refused("It waits longer after the second failure.")
	at(103)
	if err := send(t, route(t, m, "down")); !errors.Is(err, gone) {
		t.Fatalf("nobody tries: %v", err)
	}
	set(t, m, routeTo("down", up, "token")) // it is elsewhere
	for range 3 {
		if err := send(t, route(t, m, "down")); err != nil {
			t.Errorf("it is back: %v", err)
		}
	}
}

func TestExpired(t *testing.T) {
	server, _ := memberServer(t, nil)
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	m := NewMembers("sallyport-gateway", MembersOptions{Now: func() time.Time { return now }})
	s := routeTo("a", server, "token")
	s.Annotations[v1alpha1.RouteExpiresAnnotation] = "2030-01-01T01:00:00Z"
	set(t, m, s)
	route(t, m, "a")
	now = now.Add(time.Hour)
	if _, err := m.Route("a"); !isUnavailable(err, "expired") {
		t.Errorf("after its end: %v", err)
	}
}

// TestRefusedRoutes: what cannot be used is no route, and no error tells what it was.
func TestRefusedRoutes(t *testing.T) {
	server, _ := memberServer(t, nil)
	const secret = "canary"
	for name, tc := range map[string]struct {
		key, value, want string
	}{
		"HTTP":      {v1alpha1.RouteServer, "http://" + secret, "data.server"},
		"Userinfo":  {v1alpha1.RouteServer, "https://a:" + secret + "@h", "data.server"},
		"NoURL":     {v1alpha1.RouteServer, "%zz" + secret, "data.server"},
		"NoCA":      {v1alpha1.RouteCA, secret, "data[ca.crt]"},
		"NoToken":   {v1alpha1.RouteToken, "", "data.token"},
		"Injection": {v1alpha1.RouteToken, secret + "\r\nImpersonate-User: root", "data.token"},
		"Via":       {v1alpha1.RouteVia, secret, "data.via"},
		"NoTunnel":  {v1alpha1.RouteVia, v1alpha1.RouteViaClusterProxy, "no entrypoint"},
	} {
		m := NewMembers("sallyport-gateway", MembersOptions{})
		set(t, m, routeTo("a", server, "token"))
		s := routeTo("a", server, "token")
		s.Data[tc.key] = []byte(tc.value)
		err := m.Set(s)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: got %v, want an error that names %s alone", name, err, tc.want)
		}
		if m.Has("a") {
			t.Errorf("%s: what was there before is still used", name)
		}
	}
	for name, change := range map[string]func(*corev1.Secret){
		"Type":    func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque },
		"Label":   func(s *corev1.Secret) { delete(s.Labels, v1alpha1.ManagedByLabel) },
		"Name":    func(s *corev1.Secret) { s.Name = "route-b" },
		"Cluster": func(s *corev1.Secret) { s.Labels[v1alpha1.ClusterLabel] = "b" },
		"Leaves":  func(s *corev1.Secret) { s.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} },
	} {
		for _, before := range []bool{false, true} {
			m := NewMembers("sallyport-gateway", MembersOptions{})
			s := routeTo("a", server, "token")
			if before && name != "Name" {
				set(t, m, s)
			}
			change(s)
			if err := m.Set(s); err != nil || m.Has("a") || m.Has("b") {
				t.Errorf("%s, with a route before: %t: %v, still has one", name, before, err)
			}
		}
	}
	for _, namespace := range []string{"", "tenant"} { // S24
		m := NewMembers("sallyport-gateway", MembersOptions{})
		set(t, m, routeTo("a", server, "token"))
		s := routeTo("a", server, "stolen")
		s.Namespace, s.Labels = namespace, nil
		if err := m.Set(s); err != nil || !m.Has("a") {
			t.Errorf("a Secret of namespace %q counts: %v", namespace, err)
		}
		m = NewMembers(namespace, MembersOptions{})
		set(t, m, routeTo("a", server, "token"))
		if m.Has("a") {
			t.Errorf("Members of namespace %q read those of another", namespace)
		}
	}
}

// TestVerified: a member with another certificate gets no token.
func TestVerified(t *testing.T) {
	server, seen := memberServer(t, nil)
	ca, _ := keyPair(t)
	m := NewMembers("sallyport-gateway", MembersOptions{})
	s := routeTo("a", server, "token")
	s.Data[v1alpha1.RouteCA] = ca
	set(t, m, s)
	if err := send(t, route(t, m, "a")); err == nil || bytes.Contains([]byte(err.Error()), []byte("token")) {
		t.Errorf("got %v", err)
	}
	if len(seen) > 0 {
		t.Error("the member was asked")
	}
}
