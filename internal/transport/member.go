package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Bounds of a connection to a member. A member that is gone is noticed within them;
// its answers take as long as they take.
const (
	dialTimeout      = 3 * time.Second
	handshakeTimeout = 5 * time.Second
	idleTimeout      = 90 * time.Second
	// unacknowledged is how long what was sent may stay so.
	unacknowledged = 10 * time.Second
	// idleConnections that are kept for one member: above it, a burst dials anew.
	idleConnections = 128
)

// Dialer opens a connection to HOST:PORT.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// member is what a route is made of.
type member struct {
	route      Route
	key        string // see description
	credential atomic.Pointer[credential]
	breaker    breaker
	base       *http.Transport
}

// newMember is the one constructor of transports by which people's requests reach
// members (S8). Nothing in it falls back to anything.
func newMember(d *description, o *MembersOptions) *member {
	m := &member{key: d.key}
	m.credential.Store(&d.credential)
	dial := direct
	if d.tunnelled {
		if dial = o.Tunnel; dial == nil {
			dial = func(context.Context, string, string) (net.Conn, error) {
				return nil, errors.New("there is no tunnel of cluster-proxy")
			}
		}
	}
	dial = o.Metrics.counting(d.cluster, dial)
	config := &tls.Config{RootCAs: d.roots, ServerName: d.serverName, MinVersion: tls.VersionTLS12}
	if config.ServerName == "" {
		config.ServerName = d.server.Hostname()
	}
	if o.HTTP2 {
		config.NextProtos = []string{"h2", "http/1.1"}
	}
	m.base = &http.Transport{
		// Of the environment nothing is asked: no proxy.
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := connect(ctx, dial, network, address, config)
			switch {
			case err == nil:
				m.breaker.success()
			case !errors.Is(err, context.Canceled):
				m.breaker.failure(o.Now())
				o.Metrics.failed(d.cluster)
			}
			return conn, err
		},
		ForceAttemptHTTP2:   o.HTTP2,
		MaxIdleConnsPerHost: idleConnections,
		IdleConnTimeout:     idleTimeout,
		DisableCompression:  true, // bodies pass as they are
		// What a member says before it is asked is nothing that anybody waits for.
		MaxResponseHeaderBytes: 1 << 20,
	}
	m.route = Route{Cluster: d.cluster, URL: d.server, Transport: &impersonating{m, noRedirects{m.base}}}
	return m
}

// connect by TLS.
func connect(ctx context.Context, dial Dialer, network, address string, config *tls.Config) (net.Conn, error) {
	dialling, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := dial(dialling, network, address)
	if err != nil {
		return nil, err
	}
	shaking, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(shaking); err != nil {
		raw.Close()
		return nil, fmt.Errorf("cannot shake hands: %w", err)
	}
	return conn, nil
}

// impersonating sends requests as a member's impersonator.
type impersonating struct {
	member *member
	to     http.RoundTripper
}

// ErrNobody is the error of a request that says of nobody that it is on their behalf,
// or of more than one: the impersonator has no business of its own (S6).
var ErrNobody = errors.New("a request to a member is on behalf of exactly one user")

// ErrRedirect is the error of a request that a member answered with a redirect: it is
// neither followed nor passed on (S4).
var ErrRedirect = errRedirect

// RoundTrip sends a request that has no credential yet.
func (t *impersonating) RoundTrip(r *http.Request) (*http.Response, error) {
	users := r.Header["Impersonate-User"]
	_, other := r.Header["Authorization"]
	if len(users) != 1 || strings.TrimSpace(users[0]) == "" || other {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, ErrNobody
	}
	// The request is not the transport's to change, and its headers are changed.
	sent := *r
	sent.Header = r.Header.Clone()
	sent.Header["Authorization"] = []string{"Bearer " + t.member.credential.Load().token}
	return t.to.RoundTrip(&sent)
}

// direct dials, and notices a peer that is gone.
var direct Dialer = (&net.Dialer{
	KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	Control:         control,
}).DialContext
