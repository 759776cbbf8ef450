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

// way is the path on the hub below which a member's own API is.
func way(member string) string {
	return "/apis/" + karmadaGroup + "/v1alpha1/clusters/" + member + "/proxy"
}

const karmadaGroup = "cluster.karmada.io"

// verdict is who decided, and how. The zero value is neither yes nor no, so that
// a broken world passes for neither.
type verdict int

const (
	noAnswer verdict = iota
	allowed
	refusedByHub
	refusedByMember
)

func (v verdict) String() string {
	return [...]string{"no answer", "allowed", "refused by the hub", "refused by the member"}[v]
}

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
	config := rest.CopyConfig(w.people[p.name])
	config.Host += way(member)
	config.Timeout = 10 * time.Second
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
	switch {
	case err == nil:
		a.verdict, a.n = allowed, meta.LenList(list)
	case !apierrors.IsForbidden(err):
	case fromHub(err):
		a.verdict = refusedByHub
	default:
		a.verdict = refusedByMember
	}
	return a
}

// fromHub tells who refused: the hub speaks of its clusters, a member of what was
// asked for.
func fromHub(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return status.Status().Details.Group == karmadaGroup
}

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
