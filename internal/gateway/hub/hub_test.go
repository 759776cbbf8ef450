package hub

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// reviewer answers as it is told, and counts.
type reviewer struct {
	mu     sync.Mutex
	asked  []authorizationv1.SubjectAccessReviewSpec
	answer func() (authorizationv1.SubjectAccessReviewStatus, error)
}

func (r *reviewer) Create(_ context.Context, review *authorizationv1.SubjectAccessReview, _ metav1.CreateOptions) (*authorizationv1.SubjectAccessReview, error) {
	r.mu.Lock()
	r.asked = append(r.asked, review.Spec)
	r.mu.Unlock()
	status, err := r.answer()
	return &authorizationv1.SubjectAccessReview{Status: status}, err
}

func allowed() (authorizationv1.SubjectAccessReviewStatus, error) {
	return authorizationv1.SubjectAccessReviewStatus{Allowed: true}, nil
}

func denied() (authorizationv1.SubjectAccessReviewStatus, error) {
	return authorizationv1.SubjectAccessReviewStatus{Reason: "no rule"}, nil
}

func alice() *Question {
	return &Question{
		User: &guardrail.User{
			Name: "alice", UID: "1", Groups: []string{"dev", "system:authenticated"}, Extra: map[string][]string{"k": {"v"}},
		},
		Cluster: "prod", Verb: "get", Snapshot: 7, Policy: "p",
	}
}

func TestReviewAsks(t *testing.T) {
	r := &reviewer{answer: allowed}
	if a, err := New(r, Options{}).Review(t.Context(), alice()); err != nil || !a.Allowed {
		t.Fatal(a, err)
	}
	want := []authorizationv1.SubjectAccessReviewSpec{{
		User: "alice", UID: "1", Groups: []string{"dev", "system:authenticated"}, Extra: map[string]authorizationv1.ExtraValue{"k": {"v"}},
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: "proxy.sallyport.dev", Version: "v1alpha1", Resource: "clusters", Subresource: "proxy", Name: "prod", Verb: "get",
		},
	}}
	if diff := cmp.Diff(want, r.asked); diff != "" {
		t.Errorf("what was asked (-want +got):\n%s", diff)
	}
}

// TestS14: no answer lasts longer than its time, counted from when it was asked for, and
// none is for anybody or anything else.
func TestS14(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Unix(1e9, 0))
	r := &reviewer{answer: allowed}
	h := New(r, Options{Clock: clock})
	review := func(q *Question) bool {
		t.Helper()
		a, err := h.Review(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return a.Allowed
	}
	if !review(alice()) {
		t.Fatal("the hub's yes is a no")
	}
	r.answer = denied
	clock.Step(DefaultTTL - time.Nanosecond)
	if !review(alice()) || len(r.asked) != 1 {
		t.Errorf("an answer was not kept: asked %d times", len(r.asked))
	}
	for name, change := range map[string]func(*Question){
		"snapshot": func(q *Question) { q.Snapshot++ },
		"policy":   func(q *Question) { q.Policy = "other" },
		"cluster":  func(q *Question) { q.Cluster = "other" },
		"verb":     func(q *Question) { q.Verb = "create" },
		"name":     func(q *Question) { q.User.Name = "bob" },
		"uid":      func(q *Question) { q.User.UID = "2" },
		"groups":   func(q *Question) { q.User.Groups = q.User.Groups[1:] },
		"extra":    func(q *Question) { q.User.Extra = nil },
	} {
		q := alice()
		if change(q); review(q) {
			t.Errorf("another %s was allowed by what was kept", name)
		}
	}
	clock.Step(time.Nanosecond)
	if review(alice()) {
		t.Error("an allow outlived its time")
	}
}

// TestS14SlowAnswer: what took its whole time to answer is not kept.
func TestS14SlowAnswer(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Unix(1e9, 0))
	r := &reviewer{}
	r.answer = func() (authorizationv1.SubjectAccessReviewStatus, error) {
		clock.Step(DefaultTTL)
		return allowed()
	}
	h := New(r, Options{Clock: clock})
	for range 2 {
		if a, err := h.Review(t.Context(), alice()); err != nil || !a.Allowed {
			t.Fatal(a, err)
		}
	}
	if len(r.asked) != 2 {
		t.Errorf("asked %d times, want each time", len(r.asked))
	}
}

func TestReviewFailsClosed(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		answer func() (authorizationv1.SubjectAccessReviewStatus, error)
		err    bool
	}{
		"Away": {"No answer is no.", func() (authorizationv1.SubjectAccessReviewStatus, error) {
			return authorizationv1.SubjectAccessReviewStatus{Allowed: true}, errors.New("away")
		}, true},
		"Evaluated": {"A hub that could not evaluate has not answered.", func() (authorizationv1.SubjectAccessReviewStatus, error) {
			return authorizationv1.SubjectAccessReviewStatus{EvaluationError: "x"}, nil
		}, true},
		"Both": {"Denied wins.", func() (authorizationv1.SubjectAccessReviewStatus, error) {
			return authorizationv1.SubjectAccessReviewStatus{Allowed: true, Denied: true}, nil
		}, false},
		"Empty": {"Silence refuses.", func() (authorizationv1.SubjectAccessReviewStatus, error) {
			return authorizationv1.SubjectAccessReviewStatus{}, nil
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := &reviewer{answer: tc.answer}
			h := New(r, Options{})
			for range 2 {
				if a, err := h.Review(t.Context(), alice()); a.Allowed || (err != nil) != tc.err {
					t.Errorf("%s\ngot %+v, %v", tc.reason, a, err)
				}
			}
			if tc.err && len(r.asked) != 2 {
				t.Error("a failure was kept")
			}
		})
	}
}

// TestReviewOnce: who asks the same at the same time waits for one answer, and it does
// not end with the one who asked first.
func TestReviewOnce(t *testing.T) {
	began, answer := make(chan struct{}), make(chan struct{})
	r := &reviewer{}
	r.answer = func() (authorizationv1.SubjectAccessReviewStatus, error) {
		close(began)
		<-answer
		return allowed()
	}
	h := New(r, Options{})
	first, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := h.Review(first, alice())
		gone <- err
	}()
	<-began
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("who went away got %v", err)
	}
	second := make(chan bool)
	go func() {
		a, err := h.Review(t.Context(), alice())
		second <- a.Allowed && err == nil
	}()
	close(answer)
	if !<-second {
		t.Error("who waited was refused")
	}
	if len(r.asked) != 1 {
		t.Errorf("asked %d times", len(r.asked))
	}
}
