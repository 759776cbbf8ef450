package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
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
	// pingAfter is how long an HTTP/2 connection may say nothing.
	pingAfter = 15 * time.Second
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
	// requests and upgrades are by one pool, unless requests share HTTP/2 connections:
	// only HTTP/1.1 switches protocols.
	requests, upgrades *http.Transport
}

// newMember is the one constructor of transports by which people's requests reach
// members (S8). Nothing in it falls back to anything.
func newMember(d *description, o *MembersOptions) *member {
	m := &member{key: d.key}
	m.credential.Store(&d.credential)
	dial := direct
	if d.tunnelled {
		dial = o.Tunnel
	}
	config := &tls.Config{RootCAs: d.roots, ServerName: d.serverName, MinVersion: tls.VersionTLS12}
	if config.ServerName == "" {
		config.ServerName = d.server.Hostname()
	}
	m.upgrades = m.pool(o.Metrics.counting(d.cluster, dial), config, o)
	m.requests = m.upgrades
	if o.HTTP2 || d.tunnelled { // see ClusterProxy
		shared := config.Clone()
		shared.NextProtos = []string{"h2", "http/1.1"}
		m.requests = m.pool(o.Metrics.counting(d.cluster, dial), shared, o)
		m.requests.ForceAttemptHTTP2 = true
		m.requests.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: unacknowledged}
	}
	m.route = Route{Cluster: d.cluster, URL: d.server, Transport: noRedirects{&impersonating{m}}}
	return m
}

// pool of connections to the member.
func (m *member) pool(dial Dialer, config *tls.Config, o *MembersOptions) *http.Transport {
	return &http.Transport{
		// Of the environment nothing is asked: no proxy.
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if wait := m.breaker.try(o.Now()); wait > 0 {
				return nil, m.down(wait)
			}
			conn, err := connect(ctx, dial, network, address, config)
			switch {
			case err == nil:
				m.breaker.success()
			case ctx.Err() != nil:
				m.breaker.abandoned()
			default:
				m.breaker.failure(o.Now())
				o.Metrics.failed(m.route.Cluster)
			}
			return conn, err
		},
		MaxIdleConnsPerHost: idleConnections,
		IdleConnTimeout:     idleTimeout,
		DisableCompression:  true, // bodies pass as they are
		// A member may not fill the memory of the gateway with its headers.
		MaxResponseHeaderBytes: 1 << 20,
	}
}

func (m *member) down(wait time.Duration) *Unavailable {
	return &Unavailable{Cluster: m.route.Cluster, Reason: "does not answer", RetryAfter: wait}
}

// close the connections that nobody uses. One in use ends with its request.
func (m *member) close() {
	m.requests.CloseIdleConnections()
	m.upgrades.CloseIdleConnections()
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

// ErrNobody is the error of a request that says of nobody that it is on their behalf,
// or of more than one: the impersonator has no business of its own (S6).
var ErrNobody = errors.New("a request to a member is on behalf of exactly one user")

// ErrRedirect is the error of a request that a member answered with a redirect: it is
// neither followed nor passed on (S4).
var ErrRedirect = errRedirect

// impersonating sends requests as a member's impersonator.
type impersonating struct{ member *member }

// RoundTrip sends a request that has no credential yet.
func (t *impersonating) RoundTrip(r *http.Request) (*http.Response, error) {
	if !onBehalf(r.Header) {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, ErrNobody
	}
	// The request is not the transport's to change, and its headers are changed.
	sent := *r
	sent.Header = maps.Clone(r.Header)
	sent.Header["Authorization"] = t.member.credential.Load().authorization
	by := t.member.requests
	if len(r.Header["Upgrade"]) > 0 {
		by = t.member.upgrades
	}
	resp, err := by.RoundTrip(&sent)
	if err == nil {
		t.member.breaker.success()
	}
	return resp, err
}

// onBehalf of exactly one user, and with no credential. Keys are looked at in whatever
// case they are, since a member does not tell them apart.
func onBehalf(h http.Header) bool {
	users := 0
	for key, values := range h {
		switch {
		case strings.EqualFold(key, "Authorization"):
			return false
		case strings.EqualFold(key, "Impersonate-User"):
			for _, user := range values {
				if strings.TrimSpace(user) == "" {
					return false
				}
			}
			users += len(values)
		}
	}
	return users == 1
}

// direct dials, and notices a peer that is gone.
var direct Dialer = (&net.Dialer{
	KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	Control:         control,
}).DialContext
