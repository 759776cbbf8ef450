package proxy

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/utils/clock"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
	"github.com/sallyport-dev/sallyport/internal/gateway/caller"
	"github.com/sallyport-dev/sallyport/internal/gateway/hub"
	"github.com/sallyport-dev/sallyport/internal/transport"
)

// Prefix of the paths that lead to members.
const Prefix = "/apis/proxy.sallyport.dev/v1alpha1/clusters/"

// Index is the latest view of what people may do.
type Index interface {
	// Current is nil until there is one, and then refuses everything.
	Current() *effective.Index
	// Subscribe has f called after each change, until stop is.
	Subscribe(f func(*effective.Index)) (stop func())
}

// Members are the routes to them; the error is a *transport.Unavailable.
type Members interface {
	Route(cluster string) (*transport.Route, error)
}

// Hub answers whether somebody may use clusters/proxy.
type Hub interface {
	Review(ctx context.Context, q *hub.Question) (hub.Answer, error)
}

// Options of New. What is not said to be optional is required.
type Options struct {
	Index   Index
	Members Members
	Hub     Hub
	// Log takes every decision; optional.
	Log decisionlog.Logger
	// Lenient has the hub decide where no grant does. The zero value is strict: no grant,
	// no access.
	Lenient bool
	// Exempt are users, by name, whom neither guardrails nor the want of a grant stop. The
	// hub and the member are asked about them as about all.
	Exempt []string
	// Extra of identities that members are told.
	Extra  Extra
	Limits Limits
	// Timeout of what ends by itself; none if zero.
	Timeout time.Duration
	// Reviewed is how often sessions that no grant carries are asked about again at the
	// hub; 30 s if zero. It matters only where Lenient or Exempt are set.
	Reviewed time.Duration
	// Help is told to whoever has no grant, such as where to read on; optional.
	Help string
	// Clock is the real one if nil.
	Clock clock.WithTicker
	// Metrics and Tracer are optional.
	Metrics *Metrics
	Tracer  trace.Tracer
}

// Handler proxies requests whose context has an authenticated user. See Run.
type Handler struct {
	Options
	sessions *sessions
	extra    extraHeaders
	// shorts and longs are what is under way.
	shorts, longs budget
	buffers       buffers
}

// New makes a handler.
func New(o Options) *Handler {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Tracer == nil {
		o.Tracer = noop.NewTracerProvider().Tracer("")
	}
	if o.Reviewed == 0 {
		o.Reviewed = 30 * time.Second
	}
	return &Handler{
		Options: o, sessions: newSessions(), extra: o.Extra.headers(),
		shorts: budget{total: o.Limits.Requests, perUser: o.Limits.RequestsPerUser, perCluster: o.Limits.RequestsPerCluster},
		longs:  budget{total: o.Limits.Sessions, perUser: o.Limits.SessionsPerUser},
	}
}

// passage of one request through the layers.
type passage struct {
	*Handler
	w        http.ResponseWriter
	r        *http.Request
	id       string
	began    time.Time
	target   *target
	long     bool
	identity identity
	decision effective.Decision
	session  *session
}

// ServeHTTP answers a request to a path below Prefix.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := &passage{Handler: h, w: w, r: r, began: h.Clock.Now(), session: &session{}}
	p.id = requestID(r)
	release, refused := p.enter()
	if refused != nil {
		p.refuse(refused)
		return
	}
	defer release()
	route, refused := p.admit()
	if refused != nil {
		p.refuse(refused)
		return
	}
	p.log(decisionlog.Allow, "", 0)
	p.forward(route)
}

// requestID is the one by which the API server's audit knows it, or a new one.
func requestID(r *http.Request) string {
	if id := audit.GetAuditIDTruncated(r.Context()); id != "" {
		return id
	}
	return uuid.NewString()
}

// enter is identity, path and limits. The request is then a session, which release ends.
func (p *passage) enter() (release func(), _ *refusal) {
	p.session.ask.At = p.began
	u, err := caller.From(p.r.Context())
	if err != nil {
		return nil, &refusal{layer: decisionlog.LayerIdentity, code: http.StatusUnauthorized, message: "Unauthorized"}
	}
	p.session.ask.User = *u
	if p.r.ProtoMajor > 1 && p.r.Header.Get("Upgrade") != "" {
		return nil, &refusal{layer: decisionlog.LayerRequest, code: http.StatusBadRequest, message: "protocols are switched over HTTP/1.1 only"}
	}
	if p.target, err = parseTarget(Prefix, p.r); err != nil {
		return nil, &refusal{layer: decisionlog.LayerRequest, code: http.StatusBadRequest, message: err.Error()}
	}
	q, err := attributesOf(p.target, p.r.Method, u)
	if err != nil {
		return nil, &refusal{layer: decisionlog.LayerRequest, code: http.StatusBadRequest, message: err.Error()}
	}
	q.At = p.began
	p.long = longRunning(q, p.r)
	of := &p.shorts
	if p.long {
		of = &p.longs
	}
	free, why := of.take(u.Name, p.target.cluster)
	if free == nil {
		return nil, &refusal{layer: decisionlog.LayerLimit, code: http.StatusTooManyRequests, message: why, retry: time.Second}
	}
	ctx, cancel := context.WithCancelCause(p.r.Context())
	p.session = &session{id: p.id, ask: *q, method: p.r.Method, exempt: slices.Contains(p.Exempt, u.Name), cancel: cancel}
	if !p.sessions.add(p.session) {
		free()
		cancel(nil)
		return nil, &refusal{layer: decisionlog.LayerLimit, code: http.StatusServiceUnavailable, message: "this replica is ending", retry: time.Second}
	}
	late := func() bool { return true }
	if p.Timeout > 0 && !p.long {
		late = time.AfterFunc(p.Timeout, func() {
			cancel(cut{&refusal{layer: decisionlog.LayerMember, code: http.StatusGatewayTimeout, message: "the cluster did not answer in time"}})
		}).Stop
	}
	p.r = p.r.WithContext(ctx)
	return func() {
		late()
		p.sessions.remove(p.session)
		free()
		cancel(nil)
	}, nil
}

