package proxy

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
)

// Run decides sessions again, until the context is done: all when the index changes, and
// each when its decision may be another by time alone. Without it, nothing that is open
// is ever cut.
func (h *Handler) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	changed <- struct{}{} // what has changed before
	stop := h.Index.Subscribe(func(*effective.Index) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	defer stop()
	if h.Lenient || len(h.Exempt) > 0 {
		// On its own: the hub may be slow, and nothing is to be cut later for it.
		var reviews sync.WaitGroup
		defer reviews.Wait()
		reviews.Go(func() { h.reviewing(ctx) })
	}
	timer := h.Clock.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if next := h.sessions.upcoming(); next.IsZero() {
			timer.Reset(time.Hour)
		} else {
			timer.Reset(max(0, next.Sub(h.Clock.Now())))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			h.again(h.sessions.all())
		case <-timer.C():
			h.again(h.sessions.due(h.Clock.Now()))
		case <-h.sessions.wake:
		}
	}
}

// again decides sessions, as they were first, and cuts what is refused now (S13).
func (h *Handler) again(open []*session) {
	for _, s := range open {
		q := s.ask
		q.At = h.Clock.Now()
		d := h.Index.Current().DecideConnect(&q)
		refused := h.judged(s, &d)
		if refused == nil && d.Verdict == effective.OnMember && h.sessions.lost(s, &d) {
			// The member said yes once, perhaps by the grant that has ended: it is to be
			// asked anew.
			refused = &refusal{layer: decisionlog.LayerGrant, code: http.StatusForbidden, message: asked(&q) + ": a grant that carried this has ended. Ask again: what others give, the cluster decides"}
		}
		if refused != nil {
			h.cut(s, &q, &d, refused)
			continue
		}
		h.sessions.decided(s, &d)
	}
}

// reviewing is review at intervals, until the context is done.
func (h *Handler) reviewing(ctx context.Context) {
	ticker := h.Clock.NewTicker(h.Reviewed)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
			h.review(ctx)
		}
	}
}

// review asks the hub about the sessions that no grant carries.
func (h *Handler) review(ctx context.Context) {
	for _, s := range h.sessions.all() {
		q := s.ask
		q.At = h.Clock.Now()
		d := h.Index.Current().DecideConnect(&q)
		if len(d.Because) > 0 {
			continue
		}
		if refused := h.reviewed(ctx, &q, &d, s.method); refused != nil && refused.code == http.StatusForbidden {
			h.cut(s, &q, &d, refused)
		}
	}
}

func (h *Handler) cut(s *session, q *effective.Request, d *effective.Decision, f *refusal) {
	s.cancel(cut{f})
	h.Metrics.cut(f.layer)
	if h.Log == nil {
		return
	}
	e := decisionlog.Of("gateway", q, d)
	e.ID, e.Event, e.Verdict, e.Layer, e.Status = s.id, decisionlog.EventSession, decisionlog.Deny, f.layer, f.code
	h.Log.Log(e)
}

// Drain takes no more requests, waits for those that end by themselves until the
// context is done, and cuts the rest.
func (h *Handler) Drain(ctx context.Context) {
	empty := h.sessions.drain()
	select {
	case <-empty:
		return
	case <-ctx.Done():
	}
	for _, s := range h.sessions.all() {
		s.cancel(cut{&refusal{layer: decisionlog.LayerLimit, code: http.StatusServiceUnavailable, message: "this replica has ended", retry: time.Second}})
	}
	// A client that reads nothing can keep what was sent before, and nobody from ending.
	select {
	case <-empty:
	case <-h.Clock.After(lastWords):
	}
}

// lastWords is how long sessions have to tell their clients that they have been cut.
const lastWords = time.Second

// Open is how many requests are under way.
func (h *Handler) Open() int { return h.sessions.count() }
