package authz

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"k8s.io/utils/clock"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
)

// maxReview bounds a review in bytes: a user with thousands of groups has one.
const maxReview = 1 << 20

// Index is the latest view of what people may do.
type Index interface {
	// Current is nil until there is one.
	Current() *effective.Index
}

// HandlerOptions of NewHandler. Index is required.
type HandlerOptions struct {
	Index Index
	// Ready is an error where the Index is not to be gone by; optional.
	Ready func(*http.Request) error
	// Cluster is what a review is about that names none: a member of the fleet by name,
	// or the hub where it is empty.
	Cluster string
	// Hub is the name of the hub as a member of its own fleet, so that guardrails and
	// grants for it hold; empty where it is none.
	Hub string
	// AllowFromGrants has what a grant gives allowed, so that there need be no RBAC for
	// it; otherwise nothing is ever allowed.
	AllowFromGrants bool
	// Exempt are users, by name, whom no guardrail stops.
	Exempt []string
	// Help is told to whoever has no grant, such as where to ask for one; optional.
	Help string
	// MaxRequests that may be under way at once; 0 for any number.
	MaxRequests int
	// Log, Metrics and Tracer are optional. Clock is the real one if nil.
	Log     decisionlog.Logger
	Metrics *Metrics
	Tracer  trace.Tracer
	Clock   clock.PassiveClock
}

// Handler answers reviews. Who may ask is for the server to know.
type Handler struct {
	HandlerOptions
	underWay atomic.Int64
	// decisions are numbered, by a name that is this handler's own.
	name  string
	count atomic.Uint64
	// nothing is what is answered where there is no opinion, to each version.
	nothing [v1beta1 + 1][]byte
}

// NewHandler makes a handler.
func NewHandler(o HandlerOptions) *Handler {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Tracer == nil {
		o.Tracer = noop.NewTracerProvider().Tracer("")
	}
	if o.Ready == nil {
		o.Ready = func(*http.Request) error { return nil }
	}
	h := &Handler{HandlerOptions: o, name: uuid.NewString()[:8] + "-"}
	for _, v := range []version{v1, v1beta1} {
		h.nothing[v] = h.unsure().append(nil, v)
	}
	return h
}

// unsure says who has no grant what to do, since it is told with what RBAC says.
func (h *Handler) unsure() answer { return answer{verdict: noOpinion, reason: h.Help} }

// failure is why there is no answer, and by which HTTP status that is told.
type failure struct {
	code    int
	message string
	// counted is how it is counted.
	counted string
}

// ServeHTTP answers one review: POST, with /NAME or ?cluster=NAME where it is not about
// the default.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer h.underWay.Add(-1)
	if n := h.underWay.Add(1); h.MaxRequests > 0 && n > int64(h.MaxRequests) {
		h.fail(w, &failure{http.StatusTooManyRequests, "too many reviews are under way", "overload"})
		return
	}
	began := h.Clock.Now()
	q := &effective.Request{At: began}
	v, failed := h.read(w, r, q)
	if failed != nil {
		h.fail(w, failed)
		return
	}
	_, span := h.Tracer.Start(r.Context(), "decide")
	a, failed := h.decide(r, q)
	if span.IsRecording() {
		span.SetAttributes(attribute.String("sallyport.cluster", q.Cluster), attribute.String("sallyport.verdict", a.verdict.String()))
	}
	span.End()
	if failed != nil {
		h.fail(w, failed)
		return
	}
	h.Metrics.decided(a.verdict.String(), h.Clock.Since(began))
	if a == h.unsure() {
		write(w, http.StatusOK, h.nothing[v])
		return
	}
	write(w, http.StatusOK, a.append(make([]byte, 0, 512), v))
}

func (h *Handler) fail(w http.ResponseWriter, f *failure) {
	h.Metrics.failed(f.counted)
	fail(w, f.code, f.message)
}

