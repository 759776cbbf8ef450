package decisionlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Log is a Logger that writes to sinks. A nil Log, and one without sinks, writes
// nothing.
type Log struct {
	allowed bool
	sinks   []*sink
}

// New opens the sinks that the options name, and begins to write to them. It is to be
// closed.
func New(o Options) (*Log, error) {
	l := &Log{allowed: o.Allowed}
	if o.Queue <= 0 || o.QueueSize <= 0 {
		return nil, errors.New("cannot open the decision log: its queue has no room")
	}
	for i, name := range o.Sinks {
		if name == none {
			continue
		}
		if err := l.add(name, o, slices.Contains(o.Sinks[:i], name)); err != nil {
			l.discard()
			return nil, fmt.Errorf("cannot open the decision log %q: %w", called(name), err)
		}
	}
	for _, s := range l.sinks {
		go s.run()
	}
	return l, nil
}

func (l *Log) add(name string, o Options, twice bool) error {
	if twice {
		return errors.New("it is named twice")
	}
	to, err := o.open(name)
	if err != nil {
		return err
	}
	s := newSink(to, o)
	l.sinks = append(l.sinks, s)
	return s.register(o.Metrics)
}

// discard what was opened and never ran.
func (l *Log) discard() {
	for _, s := range l.sinks {
		s.cancel()
		_ = s.to.close()
	}
}

// Log implements Logger. It does not wait for anything.
func (l *Log) Log(e *Entry) {
	if l == nil || len(l.sinks) == 0 || !l.allowed && e.isQuiet() {
		return
	}
	size := e.size()
	for _, s := range l.sinks {
		if reason, ok := s.queue.put(e, size); !ok {
			s.dropped[reason].Add(1)
		}
	}
}

// grace is how long Close waits for sinks to give up.
const grace = 100 * time.Millisecond

// Close writes what is queued, and closes the sinks. What comes after is dropped, and
// so is what could not be written when the context ended.
func (l *Log) Close(ctx context.Context) error {
	if l == nil {
		return nil
	}
	for _, s := range l.sinks {
		s.queue.close()
	}
	var errs []error
	for _, s := range l.sinks {
		select {
		case <-s.done:
			continue
		case <-ctx.Done():
		}
		s.cancel()
		errs = append(errs, fmt.Errorf("cannot write the rest of the decision log to %q: %w", s.to.name(), ctx.Err()))
		// A collector gives up at once; a terminal that does not read cannot be interrupted.
		giveUp := time.NewTimer(grace)
		select {
		case <-s.done:
		case <-giveUp.C:
		}
		giveUp.Stop()
	}
	return errors.Join(errs...)
}
