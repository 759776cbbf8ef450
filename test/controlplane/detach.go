package controlplane

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// pidFile is the name, in the state directory, of the list of all processes that were started, one a line in the order
// of their start: pid, start time, name. It is only ever appended to; a line whose process is gone means nothing.
const pidFile = "pids"

var pidFileMu sync.Mutex // several processes start at once

func recordPID(dir string, p *process) error {
	pidFileMu.Lock()
	defer pidFileMu.Unlock()
	f, err := os.OpenFile(filepath.Join(dir, pidFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d %s %s\n", p.pid, startTime(p.pid), p.name)
	return errors.Join(err, f.Close())
}

// StopDetached stops every process that a fleet with Options.Detach left running in its state directory, newest first,
// as Fleet.Stop would. A recorded pid that has passed to another process is left alone. Stopping twice, or where nothing
// was ever started, does nothing.
func StopDetached(dir string) error {
	procs, err := readPIDs(dir)
	if err != nil {
		return fmt.Errorf("cannot stop the control planes in %q: %w", dir, err)
	}
	var errs []error
	for _, p := range slices.Backward(procs) {
		errs = append(errs, p.stop())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, pidFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Running tells how many of the processes recorded in a state directory are alive.
func Running(dir string) (int, error) {
	procs, err := readPIDs(dir)
	if err != nil {
		return 0, fmt.Errorf("cannot read the processes in %q: %w", dir, err)
	}
	n := 0
	for _, p := range procs {
		if p.alive() {
			n++
		}
	}
	return n, nil
}

// orphan is a process known only from the pid file: it may not be a child of this one.
type orphan struct {
	pid   int
	start string
	name  string
}

func readPIDs(dir string) ([]orphan, error) {
	f, err := os.Open(filepath.Join(dir, pidFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var procs []orphan
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var p orphan
		// A process that ended before its start time was read has none, and its line two fields.
		if _, err := fmt.Sscan(lines.Text(), &p.pid, &p.start, &p.name); err == nil {
			procs = append(procs, p)
		}
	}
	return procs, lines.Err()
}

func (p orphan) alive() bool { return startTime(p.pid) == p.start }

func (p orphan) stop() error {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if !p.alive() {
			return nil
		}
		if err := syscall.Kill(p.pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("cannot stop %s: process %d: %w", p.name, p.pid, err)
		}
		for deadline := time.Now().Add(stopGrace); p.alive() && time.Now().Before(deadline); {
			time.Sleep(20 * time.Millisecond) // no one but its parent is told when a process ends
		}
	}
	if p.alive() {
		return fmt.Errorf("cannot stop %s: process %d survives SIGKILL", p.name, p.pid)
	}
	return nil
}
