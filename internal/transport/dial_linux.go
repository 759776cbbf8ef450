package transport

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// control has the kernel give up a connection whose peer acknowledges nothing, which is
// long before it does so by itself.
func control(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledged.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return failed
}
