package admission

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/inventory"
)

// Policy is the guardrails in force, with their exceptions.
type Policy interface {
	// Current is the Set as it was last seen. It is an error while none is known.
	Current(ctx context.Context) (*guardrail.Set, error)
	// Live is the Set by what the API server has now.
	Live(ctx context.Context) (*guardrail.Set, error)
}

// Inventory tells what the fleet is, or fails.
type Inventory interface {
	Fleet(ctx context.Context) (*fleet.Fleet, []inventory.Problem, error)
	Placements(ctx context.Context) (map[types.NamespacedName][]string, error)
}

const (
	// deadline of one answer, so that it comes before the API server gives up, and
	// so says why.
	deadline = 4 * time.Second
	// reviewDeadline of judging all that stands, for a warning.
	reviewDeadline = time.Second
)

// Handler answers the API server. It is safe for use by any number of goroutines.
type Handler struct {
	cached, live client.Reader
	policy       Policy
	inventory    Inventory
	origin       func(context.Context, *v1alpha1.AccessGrant) *guardrail.Source
	now          func() time.Time
	decoder      admission.Decoder
	metrics      *metrics
	turns        *turns
}

// NewHandler makes a Handler that reads grants, roles, namespaces and exceptions
// from a cache, and from live before it refuses.
func NewHandler(scheme *runtime.Scheme, cached, live client.Reader, o Options) (*Handler, error) {
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("cannot register metrics of admission: %w", err)
	}
	h := &Handler{
		cached: cached, live: live, policy: o.Policy, inventory: o.Inventory, origin: o.Origin, now: o.Now,
		decoder: admission.NewDecoder(scheme), metrics: m, turns: newTurns(),
	}
	if h.origin == nil {
		h.origin = func(context.Context, *v1alpha1.AccessGrant) *guardrail.Source { return nil }
	}
	if h.now == nil {
		h.now = time.Now
	}
	return h, nil
}

// Handle implements admission.Handler.
func (h *Handler) Handle(ctx context.Context, req admission.Request) admission.Response {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	a := h.answer(ctx, &req)
	h.metrics.record(kindLabel(req.Kind.Kind), a.verdict, time.Since(begin))
	return a.response()
}

// kindLabel bounds the values of a label that comes with the request.
func kindLabel(kind string) string {
	switch kind {
	case v1alpha1.AccessGrantKind, v1alpha1.AccessRoleKind, v1alpha1.GuardrailKind, v1alpha1.GuardrailBundleKind, v1alpha1.GuardrailExceptionKind:
		return kind
	}
	return "other"
}

// answer by kind. Who asks does not matter: no user goes unjudged.
func (h *Handler) answer(ctx context.Context, req *admission.Request) answer {
	if req.Kind.Group != v1alpha1.GroupVersion.Group || req.Kind.Version != v1alpha1.GroupVersion.Version {
		return refuse(invalid, fmt.Sprintf("cannot judge %s of %s/%s: this Sallyport knows %s", req.Kind.Kind, req.Kind.Group, req.Kind.Version, v1alpha1.GroupVersion))
	}
	switch req.Kind.Kind {
	case v1alpha1.AccessGrantKind:
		return review(ctx, h, req, h.grant)
	case v1alpha1.AccessRoleKind:
		return review(ctx, h, req, alone(h.role))
	case v1alpha1.GuardrailKind:
		if req.Operation == admissionv1.Delete {
			return h.await(ctx, req, func() answer { return h.guardrailDeleted(ctx, req.Name) })
		}
		return review(ctx, h, req, alone(h.guardrail))
	case v1alpha1.GuardrailBundleKind:
		return review(ctx, h, req, alone(h.bundle))
	case v1alpha1.GuardrailExceptionKind:
		return review(ctx, h, req, alone(h.exception))
	}
	return refuse(invalid, fmt.Sprintf("cannot judge a %s", req.Kind.Kind))
}

// await a turn of the request's kind to judge it.
func (h *Handler) await(ctx context.Context, req *admission.Request, judge func() answer) answer {
	turn := h.turns.policies
	switch req.Kind.Kind {
	case v1alpha1.AccessGrantKind:
		leave, ok := h.turns.grant(ctx, req.Namespace)
		if !ok {
			return fail()
		}
		defer leave()
		return judge()
	case v1alpha1.AccessRoleKind:
		turn = h.turns.access
	}
	if !turn.take(ctx) {
		return fail()
	}
	defer turn.leave()
	return judge()
}

// review an object that is created or updated. An update that leaves alone what is
// judged passes, and does not await a turn: else nobody could take the finalizer from
// a grant that has come to be refused, and it would never be revoked.
func review[T any, O interface {
	*T
	client.Object
}](ctx context.Context, h *Handler, req *admission.Request, judge func(ctx context.Context, old, now O) answer) answer {
	if req.Operation == admissionv1.Delete {
		return allow()
	}
	object := O(new(T))
	if err := h.decoder.Decode(*req, object); err != nil {
		ctrl.LoggerFrom(ctx).Info("Cannot read an object", "error", err.Error())
		return refuse(invalid, "the object cannot be read")
	}
	var old O
	if req.Operation == admissionv1.Update {
		before := O(new(T))
		if err := h.decoder.DecodeRaw(req.OldObject, before); err == nil {
			old = before
		}
		if old != nil && sameMeaning(old, object) {
			return answer{verdict: unchanged}
		}
	}
	return h.await(ctx, req, func() answer { return judge(ctx, old, object) })
}

// alone judges an object without regard to what it was.
func alone[O any](judge func(context.Context, O) answer) func(ctx context.Context, old, now O) answer {
	return func(ctx context.Context, _, now O) answer { return judge(ctx, now) }
}

// sameMeaning reports whether two versions of an object differ in nothing that is
// judged. The notes of tools are not, but for those that tell where a grant came from.
func sameMeaning(a, b client.Object) bool {
	return maps.Equal(compile.Committed(a.GetLabels()), compile.Committed(b.GetLabels())) &&
		maps.Equal(compile.Committed(a.GetAnnotations()), compile.Committed(b.GetAnnotations())) &&
		!slices.ContainsFunc(originLabels, func(key string) bool { return a.GetLabels()[key] != b.GetLabels()[key] }) &&
		!slices.ContainsFunc(originAnnotations, func(key string) bool { return a.GetAnnotations()[key] != b.GetAnnotations()[key] }) &&
		equality.Semantic.DeepEqual(specOf(a), specOf(b))
}

// originLabels and originAnnotations are the notes from which input.source is made.
var (
	originLabels = []string{
		v1alpha1.ManagedByLabel, "kustomize.toolkit.fluxcd.io/name", "kustomize.toolkit.fluxcd.io/namespace",
		"helm.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/namespace",
	}
	originAnnotations = []string{
		v1alpha1.SyncAnnotation, v1alpha1.RevisionAnnotation, v1alpha1.AuthorAnnotation, "argocd.argoproj.io/tracking-id",
	}
)

func specOf(o client.Object) any {
	switch o := o.(type) {
	case *v1alpha1.AccessGrant:
		return &o.Spec
	case *v1alpha1.AccessRole:
		return &o.Spec
	case *v1alpha1.Guardrail:
		return &o.Spec
	case *v1alpha1.GuardrailBundle:
		return &o.Spec
	case *v1alpha1.GuardrailException:
		return &o.Spec
	}
	return o // everything of it
}
