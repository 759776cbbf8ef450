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
	"time"

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
	kept    kept
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
		h.nothing[v] = answer{noOpinion, o.Help}.append(nil, v) // it is told with what RBAC says
	}
	return h
}

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
	body := bodies.Get().(*bytes.Buffer)
	defer bodies.Put(body)
	cluster, failed := h.read(w, r, body)
	if failed != nil {
		h.fail(w, failed)
		return
	}
	_, span := h.Tracer.Start(r.Context(), "decide")
	j, failed := h.judge(r, cluster, body, began)
	if span.IsRecording() && failed == nil {
		span.SetAttributes(attribute.String("sallyport.cluster", j.request.Cluster), attribute.String("sallyport.verdict", j.verdict.String()))
	}
	span.End()
	if failed != nil {
		h.fail(w, failed)
		return
	}
	write(w, http.StatusOK, h.say(j, began))
}

func (h *Handler) fail(w http.ResponseWriter, f *failure) {
	h.Metrics.failed(f.counted)
	fail(w, f.code, f.message)
}

// bodies that have been read, for others.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// read the review, after its cluster, which is the key that it is kept by.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, body *bytes.Buffer) (cluster string, _ *failure) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return "", &failure{http.StatusMethodNotAllowed, "a " + kind + " is posted", malformed}
	}
	cluster, err := h.clusterOf(r)
	if err != nil {
		return "", &failure{http.StatusBadRequest, err.Error(), malformed}
	}
	body.Reset()
	body.WriteString(key(cluster))
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxReview)); err != nil {
		if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
			return "", &failure{http.StatusRequestEntityTooLarge, "the body is larger than " + strconv.Itoa(maxReview) + " bytes", malformed}
		}
		return "", &failure{http.StatusBadRequest, "the body cannot be read", malformed}
	}
	return cluster, nil
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

// judge a review that has been read.
func (h *Handler) judge(r *http.Request, cluster string, body *bytes.Buffer, at time.Time) (*judged, *failure) {
	ix := h.Index.Current()
	ready := ix != nil && h.Ready(r) == nil
	if ready {
		if j := h.kept.look(ix, body.Bytes(), at); j != nil {
			return j, nil
		}
	}
	whole := body.String()
	j := &judged{request: effective.Request{Cluster: cluster, At: at}}
	var err error
	if j.version, err = decode(whole[len(key(cluster)):], &j.request); err != nil {
		return nil, &failure{http.StatusBadRequest, err.Error(), malformed}
	}
	switch exempt := slices.Contains(h.Exempt, j.request.User.Name); {
	case ready:
		h.decide(ix, j, exempt)
		h.kept.keep(ix, whole, j)
	case exempt: // whoever is to mend it
		j.verdict, j.quiet = noOpinion, true
	default:
		return nil, &failure{http.StatusServiceUnavailable, "what is granted is not known", "not-ready"}
	}
	return j, nil
}

// decide on what is asked.
func (h *Handler) decide(ix *effective.Index, j *judged, exempt bool) {
	q := &j.request
	hub := q.Cluster == "" || q.Cluster == h.Hub
	if hub {
		q.Cluster = h.Hub
	}
	j.decision = effective.Decision{Verdict: effective.NotGranted}
	if q.Cluster != "" {
		j.decision = ix.DecideConnect(q)
	}
	if hub && j.decision.Verdict == effective.NotGranted && h.AllowFromGrants {
		if way := ix.ThroughHub(q); way.Verdict == effective.Allowed {
			way.Until = sooner(way.Until, j.decision.Until)
			j.decision, j.layer = way, decisionlog.LayerHub
		}
	}
	j.quiet = q.Cluster == "" && j.layer == ""
	switch d := &j.decision; {
	case d.Verdict == effective.Denied && !exempt:
		j.verdict = denied
	// What only the member knows, its RBAC is to say.
	case d.Verdict == effective.Allowed && h.AllowFromGrants && !asksForMany(ix, q):
		j.verdict = allowed
	default:
		j.verdict = noOpinion
	}
}

// sooner of two instants, of which a zero one is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// say what was judged, to the log and in the answer.
func (h *Handler) say(j *judged, at time.Time) []byte {
	id := h.name + strconv.FormatUint(h.count.Add(1), 36)
	took := h.Clock.Since(at)
	h.Metrics.decided(j.verdict.String(), took)
	if h.Log != nil && !j.quiet {
		q := j.request
		q.At = at
		e := decisionlog.Of(decisionlog.Authorizer, &q, &j.decision)
		e.ID, e.Verdict, e.LatencyMicros = id, j.verdict.String(), took.Microseconds()
		if j.layer != "" || j.verdict != denied && j.decision.Verdict == effective.Denied { // of the hub, or exempt
			e.Layer = j.layer
		}
		h.Log.Log(e)
	}
	switch j.verdict {
	case denied:
		return answer{denied, refusal(&j.decision, id)}.append(make([]byte, 0, 512), j.version)
	case allowed:
		return answer{allowed, given(&j.decision)}.append(make([]byte, 0, 256), j.version)
	}
	return h.nothing[j.version]
}

// asksForMany reports whether a review is a question about more than one request, such as
// that of "kubectl auth can-i '*' pods", where guardrails judge requests. They may refuse
// some of these, and so nobody is told that all are allowed.
func asksForMany(ix *effective.Index, q *effective.Request) bool {
	return slices.Contains([]string{q.Verb, q.APIGroup, q.Resource, q.Subresource}, "*") && !ix.Policy().Idle(guardrail.Request)
}
