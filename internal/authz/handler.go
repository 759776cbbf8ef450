package authz

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"k8s.io/apimachinery/pkg/util/validation"
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
	// Cluster is what a review is about that does not say ?cluster=NAME: a member of the
	// fleet by name. Where both are empty it is about the hub, of which only the way to
	// members is decided.
	Cluster string
	// AllowFromGrants has what a grant gives allowed, so that there need be no RBAC for
	// it; otherwise nothing is ever allowed.
	AllowFromGrants bool
	// Exempt are users, by name, whom no guardrail stops.
	Exempt []string
	// Log, Metrics and Tracer are optional. Clock is the real one if nil.
	Log     decisionlog.Logger
	Metrics *Metrics
	Tracer  trace.Tracer
	Clock   clock.PassiveClock
}

// Handler answers reviews. Who may ask is for the server to know.
type Handler struct{ HandlerOptions }

// NewHandler makes a handler.
func NewHandler(o HandlerOptions) *Handler {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Tracer == nil {
		o.Tracer = noop.NewTracerProvider().Tracer("")
	}
	return &Handler{o}
}

// errNotReady: the API server's failure policy decides.
var errNotReady = errors.New("what is granted is not known yet")

// ServeHTTP answers one review: POST, with ?cluster=NAME where it is not about the
// default.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "a SubjectAccessReview is posted", http.StatusMethodNotAllowed)
		return
	}
	cluster, err := h.clusterOf(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
	if err != nil {
		http.Error(w, "the body cannot be read, or is too large", http.StatusBadRequest)
		return
	}
	asked, err := decode(raw)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, span := h.Tracer.Start(r.Context(), "decide")
	a, err := h.decide(asked, cluster)
	span.SetAttributes(attribute.String("sallyport.cluster", cluster), attribute.Bool("sallyport.denied", a.Denied), attribute.Bool("sallyport.allowed", a.Allowed))
	span.End()
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	out, err := a.encode(asked)
	if err != nil {
		http.Error(w, "the answer cannot be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(out) // it fails where nobody listens any more
}

// clusterOf a request. More than one name, or one that is none, is refused: a slip in a
// kubeconfig is not to be taken for the hub.
func (h *Handler) clusterOf(r *http.Request) (string, error) {
	names, given := r.URL.Query()["cluster"]
	if !given {
		return h.Cluster, nil
	}
	if len(names) != 1 || len(validation.IsDNS1123Subdomain(names[0])) > 0 {
		return "", errors.New("cluster in the query is not the name of one cluster")
	}
	return names[0], nil
}

// decide on a review.
func (h *Handler) decide(asked *review, cluster string) (answer, error) {
	began := h.Clock.Now()
	ix := h.Index.Current()
	if ix == nil {
		h.Metrics.decided("not-ready", h.Clock.Since(began))
		return answer{}, errNotReady
	}
	q := asked.request(cluster, began)
	var d effective.Decision
	var a answer
	if cluster == "" {
		a = h.ofHub(ix, q)
		d = effective.Decision{Snapshot: ix.Number(), Policy: ix.Policy().Digest()}
	} else {
		d = ix.Decide(q)
		a = h.ofMember(q, &d)
	}
	took := h.Clock.Since(began)
	verdict, layer := decisionlog.NoOpinion, ""
	switch {
	case a.Denied:
		verdict, layer = decisionlog.Deny, decisionlog.LayerGuardrail
	case a.Allowed:
		verdict = decisionlog.Allow
	}
	h.Metrics.decided(verdict, took)
	if h.Log != nil {
		e := decisionlog.Of("authorizer", q, &d)
		e.ID, e.Verdict, e.Layer, e.LatencyMicros = uuid.NewString(), verdict, layer, took.Microseconds()
		h.Log.Log(e)
	}
	return a, nil
}

// ofMember is the answer about a request to a member.
func (h *Handler) ofMember(q *effective.Request, d *effective.Decision) answer {
	switch {
	case d.Verdict == effective.Denied && !slices.Contains(h.Exempt, q.User.Name):
		return answer{Denied: true, Reason: because(d)}
	// What only the member knows, its RBAC is to say.
	case d.Verdict == effective.Allowed && h.AllowFromGrants:
		return answer{Allowed: true, Reason: "granted by AccessGrant " + d.Because[0].Grant.Key()}
	}
	return answer{}
}

// because of which guardrails, in the words that everybody is told.
func because(d *effective.Decision) string {
	j := guardrail.Judgement{Reasons: d.Reasons}
	var said []string
	for _, r := range j.Because() {
		said = append(said, r.String())
	}
	return "refused by " + strings.Join(said, "; ")
}

// groups whose clusters/proxy leads to members.
var proxies = []string{"proxy.sallyport.dev", "cluster.karmada.io"}

// ofHub is the answer about a request to the hub itself. Guardrails on requests judge
// what goes to members, and there only the way there is asked about; what is asked on
// it, the gateway judges.
func (h *Handler) ofHub(ix *effective.Index, q *effective.Request) answer {
	if !h.AllowFromGrants || !slices.Contains(proxies, q.APIGroup) || q.Resource != "clusters" || q.Subresource != "proxy" {
		return answer{}
	}
	if by := ix.Opens(&q.User, q.Name, q.Verb, q.At); by != nil {
		return answer{Allowed: true, Reason: "granted by AccessGrant " + by.Key()}
	}
	return answer{}
}
