package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/sallyport-dev/sallyport/internal/decisionlog"
	"github.com/sallyport-dev/sallyport/internal/gateway/proxy"
	"github.com/sallyport-dev/sallyport/test/install"
)

// person is somebody as the hub authenticates them.
type person struct {
	name   string
	groups []string
}

var (
	alice = person{"alice", []string{"payments-oncall"}}
	bob   = person{"bob", nil}
)

// verdict is who decided, and how. The zero value is neither yes nor no, so that
// a broken world passes for neither.
type verdict int

const (
	noAnswer verdict = iota
	allowed
	refusedByHub // the hub's own RBAC, before the gateway is asked
	refusedByGuardrail
	refusedForNoGrant
	refusedByMember
)

func (v verdict) String() string {
	return [...]string{"no answer", "allowed", "refused by the hub", "refused by a guardrail", "refused: no grant", "refused by the member"}[v]
}

// refused, by whomever.
func (v verdict) refused() bool { return v >= refusedByHub }

// answer to one request.
type answer struct {
	verdict verdict
	n       int   // how many objects were seen
	err     error // what the API server said, unless allowed
	took    time.Duration
	at      time.Time // when the answer was there
}

func (a answer) String() string {
	switch a.verdict {
	case allowed:
		if a.n == 1 {
			return "allowed, 1 seen"
		}
		return fmt.Sprintf("allowed, %d seen", a.n)
	case noAnswer:
		return fmt.Sprintf("no answer: %v", a.err)
	default:
		return a.verdict.String()
	}
}

// through is what a person uses to reach a member through the hub. Nothing is
// kept between requests, as with kubectl.
func (w *world) through(p person, member string) (kubernetes.Interface, error) {
	config := install.Through(w.people[p.name], member)
	config.Timeout = 10 * time.Second
	config.WarningHandler = rest.NoWarnings{} // what matters is shown
	return kubernetes.NewForConfig(config)
}

// ask lists what is in namespace payments on a member, as a person, through the
// hub.
func (w *world) ask(ctx context.Context, p person, resource, member string) answer {
	client, err := w.through(p, member)
	if err != nil {
		return answer{err: err}
	}
	began := time.Now()
	list, err := client.CoreV1().RESTClient().Get().Namespace(namespace).Resource(resource).Do(ctx).Get()
	a := answer{err: err, took: time.Since(began), at: time.Now()}
	a.verdict = whoRefused(err)
	if err == nil {
		a.verdict, a.n = allowed, meta.LenList(list)
	}
	return a
}

// whoRefused tells the layers apart by what they say: the gateway names its own, the hub
// speaks of its clusters, and a member of what was asked for.
func whoRefused(err error) verdict {
	var status apierrors.APIStatus
	if !apierrors.IsForbidden(err) || !errors.As(err, &status) {
		return noAnswer
	}
	details := status.Status().Details
	if details == nil {
		return refusedByMember
	}
	for _, c := range details.Causes {
		if c.Type != proxy.CauseLayer {
			continue
		}
		switch c.Message {
		case decisionlog.LayerGuardrail:
			return refusedByGuardrail
		case decisionlog.LayerGrant:
			return refusedForNoGrant
		default:
			return refusedByHub
		}
	}
	if details.Group == proxyGroup {
		return refusedByHub
	}
	return refusedByMember
}

const proxyGroup = "proxy.sallyport.dev"

// mayOnMember asks a member's own RBAC, as its administrator, whether a person
// could list pods there if they came in.
func (w *world) mayOnMember(ctx context.Context, p person, member string) (bool, error) {
	client, err := kubernetes.NewForConfig(w.fleet.Member(member).AdminConfig())
	if err != nil {
		return false, err
	}
	review, err := client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: p.name, Groups: append([]string{"system:authenticated"}, p.groups...),
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "list", Resource: "pods"},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return review.Status.Allowed, nil
}

// reach says on which members a person can list pods through the hub, and fails
// if one of them does not answer.
func (w *world) reach(ctx context.Context, p person) (string, error) {
	var in []string
	for _, m := range members {
		switch a := w.ask(ctx, p, "pods", m.name); a.verdict {
		case allowed:
			in = append(in, m.name)
		case noAnswer:
			return "", a.err
		}
	}
	if len(in) == 0 {
		return "nowhere", nil
	}
	return strings.Join(in, ", "), nil
}