// admit is guardrails, grants, hub, and the route to the member.
func (p *passage) admit() (*transport.Route, *refusal) {
	q := &p.session.ask
	_, span := p.Tracer.Start(p.r.Context(), "decide")
	var ix *effective.Index
	for known := false; !known; known = p.sessions.decided(p.session, &p.decision) {
		ix = p.Index.Current()
		p.decision = ix.DecideConnect(q)
	}
	span.SetAttributes(attribute.String("sallyport.cluster", q.Cluster), attribute.String("sallyport.verdict", p.decision.Verdict.String()))
	span.End()
	if refused := p.judged(p.session, &p.decision); refused != nil {
		return nil, refused
	}
	if refused := p.reviewed(p.r.Context(), q, &p.decision, p.r.Method); refused != nil {
		return nil, refused
	}
	var err error
	if p.identity, err = identityOf(&q.User, ix.Groups(&q.User, q.Cluster, q.At), p.extra); err != nil {
		return nil, &refusal{layer: decisionlog.LayerIdentity, code: http.StatusForbidden, message: err.Error()}
	}
	route, err := p.Members.Route(q.Cluster)
	if err != nil {
		return nil, unavailable(q.Cluster, err)
	}
	// Whoever has changed something meanwhile has had all sessions decided again, and
	// this one with them.
	if c, ok := cutOf(p.r.Context()); ok {
		return nil, c.refusal
	}
	return route, nil
}

// judged refuses what a decision does.
func (h *Handler) judged(s *session, d *effective.Decision) *refusal {
	switch {
	case d.Verdict == effective.Allowed, d.Verdict == effective.OnMember, s.exempt:
		return nil
	case d.Verdict == effective.NotGranted && h.Lenient:
		return nil
	}
	return refusalOf(d, &s.ask, h.Index.Current().Policy(), h.Help)
}

// reviewed refuses what the hub does.
func (h *Handler) reviewed(ctx context.Context, q *effective.Request, d *effective.Decision, method string) *refusal {
	a, err := h.Hub.Review(ctx, &hub.Question{User: &q.User, Cluster: q.Cluster, Verb: hubVerb(method, d), Snapshot: d.Snapshot, Policy: d.Policy})
	switch {
	case err != nil:
		return &refusal{layer: decisionlog.LayerHub, code: http.StatusServiceUnavailable, message: "the hub cannot be asked about cluster \"" + q.Cluster + "\"", retry: time.Second}
	case !a.Allowed:
		return &refusal{layer: decisionlog.LayerHub, code: http.StatusForbidden, message: asked(q) + ": refused by the hub, whose RBAC does not let you " + hubVerb(method, d) + " clusters/proxy of it"}
	}
	return nil
}

func unavailable(cluster string, err error) *refusal {
	f := &refusal{layer: decisionlog.LayerMember, code: http.StatusServiceUnavailable, message: "cluster \"" + cluster + "\" does not answer", retry: time.Second}
	if u := (*transport.Unavailable)(nil); errors.As(err, &u) {
		f.message, f.retry = u.Error(), u.RetryAfter
	}
	return f
}

// refuse answers, and tells the log.
func (p *passage) refuse(f *refusal) {
	p.log(decisionlog.Deny, f.layer, f.code)
	q := &p.session.ask
	if q.Verb == "" { // it was never read
		q = nil
	}
	f.write(p.w, q, p.id)
}

func (p *passage) log(verdict, layer string, code int) {
	took := p.Clock.Since(p.began)
	p.Metrics.decided(verdict, layer, took)
	if p.Log == nil {
		return
	}
	e := decisionlog.Of("gateway", &p.session.ask, &p.decision)
	e.ID, e.Verdict, e.Layer, e.Status = p.id, verdict, layer, code
	e.User.Extra = p.extra.logged(e.User.Extra)
	e.LatencyMicros = took.Microseconds()
	e.Request.Method, e.Request.RemoteAddr = p.r.Method, p.r.RemoteAddr
	p.Log.Log(e)
}

// warnings of guardrails that only warn, for the person.
func (p *passage) warnings(h http.Header) {
	for i := range p.decision.Reasons {
		if r := &p.decision.Reasons[i]; r.Enforcement == v1alpha1.EnforcementWarn && r.Exception == "" {
			warn(h, r.String())
		}
	}
}

func warn(h http.Header, text string) {
	if value, err := utilnet.NewWarningHeader(299, "-", guardrail.Tidy(text)); err == nil {
		h.Add("Warning", value)
	}
}
