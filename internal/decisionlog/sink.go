package decisionlog

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
)

// reason for which an entry was dropped.
type reason uint8

const (
	queueFull   reason = iota // the sink is slower than decisions are made
	writeFailed               // the sink did not take it, and cannot be asked again
	rejected                  // the collector will never take it
	closed                    // the log was being closed
	reasons     = iota
)

var reasonNames = [reasons]string{queueFull: "queue-full", writeFailed: "write-failed", rejected: "rejected", closed: "closed"}

// destination of lines.
type destination interface {
	// name without anything that is secret.
	name() string
	// write whole lines. It may take long, but ends soon after the context; trouble is
	// told why it takes long. Where the error is errRejected there is no use in trying
	// again.
	write(ctx context.Context, lines []byte, trouble func(error)) error
	close() error
	// batch is how many entries it takes at once, and how long it is worth waiting for
	// more than one.
	batch() (entries int, linger time.Duration)
}

// errRejected is wrapped where there is no use in trying again.
var errRejected = errors.New("the collector does not take it")

const (
	// maxBatch is the size of lines that is written at once, in bytes: a batch has at
	// most that, and one line more.
	maxBatch = 256 << 10
	// taken at once from the queue.
	atOnce = 64
	// retell is when it is tried again to tell what was dropped, if nothing else is to
	// be written.
	retell = 10 * time.Second
)

// sink is a destination with its queue and its goroutine.
type sink struct {
	to     destination
	queue  *queue
	logger logr.Logger
	ctx    context.Context // ends when what is left is not to be written any more
	cancel context.CancelFunc
	done   chan struct{}

	dropped [reasons]atomic.Uint64
	written atomic.Uint64

	// What follows is of the goroutine.
	taken   []*Entry
	lines   []byte
	pending uint64          // entries in lines
	told    [reasons]uint64 // what of dropped is in the log
	failing bool
}

func newSink(to destination, o Options) *sink {
	batch, _ := to.batch()
	s := &sink{to: to, queue: newQueue(o.Queue, o.QueueSize<<20, batch), logger: o.Logger, done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// run writes until the queue is closed and empty.
func (s *sink) run() {
	defer close(s.done)
	defer s.cancel()
	most, linger := s.to.batch()
	timer := time.NewTimer(retell)
	defer timer.Stop()
	for last := false; !last; {
		s.wait(timer, retell)
		if s.queue.waits() {
			s.wait(timer, linger)
		}
		last = s.drain(most)
	}
	if err := s.to.close(); err != nil {
		s.logger.Error(err, "Cannot close the decision log", "sink", s.to.name())
	}
}

// wait for the queue, but no longer than that.
func (s *sink) wait(timer *time.Timer, most time.Duration) {
	timer.Reset(most)
	select {
	case <-s.queue.wake:
	case <-timer.C:
	}
}

// drain the queue, and report whether nothing will follow.
func (s *sink) drain(most int) (last bool) {
	for {
		s.taken, last = s.queue.take(s.taken[:0], min(atOnce, most-int(s.pending)))
		for i, e := range s.taken {
			s.lines = appendEntry(s.lines, e)
			s.taken[i] = nil
			s.pending++
			if len(s.lines) >= maxBatch || int(s.pending) >= most {
				s.flush()
			}
		}
		if last || len(s.taken) == 0 {
			s.flush()
			return last
		}
	}
}

// flush writes the lines, and how many are missing.
func (s *sink) flush() {
	told, hole := s.hole()
	if s.pending == 0 && hole == nil {
		return
	}
	if hole != nil {
		s.lines = appendDropped(s.lines, hole)
	}
	switch err := s.write(); {
	case err == nil:
		s.written.Add(s.pending)
		s.told = told
	case s.ctx.Err() != nil:
		s.dropped[closed].Add(s.pending)
	case errors.Is(err, errRejected):
		s.dropped[rejected].Add(s.pending)
	default:
		s.dropped[writeFailed].Add(s.pending)
	}
	s.pending = 0
	if s.lines = s.lines[:0]; cap(s.lines) > 4*maxLine {
		s.lines = nil
	}
}

func (s *sink) write() error {
	err := s.ctx.Err()
	if err == nil {
		err = s.to.write(s.ctx, s.lines, s.trouble)
	}
	s.trouble(err)
	return err
}

// trouble is told to operators when it begins and when it ends.
func (s *sink) trouble(err error) {
	switch failing := err != nil; {
	case failing == s.failing:
		return
	case failing:
		s.logger.Error(err, "Cannot write the decision log", "sink", s.to.name())
	default:
		s.logger.Info("The decision log is written again", "sink", s.to.name())
	}
	s.failing = err != nil
}

// hole is what was dropped and is not told yet; nil if nothing was.
func (s *sink) hole() (told [reasons]uint64, d *Dropped) {
	for r := range told {
		told[r] = s.dropped[r].Load()
		if n := told[r] - s.told[r]; n > 0 {
			if d == nil {
				d = &Dropped{Version: Version, Time: time.Now().UTC(), Event: EventDropped, Reasons: map[string]uint64{}}
			}
			d.Count += n
			d.Reasons[reasonNames[r]] = n
		}
	}
	return told, d
}
