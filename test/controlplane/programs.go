package controlplane

import (
	"fmt"
	"syscall"
	"time"
)

// StopProgram ends a program of StartProgram by SIGTERM, as a kubelet would, and returns once it is gone. It can then be
// started again.
func (f *Fleet) StopProgram(name string) error {
	p := f.agent(name)
	if p == nil {
		return fmt.Errorf("cannot stop %s: it does not run", name)
	}
	return p.stop()
}

// KillProgram ends a program of StartProgram by SIGKILL, which leaves it no time for anything, and returns once it is
// gone. It can then be started again.
func (f *Fleet) KillProgram(name string) error {
	p := f.agent(name)
	if p == nil {
		return fmt.Errorf("cannot kill %s: it does not run", name)
	}
	p.signal(syscall.SIGKILL)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopGrace):
		return fmt.Errorf("cannot kill %s: process %d survives SIGKILL", name, p.pid)
	}
}
