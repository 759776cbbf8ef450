//go:build !linux

package transport

import "syscall"

// control: only Linux has a bound for what is not acknowledged.
func control(string, string, syscall.RawConn) error { return nil }
