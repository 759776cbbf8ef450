package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// stopGrace is how long a process may take to obey SIGTERM before it is killed.
const stopGrace = 10 * time.Second

// startTimeout is how long a program may take to become ready: many times what it takes on a busy machine, so that what
// will never be ready fails with its log and not with the test's own timeout.
const startTimeout = 2 * time.Minute

// process is a child with its log in a file.
type process struct {
	name string // unique within the fleet, and the name of the log file
	pid  int
	log  string        // path of the log file
	done chan struct{} // closed once the child was reaped
	end  string        // how it ended, such as "exit status 1"; read only after done
}

// host is where processes run: a state directory, and whether they outlive this process.
type host struct {
	dir    string
	detach bool
}

// program is one to run on a host.
type program struct {
	name   string // see process.name
	binary string
	args   []string
	env    []string                    // besides this process's own, which it overrides
	ready  func(context.Context) error // nil once the program serves
}

// start runs the program and returns once it is ready. Its output is appended to logs/<name>.log and its pid to the list
// of pids. On error it is not left running.
func (h host) start(ctx context.Context, prog program) (*process, error) {
	p, err := h.fork(prog)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := p.awaitReady(ctx, prog.ready); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// fork starts the program.
//
// The kernel sends the parent-death signal when the thread that forked dies, not the process, and the Go runtime ends
// threads at will. So each child is started and awaited by a goroutine that keeps one thread to itself for as long.
func (h host) fork(prog program) (*process, error) {
	p := &process{name: prog.name, log: filepath.Join(h.dir, "logs", prog.name+".log"), done: make(chan struct{})}
	temp := filepath.Join(h.dir, "tmp") // some agents litter
	if err := errors.Join(os.MkdirAll(filepath.Dir(p.log), 0o755), os.MkdirAll(temp, 0o755)); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}

	cmd := exec.Command(prog.binary, prog.args...)
	cmd.Dir = h.dir
	cmd.Env = append(append(os.Environ(), "TMPDIR="+temp), prog.env...)
	cmd.Stdout, cmd.Stderr = log, log // files, not pipes: a detached child must not depend on this process to read
	cmd.SysProcAttr = childAttributes(h.detach)

	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, after the child
		defer log.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // says no more than the state
			p.end = cmd.ProcessState.String()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	p.pid = cmd.Process.Pid
	if err := recordPID(h.dir, p); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// stop ends the process, by SIGTERM and if need be by SIGKILL, and returns once it was reaped. Stopping a stopped
// process does nothing.
func (p *process) stop() error {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopGrace):
	}
	p.signal(syscall.SIGKILL)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopGrace):
		return fmt.Errorf("cannot stop %s: process %d survives SIGKILL", p.name, p.pid)
	}
}

func (p *process) signal(s syscall.Signal) {
	if p.running() { // once reaped, the pid may be another's
		_ = syscall.Kill(p.pid, s) // fails only if it ends this moment
	}
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// awaitReady polls ready until it returns nil, the process ends, or ctx is done.
func (p *process) awaitReady(ctx context.Context, ready func(context.Context) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("exited early (%s): %s", p.end, tail(p.log, 15))
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w: %w: %s", ctx.Err(), err, tail(p.log, 15))
		case <-tick.C:
		}
	}
}

// tail returns the last n lines of a file, read from no more than its last 16 KiB.
func tail(path string, n int) []byte {
	f, err := os.Open(path)
	if err != nil {
		return []byte(err.Error())
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, size-16<<10), io.SeekStart)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return []byte(err.Error())
	}
	return lastLines(text, n)
}
