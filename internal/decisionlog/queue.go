package decisionlog

import "sync"

// queue of one sink, bounded in entries and in bytes. What is taken out of it is not in
// the bounds any more, so that there is one batch more in memory.
type queue struct {
	maxBytes int
	// much is in the queue where there are so many entries, or so many bytes of them.
	much, muchBytes int

	mu     sync.Mutex
	ring   []item
	head   int
	count  int
	bytes  int
	closed bool
	// wake has one signal where something was put into what was empty, there is much in
	// it, or nothing more will come.
	wake chan struct{}
}

type item struct {
	entry *Entry
	size  int
}

// newQueue with room for so much, from which a batch of entries is taken at once.
func newQueue(entries, bytes, batch int) *queue {
	return &queue{
		maxBytes: bytes, much: min(batch, (3*entries+3)/4), muchBytes: min(maxBatch, bytes/4*3),
		ring: make([]item, entries), wake: make(chan struct{}, 1),
	}
}

// put an entry in, or say why not.
func (q *queue) put(e *Entry, size int) (reason, bool) {
	q.mu.Lock()
	switch {
	case q.closed:
		q.mu.Unlock()
		return closed, false
	case q.count == len(q.ring), q.count > 0 && q.bytes+size > q.maxBytes:
		q.mu.Unlock()
		return queueFull, false
	}
	q.ring[(q.head+q.count)%len(q.ring)] = item{e, size}
	q.count++
	q.bytes += size
	wake := q.count == 1 || q.hasMuch()
	q.mu.Unlock()
	if wake {
		select {
		case q.wake <- struct{}{}:
		default: // there is a signal already
		}
	}
	return 0, true
}

func (q *queue) hasMuch() bool { return q.count >= q.much || q.bytes >= q.muchBytes }

// waits reports whether there are entries that may as well wait for others.
func (q *queue) waits() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count > 0 && !q.hasMuch() && !q.closed
}

// take at most so many entries, appended to a list, and report whether there will be
// no more.
func (q *queue) take(to []*Entry, most int) (_ []*Entry, last bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for ; q.count > 0 && most > 0; most-- {
		i := &q.ring[q.head]
		to = append(to, i.entry)
		q.bytes -= i.size
		*i = item{}
		q.head = (q.head + 1) % len(q.ring)
		q.count--
	}
	return to, q.closed && q.count == 0
}

// close lets nothing more in.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) length() (entries, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count, q.bytes
}