// bodies that have been read, for others.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// read what is asked.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, q *effective.Request) (version, *failure) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return 0, &failure{http.StatusMethodNotAllowed, "a " + kind + " is posted", malformed}
	}
	var err error
	if q.Cluster, err = h.clusterOf(r); err != nil {
		return 0, &failure{http.StatusBadRequest, err.Error(), malformed}
	}
	body := bodies.Get().(*bytes.Buffer)
	defer bodies.Put(body)
	body.Reset()
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxReview)); err != nil {
		if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
			return 0, &failure{http.StatusRequestEntityTooLarge, "the body is larger than " + strconv.Itoa(maxReview) + " bytes", malformed}
		}
		return 0, &failure{http.StatusBadRequest, "the body cannot be read", malformed}
	}
	v, err := decode(body.String(), q)
	if err != nil {
		return 0, &failure{http.StatusBadRequest, err.Error(), malformed}
	}
	return v, nil
}

const malformed = "malformed"

var errCluster = errors.New("neither path nor query has the name of one cluster")

// clusterOf a request: of its path or its query. Two names, or one that is none, are
// refused: a slip in a kubeconfig is not to be taken for the hub.
func (h *Handler) clusterOf(r *http.Request) (string, error) {
	name := r.PathValue("cluster")
	if r.URL.RawQuery != "" {
		query, err := url.ParseQuery(r.URL.RawQuery)
		if names, given := query["cluster"]; err != nil || given && (name != "" || len(names) != 1 || names[0] == "") {
			return "", errCluster
		} else if given {
			name = names[0]
		}
	}
	if name == "" {
		return h.Cluster, nil
	}
	if !isName(name) {
		return "", errCluster
	}
	return name, nil
}

// isName reports whether a cluster can be called so.
func isName(s string) bool {
	return s != "" && len(s) <= 253 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
}

// decide on a request.
func (h *Handler) decide(r *http.Request, q *effective.Request) (answer, *failure) {
	ix := h.Index.Current()
	exempt := slices.Contains(h.Exempt, q.User.Name)
	if ix == nil || h.Ready(r) != nil {
		if exempt { // whoever is to mend it
			return h.unsure(), nil
		}
		return answer{}, &failure{http.StatusServiceUnavailable, "what is granted is not known", "not-ready"}
	}
	hub := q.Cluster == "" || q.Cluster == h.Hub
	if hub {
		q.Cluster = h.Hub
	}
	d := effective.Decision{Verdict: effective.NotGranted}
	if q.Cluster != "" {
		d = ix.DecideConnect(q)
	}
	layer := ""
	if hub && d.Verdict == effective.NotGranted && h.AllowFromGrants {
		if way := ix.ThroughHub(q); way.Verdict == effective.Allowed {
			d, layer = way, decisionlog.LayerHub
		}
	}
	if q.Cluster == "" && layer == "" {
		return h.unsure(), nil // there was nothing to decide
	}
	id := h.name + strconv.FormatUint(h.count.Add(1), 36)
	a := h.answer(ix, q, &d, exempt, id)
	h.log(q, &d, a.verdict, layer, exempt, id)
	return a, nil
}

// answer by a decision.
func (h *Handler) answer(ix *effective.Index, q *effective.Request, d *effective.Decision, exempt bool, id string) answer {
	switch {
	case d.Verdict == effective.Denied && !exempt:
		return answer{verdict: denied, reason: refusal(d, id)}
	// What only the member knows, its RBAC is to say.
	case d.Verdict == effective.Allowed && h.AllowFromGrants && !asksForMany(ix, q):
		return answer{verdict: allowed, reason: given(d)}
	}
	return h.unsure()
}

// log a decision.
func (h *Handler) log(q *effective.Request, d *effective.Decision, v verdict, layer string, exempt bool, id string) {
	if h.Log == nil {
		return
	}
	e := decisionlog.Of(decisionlog.Authorizer, q, d)
	e.ID, e.Verdict = id, v.String()
	if layer != "" || exempt && d.Verdict == effective.Denied {
		e.Layer = layer
	}
	e.LatencyMicros = h.Clock.Since(q.At).Microseconds()
	h.Log.Log(e)
}

// asksForMany reports whether a review is a question about more than one request, such as
// that of "kubectl auth can-i '*' pods", where guardrails judge requests. They may refuse
// some of these, and so nobody is told that all are allowed.
func asksForMany(ix *effective.Index, q *effective.Request) bool {
	return slices.Contains([]string{q.Verb, q.APIGroup, q.Resource, q.Subresource}, "*") && !ix.Policy().Idle(guardrail.Request)
}
