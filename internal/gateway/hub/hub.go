// Package hub asks the hub's authorizer whether somebody may use clusters/proxy of a
// cluster. Through the aggregation layer the hub has been asked before; a client that
// comes to the gateway directly has not.
//
// Nobody is let through without being asked about: of system:masters, too, the hub says
// what it says. Where the hub does not answer, neither does the gateway.
//
// An answer is kept for a second, counted from the moment of asking, for one snapshot, one
// policy and one identity (S14). Whoever asks the same meanwhile waits for the one answer.
package hub

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/singleflight"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/utils/clock"

	"github.com/sallyport-dev/sallyport/api/proxy/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/gateway/caller"
)

// DefaultTTL is for how long an answer is kept.
const DefaultTTL = time.Second

const (
	// timeout of one question.
	timeout = 5 * time.Second
	// mostAnswers that are kept.
	mostAnswers = 16 << 10
)

// Reviews is the part of a client that is needed.
type Reviews interface {
	Create(ctx context.Context, review *authorizationv1.SubjectAccessReview, opts metav1.CreateOptions) (*authorizationv1.SubjectAccessReview, error)
}

// Options of New.
type Options struct {
	// AllowTTL and DenyTTL are for how long an answer is kept: DefaultTTL if zero, not at
	// all if negative.
	AllowTTL, DenyTTL time.Duration
	// Clock is the real one if nil.
	Clock clock.Clock
}

// Question is whether a user may use clusters/proxy of a cluster with a verb, such as get.
type Question struct {
	User          *guardrail.User
	Cluster, Verb string
	// Snapshot and Policy that the request was decided by.
	Snapshot uint64
	Policy   string
}

// Answer of the hub. The zero Answer refuses.
type Answer struct {
	Allowed bool
	// Reason is what the hub's authorizer says; for operators.
	Reason string
}

// Hub asks and remembers.
type Hub struct {
	reviews     Reviews
	allow, deny time.Duration
	clock       clock.Clock
	kept        *cache.LRUExpireCache
	asking      singleflight.Group
}

// New asks by reviews.
func New(reviews Reviews, o Options) *Hub {
	h := &Hub{reviews: reviews, allow: o.AllowTTL, deny: o.DenyTTL, clock: o.Clock}
	if h.clock == nil {
		h.clock = clock.RealClock{}
	}
	for _, ttl := range []*time.Duration{&h.allow, &h.deny} {
		if *ttl == 0 {
			*ttl = DefaultTTL
		}
	}
	h.kept = cache.NewLRUExpireCacheWithClock(mostAnswers, h.clock)
	return h
}

// question as it is remembered.
type question struct {
	user                  caller.Key
	cluster, verb, policy string
	snapshot              uint64
}

// String is another for every question.
func (q question) String() string {
	return fmt.Sprintf("%x %q %q %q %d", q.user, q.cluster, q.verb, q.policy, q.snapshot)
}

// Review the question. An error is no answer, and is to refuse.
func (h *Hub) Review(ctx context.Context, q *Question) (Answer, error) {
	key := question{caller.KeyOf(q.User), q.Cluster, q.Verb, q.Policy, q.Snapshot}
	if a, ok := h.recall(key); ok {
		return a, nil
	}
	// Others may wait for it, so that it does not end with the one who asked first.
	asked := h.asking.DoChan(key.String(), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		defer cancel()
		return h.ask(ctx, q, key)
	})
	select {
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	case r := <-asked:
		if r.Err != nil {
			return Answer{}, r.Err
		}
		return r.Val.(Answer), nil
	}
}

func (h *Hub) ask(ctx context.Context, q *Question, key question) (Answer, error) {
	asked := h.clock.Now()
	review, err := h.reviews.Create(ctx, &authorizationv1.SubjectAccessReview{Spec: spec(q)}, metav1.CreateOptions{})
	if err != nil {
		return Answer{}, fmt.Errorf("cannot review access to cluster %q: %w", q.Cluster, err)
	}
	s := review.Status
	a := Answer{Allowed: s.Allowed && !s.Denied, Reason: s.Reason}
	if !a.Allowed && s.EvaluationError != "" {
		return Answer{}, fmt.Errorf("cannot review access to cluster %q: the hub could not evaluate it", q.Cluster)
	}
	ttl := h.deny
	if a.Allowed {
		ttl = h.allow
	}
	if until := asked.Add(ttl); until.After(h.clock.Now()) {
		h.kept.Add(key, kept{a, until}, ttl)
	}
	return a, nil
}

// kept is an answer, and the first instant at which it is none any more.
type kept struct {
	answer Answer
	until  time.Time
}

func (h *Hub) recall(key question) (Answer, bool) {
	k, ok := h.kept.Get(key)
	if !ok || !h.clock.Now().Before(k.(kept).until) {
		return Answer{}, false
	}
	return k.(kept).answer, true
}

func spec(q *Question) authorizationv1.SubjectAccessReviewSpec {
	extra := make(map[string]authorizationv1.ExtraValue, len(q.User.Extra))
	for k, v := range q.User.Extra {
		extra[k] = v
	}
	return authorizationv1.SubjectAccessReviewSpec{
		User: q.User.Name, UID: q.User.UID, Groups: q.User.Groups, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: v1alpha1.GroupVersion.Group, Version: v1alpha1.GroupVersion.Version,
			Resource: v1alpha1.Clusters.Resource, Subresource: "proxy", Name: q.Cluster, Verb: q.Verb,
		},
	}
}
