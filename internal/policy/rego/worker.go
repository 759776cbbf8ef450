package rego

import (
	"runtime"
	"time"
)

// A worker is a goroutine that evaluates for others. A call of a built-in function,
// or a comparison, cannot be interrupted, and whoever asked must not wait for it.
// Workers are kept, since their stacks have grown to what an evaluation takes.
type worker struct {
	work  chan func()
	done  chan struct{}
	timer *time.Timer
}

// idle workers, of all policies: they hold nothing.
var idle = make(chan *worker, 64)

func hire() *worker {
	select {
	case w := <-idle:
		return w
	default:
	}
	w := &worker{work: make(chan func()), done: make(chan struct{}), timer: time.NewTimer(time.Hour)}
	go func() {
		for f := range w.work {
			f()
			w.done <- struct{}{}
		}
	}()
	return w
}

// do f, which does not panic, and which stop asks to end at the deadline. Where it
// has not ended some time after, do returns a channel that is closed when it has,
// and else nil.
func do(f func(), deadline time.Duration, stop func()) (ended <-chan struct{}) {
	w := hire()
	w.timer.Reset(deadline)
	w.work <- f
	select {
	case <-w.done:
		w.leave()
		return nil
	case <-w.timer.C:
	}
	stop()
	w.timer.Reset(grace)
	select {
	case <-w.done:
		w.leave()
		return nil
	case <-w.timer.C:
	}
	late := make(chan struct{})
	go func() {
		<-w.done
		close(late)
		w.leave()
	}()
	return late
}

// leave work to others, or for good if there are enough.
func (w *worker) leave() {
	w.timer.Stop()
	select {
	case idle <- w:
	default:
		close(w.work)
	}
}

// turns are how many evaluations are under way at once: no more than there are
// processors, so that none is late because there are many. One that is left behind
// gives its turn back: its policy is not asked meanwhile, and others are.
type turns chan struct{}

// turns of all policies. Whoever makes a request does not wait for a grant.
var grants, requests = newTurns(), newTurns()

func newTurns() turns { return make(turns, runtime.GOMAXPROCS(0)) }

// take a turn, and report whether there was one in time.
func (t turns) take(within time.Duration) bool {
	select {
	case t <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case t <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

func (t turns) leave() { <-t }
