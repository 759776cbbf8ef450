//go:build unix && !linux

package controlplane

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// childAttributes puts the child in a process group of its own, so that ^C in a terminal reaches only the parent, which
// stops the children in order. Only Linux can also tie the child's life to its parent's.
func childAttributes(detach bool) *syscall.SysProcAttr {
	if detach {
		return &syscall.SysProcAttr{Setsid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true}
}

// startTime identifies the process that has a pid now: two processes with the same pid differ in it. It is empty when
// there is none.
func startTime(pid int) string {
	out, err := exec.Command("ps", "-o", "lstart=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(out)), "-")
}
