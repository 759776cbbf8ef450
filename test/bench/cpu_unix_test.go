//go:build unix

package main

import (
	"syscall"
	"time"
)

// processorTime that this process has used so far, which other processes do not add to.
func processorTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
