package main

import (
	"context"
	"sync"
	"time"
)

// watch of bob on prod: the steps look at him now and then, this looks all the
// time.
type watch struct {
	asked, refused int
	took           time.Duration // read after stop

	cancel context.CancelFunc
	done   sync.WaitGroup
}

func watchBob(ctx context.Context, w *world) *watch {
	ctx, cancel := context.WithCancel(ctx)
	b := &watch{cancel: cancel}
	began := time.Now()
	b.done.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				b.took = time.Since(began)
				return
			case <-tick.C:
			}
			a := w.ask(ctx, bob, "pods", prods[i%len(prods)])
			if ctx.Err() != nil {
				continue // cut off, so not an answer
			}
			b.asked++
			if a.verdict.refused() {
				b.refused++
			}
		}
	})
	return b
}

// stop returns when the last answer is in. Stopping twice does nothing.
func (b *watch) stop() {
	b.cancel()
	b.done.Wait()
}
