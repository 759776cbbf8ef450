package transport

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// farewell is how long the other end may take to hear that a connection is closed.
	farewell = time.Second
	// maxAhead is how much is read before anybody wants it, in bytes: as much as an HTTP/2
	// stream may be ahead.
	maxAhead = 4 << 20
	// patience is how long a reader may then read nothing. It is less than dialling may
	// take, so that a reader that pauses has nobody else refused.
	patience = 2 * time.Second
)

// errNotRead is what a reader finds that has paused for too long.
var errNotRead = errors.New("a tunnel that nobody read from was closed, since it held up the others")

// tunnelledConn is a connection with its tunnel. One goroutine reads at a time, and so
// does one write, as with TLS above it.
type tunnelledConn struct {
	net.Conn // its deadlines are errors: the client of konnectivity has none
	address  tunnelAddr
	end      context.CancelFunc

	mu    sync.Mutex
	ahead bytes.Buffer
	err   error // after what is ahead
	// arrived and taken are signals, of which one may wait.
	arrived, taken chan struct{}
	closing        sync.Once
	closed         chan struct{}
}

func newTunnelledConn(conn net.Conn, address string, end context.CancelFunc) *tunnelledConn {
	c := &tunnelledConn{
		Conn: conn, address: tunnelAddr(address), end: end,
		arrived: make(chan struct{}, 1), taken: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	go c.readAhead()
	return c
}

// readAhead until there is an error, or nobody reads.
func (c *tunnelledConn) readAhead() {
	chunk := make([]byte, 32<<10)
	for {
		n, err := c.Conn.Read(chunk)
		full := c.keep(chunk[:n], err)
		for full && err == nil {
			if err = c.awaitReader(); err != nil {
				full = c.keep(nil, err)
				_ = c.Close()
			} else {
				full = c.full()
			}
		}
		if err != nil {
			return
		}
	}
}

// keep what was read, and report whether it is as much as may be kept.
func (c *tunnelledConn) keep(read []byte, err error) (full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead.Write(read)
	c.err = err
	signal(c.arrived)
	return c.ahead.Len() >= maxAhead
}

func (c *tunnelledConn) full() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ahead.Len() >= maxAhead
}

// awaitReader until something is read.
func (c *tunnelledConn) awaitReader() error {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-c.taken:
		return nil
	case <-late.C:
		return errNotRead
	case <-c.closed:
		return net.ErrClosed
	}
}

// Read what there is, or wait for it.
func (c *tunnelledConn) Read(p []byte) (int, error) {
	for {
		if n, err := c.take(p); n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		select {
		case <-c.arrived:
		case <-c.closed:
			return c.take(p)
		}
	}
}

func (c *tunnelledConn) take(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ahead.Len() == 0 {
		if c.err == nil && c.isClosed() {
			return 0, net.ErrClosed
		}
		return 0, c.err
	}
	n, _ := c.ahead.Read(p)
	if c.ahead.Len() == 0 && c.ahead.Cap() > maxAhead/16 {
		c.ahead = bytes.Buffer{} // a burst is over, and its memory is not kept
	}
	signal(c.taken)
	return n, nil
}

func (c *tunnelledConn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// Close ends the tunnel too. It does not wait: the client waits for the other end to
// agree, ten seconds long where there is none any more, and pools close connections one
// after another.
func (c *tunnelledConn) Close() error {
	c.closing.Do(func() {
		close(c.closed)
		late := time.AfterFunc(farewell, c.end)
		go func() {
			defer c.end()
			defer late.Stop()
			_ = c.Conn.Close() // says only that nobody answered
		}()
	})
	return nil
}

// LocalAddr is where the tunnel ends: the client has none, and whoever traces requests
// expects one.
func (c *tunnelledConn) LocalAddr() net.Addr { return c.address }

// RemoteAddr is what was dialled.
func (c *tunnelledConn) RemoteAddr() net.Addr { return c.address }

// tunnelAddr is HOST:PORT, as the agent dials it.
type tunnelAddr string

// Network is not one that this side could dial by.
func (tunnelAddr) Network() string { return "tunnel" }

// String is HOST:PORT.
func (a tunnelAddr) String() string { return string(a) }

// signal without waiting.
func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}
