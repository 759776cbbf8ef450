package transport

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	firstBackoff = time.Second
	maxBackoff   = 15 * time.Second
	// trial is how long others wait for the one request that tries again: as long as
	// connecting may take.
	trial = dialTimeout + handshakeTimeout
)

// breaker keeps requests from a member that could not be connected to. The zero breaker
// is closed: everything passes.
type breaker struct {
	broken atomic.Bool // false where the rest need not be looked at
	mu     sync.Mutex
	// until is when the next request may try.
	until   time.Time
	backoff time.Duration
}

// wait is how long a request would have to; 0 lets it through.
func (b *breaker) wait(now time.Time) time.Duration {
	if !b.broken.Load() {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.backoff == 0 {
		return 0
	}
	if wait := b.until.Sub(now); wait > 0 {
		return wait
	}
	b.until = now.Add(trial) // this one tries
	return 0
}

func (b *breaker) failure(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backoff = min(max(2*b.backoff, firstBackoff), maxBackoff)
	b.until = now.Add(b.backoff)
	b.broken.Store(true)
}

func (b *breaker) success() {
	if !b.broken.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backoff = 0
	b.broken.Store(false)
}
