package controlplane

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
)

// Ports are taken from below the range in which Linux and macOS put outgoing connections, so that a member which comes
// back on its old port finds it free.
const (
	firstPort = 20000
	lastPort  = 32000
)

// freePort returns a loopback port that nobody listens on now. Another process can take it before it is used: see
// onFreePort.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		var l net.Listener
		if l, err = net.Listen("tcp", address(port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("cannot find a free port from %d to %d: %w", firstPort, lastPort, err)
}

// onFreePort calls start with a free port, and again with another while the answer is that somebody took it meanwhile.
func onFreePort(ctx context.Context, start func(port int) error) error {
	for {
		port, err := freePort()
		if err != nil {
			return err
		}
		err = start(port)
		if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "address already in use") {
			return err
		}
	}
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
