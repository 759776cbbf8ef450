package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// tunnelled is a connection whose other end is in the test's hands. ended is closed with
// the tunnel, of which a silent one does not tell that a connection is closed.
func tunnelled(silent bool) (conn *tunnelledConn, other net.Conn, ended chan struct{}) {
	ours, theirs := net.Pipe()
	ended = make(chan struct{})
	end := sync.OnceFunc(func() { close(ended) })
	if silent {
		ours = &silentConn{ours, ended}
	}
	return newTunnelledConn(ours, "eu-1:443", end), theirs, ended
}

// TestTunnelReadsAhead: what comes is read while nobody wants it, in order and whole, and
// a reader that takes a little at a time keeps its connection.
func TestTunnelReadsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, other, ended := tunnelled(false)
		defer other.Close()
		sent := bytes.Repeat([]byte("0123456789abcdef"), 2*maxAhead/16)
		go func() {
			_, _ = other.Write(sent)
			other.Close()
		}()
		var got bytes.Buffer
		piece := make([]byte, maxAhead/8)
		for {
			time.Sleep(patience / 2) // of the bubble's clock
			n, err := conn.Read(piece)
			got.Write(piece[:n])
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("after %d bytes: %v", got.Len(), err)
			}
		}
		if !bytes.Equal(got.Bytes(), sent) {
			t.Errorf("%d bytes come of %d, or others", got.Len(), len(sent))
		}
		conn.Close()
		<-ended
	})
}

// TestTunnelNotRead: a connection that nobody reads from holds up the others for no longer
// than they may wait, and then ends; what had come is read first.
func TestTunnelNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, other, ended := tunnelled(false)
		began := time.Now()
		written, err := other.Write(make([]byte, 2*maxAhead))
		if err == nil || written < maxAhead {
			t.Errorf("%d bytes are taken, %v: want about %d, and an end", written, err, maxAhead)
		}
		if took := time.Since(began); took > patience {
			t.Errorf("others are held up for %s", took)
		}
		<-ended
		n, err := io.Copy(io.Discard, conn)
		if !errors.Is(err, errNotRead) || n < maxAhead {
			t.Errorf("the reader finds %d bytes, %v", n, err)
		}
	})
}

// TestTunnelClose: it waits for nobody, and whoever reads knows at once.
func TestTunnelClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, other, ended := tunnelled(true)
		defer other.Close()
		read := make(chan error)
		go func() {
			_, err := conn.Read(make([]byte, 1))
			read <- err
		}()
		synctest.Wait()
		began := time.Now()
		for range 2 {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Errorf("the reader finds %v", err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("closing takes %s", took)
		}
		<-ended
		if took := time.Since(began); took != farewell {
			t.Errorf("the tunnel ends after %s, want %s", took, farewell)
		}
		if conn.RemoteAddr().String() != "eu-1:443" || conn.LocalAddr() == nil {
			t.Error("the connection has no addresses")
		}
	})
}

// silentConn is one whose other end does not agree to be closed, until its tunnel ends.
type silentConn struct {
	net.Conn
	gone chan struct{}
}

func (c *silentConn) Close() error {
	<-c.gone
	return c.Conn.Close()
}
