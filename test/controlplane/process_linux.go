package controlplane

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// childAttributes puts the child in a process group of its own, so that ^C in a terminal reaches only the parent, which
// stops the children in order. A child that is not detached dies with the parent, even if that is killed.
func childAttributes(detach bool) *syscall.SysProcAttr {
	if detach {
		return &syscall.SysProcAttr{Setsid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// startTime identifies the process that has a pid now: two processes with the same pid differ in it. It is empty when
// there is none, or only a zombie.
func startTime(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field, the command in parentheses, may itself hold spaces and parentheses. See proc_pid_stat(5).
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 || fields[0][0] == 'Z' {
		return ""
	}
	return string(fields[19]) // field 22: clock ticks since boot
}
