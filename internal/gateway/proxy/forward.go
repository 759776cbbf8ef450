package proxy

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/sallyport-dev/sallyport/internal/decisionlog"
	"github.com/sallyport-dev/sallyport/internal/transport"
)

// forward the request to the member, as the person, and the answer back. Bodies pass as
// they come, in both directions.
func (p *passage) forward(route *transport.Route) {
	ctx, span := p.Tracer.Start(p.r.Context(), "member")
	defer span.End()
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { p.rewrite(r, route) },
		Transport:     route.Transport,
		FlushInterval: p.flush(),
		BufferPool:    p.pool(),
		ErrorLog:      silent,
		ModifyResponse: func(resp *http.Response) error {
			span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
			return p.answered(resp)
		},
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) { p.failed(r.Context(), err) },
	}
	proxy.ServeHTTP(p.w, p.r.WithContext(ctx))
}

// rewrite is of the request to the member. Hop-by-hop headers, and those that the caller
// names in Connection, have been taken off before: nothing that is set here can be (S1).
func (p *passage) rewrite(r *httputil.ProxyRequest, route *transport.Route) {
	out := r.Out
	out.URL = &url.URL{Scheme: route.URL.Scheme, Host: route.URL.Host, RawQuery: p.target.query}
	base := strings.TrimSuffix(route.URL.Path, "/")
	out.URL.Path, out.URL.RawPath = base+p.target.path, strings.TrimSuffix(route.URL.EscapedPath(), "/")+p.target.raw
	out.Host = route.URL.Host
	p.identity.set(out.Header)
	out.Header["Audit-Id"] = []string{p.id} // the member's audit log has it, too
}

// errCredential: 401 would tell the person that they are not known, and it is the
// gateway that is not.
var errCredential = errors.New("the member does not take the gateway's credential")

// answered is called with the member's answer before it is passed on.
func (p *passage) answered(resp *http.Response) error {
	if resp.StatusCode == http.StatusUnauthorized {
		return errCredential
	}
	q := &p.session.ask
	p.Metrics.answered(q.Cluster, q.Verb, resp.StatusCode)
	for _, name := range notTheMembers {
		delete(resp.Header, name)
	}
	p.warnings(resp.Header)
	if resp.StatusCode == http.StatusForbidden {
		// The member's own words follow. Without this, nobody could tell who spoke.
		because := "no grant"
		if len(p.decision.Because) > 0 {
			because = "grant " + p.decision.Because[0].Grant.Key()
		}
		warn(resp.Header, "this answer is of the RBAC of cluster "+q.Cluster+"; Sallyport let the request through by "+because)
		p.log(decisionlog.Deny, decisionlog.LayerMember, resp.StatusCode)
	}
	switch {
	case p.long:
		sessionBodyOf(p.r.Context(), resp, q, p.id)
	case resp.ContentLength < 0 && isDocument(resp.Header.Get("Content-Type")):
		resp.ContentLength = 0 // it is looked at by what decides on flushing only: see flush
	}
	return nil
}

// flush after each part of a session's answer. Of others ReverseProxy does so where their
// length is not known; of a document, which is of no use before its end, that is in vain,
// and costs a record of TLS for each part.
func (p *passage) flush() time.Duration {
	if p.long {
		return -1
	}
	return 0
}

// isDocument reports whether a type is of one object, and of no stream of them.
func isDocument(contentType string) bool {
	base, parameters, _ := strings.Cut(contentType, ";")
	return (base == "application/json" || base == "application/vnd.kubernetes.protobuf") && !strings.Contains(parameters, "stream")
}

// notTheMembers are headers of answers by which a member would speak for the server that
// the client knows: all members are behind one, and a browser would believe it (S9). The
// ID is the gateway's to tell.
var notTheMembers = []string{
	"Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Allow-Origin",
	"Access-Control-Expose-Headers", "Alt-Svc", "Audit-Id", "Clear-Site-Data", "Set-Cookie", "Strict-Transport-Security",
}

// failed is called where there is no answer of the member's.
func (p *passage) failed(ctx context.Context, err error) {
	q := &p.session.ask
	if c, ok := cutOf(ctx); ok {
		c.write(p.w, q, p.id)
		return
	}
	if ctx.Err() != nil { // the caller has gone
		panic(http.ErrAbortHandler)
	}
	f := unavailable(q.Cluster, err)
	switch {
	case errors.Is(err, errCredential):
		f.message = "cluster \"" + q.Cluster + "\" does not take the credential of Sallyport's impersonator there"
	case errors.Is(err, transport.ErrRedirect):
		f = &refusal{layer: decisionlog.LayerMember, code: http.StatusBadGateway, message: "cluster \"" + q.Cluster + "\" answered with a redirect, which is neither followed nor passed on"}
	case errors.Is(err, transport.ErrNobody):
		f = &refusal{layer: decisionlog.LayerIdentity, code: http.StatusUnauthorized, message: "Unauthorized"}
	}
	p.Metrics.answered(q.Cluster, q.Verb, f.code)
	p.log(decisionlog.Deny, f.layer, f.code)
	f.write(p.w, q, p.id)
}

// silent: what ReverseProxy logs may quote addresses and what a member said.
var silent = log.New(io.Discard, "", 0)

// pool of buffers that fit the answer.
func (p *passage) pool() httputil.BufferPool {
	if p.session.ask.Verb == "watch" {
		return idle{}
	}
	return &p.buffers
}

// buffers that bodies are copied with.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

// Get a buffer.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return p[:]
	}
	return make([]byte, bufferSize)
}

// Put it back.
func (b *buffers) Put(p []byte) {
	if len(p) == bufferSize {
		b.pool.Put((*[bufferSize]byte)(p))
	}
}

// idle is of watches: there may be thousands, each has its buffer for as long as it
// lasts, and most of them say little.
type idle struct{}

// Get a small buffer.
func (idle) Get() []byte { return make([]byte, 4<<10) }

// Put has nothing to keep.
func (idle) Put([]byte) {}
