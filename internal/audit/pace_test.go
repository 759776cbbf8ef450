package audit

import (
	"context"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// A burst is one: nothing is done before there is an audit, then at once, and
// then not again before its time.
func TestPace(t *testing.T) {
	c := clocktesting.NewFakeClock(t0)
	ctx, cancel := context.WithCancel(t.Context())
	first, done, ended := make(chan struct{}), make(chan time.Time), make(chan struct{})
	go func() {
		defer close(ended)
		pace(ctx, c, 10*time.Second, first, func() { done <- c.Now() })
	}()
	select {
	case <-done:
		t.Fatal("something was done before there was anything to do")
	default:
	}
	close(first)
	for i := range 3 {
		if got, want := <-done, t0.Add(time.Duration(i)*10*time.Second); !got.Equal(want) {
			t.Errorf("time %d was at %s, want %s", i, got, want)
		}
		for !c.HasWaiters() {
			time.Sleep(time.Millisecond)
		}
		c.Step(9 * time.Second)
		if !c.HasWaiters() {
			t.Error("the pause ended before its time")
		}
		c.Step(time.Second)
	}
	<-done
	cancel()
	<-ended
}

func TestPaceEndsWithoutAnAudit(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	pace(ctx, clocktesting.NewFakeClock(t0), time.Second, make(chan struct{}), func() { t.Error("there was nothing to do") })
}
