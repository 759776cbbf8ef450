package transport

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	firstBackoff = time.Second
	maxBackoff   = 15 * time.Second
)

// breaker keeps requests from a member that could not be connected to. The zero breaker
// is closed: everything passes.
//
// While it is open nobody tries. After that one connection is tried, and the others wait
// for how it ends. It is the dialling that tries and not the asking for a route, so that
// whoever only looks whether a member answers takes no turn.
type breaker struct {
	broken atomic.Bool // false where the rest need not be looked at
	mu     sync.Mutex
	// until is when the next connection may be tried.
	until   time.Time
	backoff time.Duration
	// trying is one connection.
	trying bool
}

// wait is how long a request would have to; 0 if it would not.
func (b *breaker) wait(now time.Time) time.Duration {
	if !b.broken.Load() {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waitLocked(now)
}

func (b *breaker) waitLocked(now time.Time) time.Duration {
	switch {
	case b.backoff == 0:
		return 0
	case b.trying:
		return firstBackoff
	}
	return max(b.until.Sub(now), 0)
}

// try to connect, unless there is something to wait for. Whoever gets 0 says how it
// ended, by success, failure or abandoned.
func (b *breaker) try(now time.Time) time.Duration {
	if !b.broken.Load() {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	wait := b.waitLocked(now)
	if wait == 0 && b.backoff > 0 {
		b.trying = true
	}
	return wait
}

// failure opens it. Of many that fail together, the first does: were each to double the
// time, a burst of requests would keep a member away that was gone for a moment.
func (b *breaker) failure(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.backoff > 0 && !b.trying {
		return
	}
	b.trying = false
	b.backoff = min(max(2*b.backoff, firstBackoff), maxBackoff)
	b.until = now.Add(b.backoff)
	b.broken.Store(true)
}

// abandoned says nothing of the member: whoever tried has gone.
func (b *breaker) abandoned() {
	if !b.broken.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
}

// success closes it.
func (b *breaker) success() {
	if !b.broken.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backoff, b.trying = 0, false
	b.broken.Store(false)
}
