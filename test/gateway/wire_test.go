package gateway_test

import (
	"context"
	"net"
	"sync"
)

// wire leads to a member. While it is cut, it swallows: connections are neither refused
// nor closed, and nothing arrives, as in a network that is partitioned.
type wire struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	whole chan struct{} // closed while the wire is
}

// newWire leads to an address until the context ends.
func newWire(ctx context.Context, to string) (*wire, error) {
	var loopback net.ListenConfig
	l, err := loopback.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &wire{listener: l, to: to, whole: make(chan struct{})}
	close(w.whole)
	context.AfterFunc(ctx, func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go w.join(near)
		}
	}()
	return w, nil
}

func (w *wire) address() string { return w.listener.Addr().String() }

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.whole = make(chan struct{})
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.whole)
}

// pass waits until the wire is whole.
func (w *wire) pass() {
	w.mu.Lock()
	whole := w.whole
	w.mu.Unlock()
	<-whole
}

func (w *wire) join(near net.Conn) {
	defer near.Close()
	w.pass()
	far, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer far.Close()
	ended := make(chan struct{}, 2)
	pump := func(to, from net.Conn) {
		defer func() { ended <- struct{}{} }()
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			w.pass()
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	go pump(near, far)
	go pump(far, near)
	<-ended
}
