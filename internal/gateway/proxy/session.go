package proxy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
)

// session is a request that is under way.
type session struct {
	id     string
	method string
	ask    effective.Request // At is when it is decided
	exempt bool
	cancel context.CancelCauseFunc

	// What follows is of the latest decision, and guarded by sessions.mu.
	snapshot uint64
	until    time.Time           // when time alone may have another answer
	because  []effective.Because // the grants that carry it
}

// cut is why a session has ended before its time.
type cut struct{ *refusal }

// Error says it in a word; the refusal has the rest.
func (c cut) Error() string { return "cut by layer " + c.layer }

// cutOf the session of a context, if it was cut.
func cutOf(ctx context.Context) (cut, bool) {
	var c cut
	return c, errors.As(context.Cause(ctx), &c)
}

// sessions that are under way.
type sessions struct {
	mu   sync.Mutex
	open map[*session]struct{}
	// next is the earliest until; zero for none.
	next time.Time
	// wake tells that next has become earlier. It has room for one.
	wake chan struct{}
	// draining: no more are taken.
	draining bool
	empty    chan struct{} // closed when the last has gone, once draining
}

func newSessions() *sessions {
	return &sessions{open: map[*session]struct{}{}, wake: make(chan struct{}, 1), empty: make(chan struct{})}
}

// add a session. It has to be decided afterwards: a change between would else be missed.
func (s *sessions) add(one *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.open[one] = struct{}{}
	return true
}

func (s *sessions) remove(one *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, one)
	s.settle()
}

// settle is called with the lock.
func (s *sessions) settle() {
	if s.draining && len(s.open) == 0 {
		select {
		case <-s.empty:
		default:
			close(s.empty)
		}
	}
}

// decided notes a decision on a session, unless one of a later snapshot is known: then
// it reports false, and the session is to be decided again.
func (s *sessions) decided(one *session, d *effective.Decision) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.Snapshot < one.snapshot {
		return false
	}
	one.snapshot, one.until, one.because = d.Snapshot, d.Until, d.Because
	if !d.Until.IsZero() && (s.next.IsZero() || d.Until.Before(s.next)) {
		s.next = d.Until
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// lost reports whether a grant that carried a session is not among those of a decision.
func (s *sessions) lost(one *session, d *effective.Decision) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(one.because, func(b effective.Because) bool {
		return !slices.ContainsFunc(d.Because, func(o effective.Because) bool { return o.Grant.Key() == b.Grant.Key() })
	})
}

// all that are open.
func (s *sessions) all() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*session, 0, len(s.open))
	for one := range s.open {
		out = append(out, one)
	}
	return out
}

// due are the sessions whose decision may be another at the instant. What is next is
// then that of the others, until those that are due have been decided.
func (s *sessions) due(now time.Time) []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*session
	s.next = time.Time{}
	for one := range s.open {
		switch {
		case one.until.IsZero():
		case !now.Before(one.until):
			out = append(out, one)
		case s.next.IsZero() || one.until.Before(s.next):
			s.next = one.until
		}
	}
	return out
}

func (s *sessions) upcoming() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

func (s *sessions) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// drain takes no more, and returns what is closed when all have gone.
func (s *sessions) drain() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	s.settle()
	return s.empty
}
